"""Synthetic X-ray images of metal balls: balls that shadow, optics that blur, scatter that veils, photons that are counted."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

FINER = 3  # samples along a pixel's edge
PHOTONS = 3000.0


def bead_image(shape: tuple[int, int], beads: np.ndarray, bone: bool, seed: int = 0) -> np.ndarray:
    """Return attenuation [row, column] of balls (column, row, radius in pixels), each row of `beads` one, beside or over bone."""
    rows, columns = shape
    y, x = np.mgrid[: rows * FINER, : columns * FINER] / FINER + (1 / FINER - 1) / 2
    attenuation = np.zeros(x.shape)
    if bone:
        attenuation += 0.8 * (np.hypot((x - 0.5 * columns) / (0.3 * columns), (y - 0.55 * rows) / (0.2 * rows)) < 1)
        attenuation += 0.5 * (np.abs(y - 0.3 * rows - 0.2 * x) < 0.06 * rows) + 0.3 * x / columns
    for column, row, radius in beads:
        chord = 2 * np.sqrt(np.clip(radius**2 - (x - column) ** 2 - (y - row) ** 2, 0, None))
        attenuation += min(0.5, 1.5 / radius) * chord
    intensity = np.exp(-attenuation).reshape(rows, FINER, columns, FINER).mean(axis=(1, 3))
    intensity = gaussian_filter(intensity, 1.2) + 0.1 * gaussian_filter(intensity, columns / 10)
    counts = np.random.default_rng(seed).poisson(PHOTONS * intensity)
    return -np.log(np.maximum(counts, 1) / PHOTONS)
