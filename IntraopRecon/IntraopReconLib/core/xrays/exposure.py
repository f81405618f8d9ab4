"""From what rays meet to what a detector counts: beam hardening, scatter, glare, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from IntraopReconLib.core.simulation_config import ExposureRanges

from .spectrum import transmission, tube_spectrum

COARSE_PX = 8  # what is blurred over centimeters is computed on blocks of this edge


@dataclass(frozen=True)
class Exposure:
    """How one X-ray is taken.

    Attributes:
        kilovolts: Peak voltage of the tube.
        copper_mm: Filter beyond the tube's own aluminum.
        photons: Counted by a pixel behind the median of the anatomy: what automatic exposure holds.
        scatter: Scattered per primary signal and unit of attenuation, behind a wide object.
        scatter_mm: Standard deviation over which it spreads, at the detector.
        glare: Share of the signal that an intensifier spreads over its whole field.
        focal_blur_mm: Standard deviation of the focal spot's shadow, at the detector.
        detector_blur_mm: Standard deviation of the scintillator's light.
        electronic_photons: Standard deviation of the electronics, in photons.
    """

    kilovolts: float
    copper_mm: float
    photons: float
    scatter: float
    scatter_mm: float
    glare: float
    focal_blur_mm: float
    detector_blur_mm: float
    electronic_photons: float


GLARE_MM = 60.0


def draw_exposure(ranges: ExposureRanges, rng: np.random.Generator) -> Exposure:
    """Draw one exposure, each setting evenly in its range, photons evenly in their logarithm."""
    low, high = np.log(ranges.photons)
    return Exposure(
        kilovolts=rng.uniform(*ranges.kilovolts),
        copper_mm=rng.uniform(*ranges.copper_mm),
        photons=float(np.exp(rng.uniform(low, high))),
        scatter=rng.uniform(*ranges.scatter),
        scatter_mm=rng.uniform(*ranges.scatter_mm),
        glare=rng.uniform(*ranges.glare),
        focal_blur_mm=rng.uniform(*ranges.focal_blur_mm),
        detector_blur_mm=rng.uniform(*ranges.detector_blur_mm),
        electronic_photons=rng.uniform(*ranges.electronic_photons),
    )


def expose(integrals: np.ndarray, pixel_mm: float, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Take an X-ray.

    Primary signal by energy; scatter after the scatter potential -p ln p of Ohnesorge, Flohr and Klingenbeck-Regn (European Radiology 9,
    1999), spread widely; the focal spot blurs the primary only; photons are counted; the scintillator blurs signal and noise alike. Counts
    are drawn from the normal distribution, which Poisson's is for more than some ten photons: so a generator of the same seed gives the
    same noise to two X-rays that differ in one spot.

    Args:
        integrals: Line integrals of soft tissue, bone and metal at 60 keV, [material, row, column].
        pixel_mm: Pitch at the detector.
        exposure: How it is taken.
        rng: Source of the noise.

    Returns:
        Signal relative to that in air without scatter and glare, float32 [row, column]; noise may make it negative.
    """
    primary = transmission(integrals, tube_spectrum(exposure.kilovolts, exposure.copper_mm))
    scatter_potential = -primary * np.log(np.maximum(primary, 1e-12))
    signal = gaussian_filter(primary, exposure.focal_blur_mm / pixel_mm)
    signal += exposure.scatter * _wide_blur(scatter_potential, exposure.scatter_mm / pixel_mm)
    signal += exposure.glare * (_wide_blur(signal, GLARE_MM / pixel_mm) - signal)
    shadowed = primary[primary < 0.7]
    photons_in_air = exposure.photons / float(np.median(shadowed if shadowed.size else primary))
    expected = np.maximum(signal, 0) * np.float32(photons_in_air)
    counts = expected + np.sqrt(expected) * rng.standard_normal(expected.shape, np.float32)
    counts = gaussian_filter(counts, exposure.detector_blur_mm / pixel_mm)
    counts += exposure.electronic_photons * rng.standard_normal(counts.shape, np.float32)
    return counts / np.float32(photons_in_air)


def _wide_blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur over many pixels, the image's border mirrored, as a larger field would go on."""
    rows, columns = image.shape
    padded = np.pad(image, ((0, -rows % COARSE_PX), (0, -columns % COARSE_PX)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // COARSE_PX, COARSE_PX, padded.shape[1] // COARSE_PX, COARSE_PX).mean((1, 3))
    blurred = gaussian_filter(blocks, sigma_px / COARSE_PX)
    return zoom(blurred, COARSE_PX, order=1, grid_mode=True, mode="nearest")[:rows, :columns].astype(np.float32)
