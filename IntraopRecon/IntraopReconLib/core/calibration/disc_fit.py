"""Least-squares fit of soft-edged discs on a curved background: where a bead's center is, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_RADII = 1.9  # of the disc: how far around it the background is fitted
WINDOW_MARGIN_PX = 3.0
LEAST_START_EXPLAINED = 0.15  # of the variance, by the first guess
ITERATIONS = 20
CONVERGED_PX = 5e-4
RADIUS_CHANGE = (0.6, 1.7)  # of the first guess
LEAST_EDGE_PX, MOST_EDGE_SHARE = 0.3, 0.33  # of the radius; a wider edge looks the same as a smaller disc
LEAST_RADIUS_PX = 0.8
DOME_SHARE = (-0.3, 1.0)  # of the disc's contrast
LEAST_DOMED_RADIUS_PX = 3.0  # a smaller dome looks the same as a wider edge
BACKGROUND_TERMS = 6
DISC_TERMS = 6  # contrast, dome, column, row, radius, edge
SHAPE_TERMS = slice(2, 6)
OUTLIER_SIGMAS = 2.5
HALF_MAXIMUM_SAMPLES = 100
LEAST_DAMPING, MOST_DAMPING = 1e-6, 1e6


@dataclass(frozen=True, eq=False)
class DiscFit:
    """Discs fitted together.

    Attributes:
        center_px: (column, row), [disc, 2].
        radius_px: Where the contrast has fallen to half of the center's, [disc].
        edge_px: Width of the logistic edge, [disc].
        contrast: Height above the background in the units of the image, averaged over that radius, [disc].
        explained: Share of the variance around the background that the discs account for, at most 1.
        noise: Root mean square of what neither discs nor background account for.
    """

    center_px: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    edge_px: NDArray[np.float64]
    contrast: NDArray[np.float64]
    explained: float
    noise: float


def fit_discs(image: np.ndarray, mask: np.ndarray, center_px: np.ndarray, radius_px: np.ndarray) -> DiscFit | None:
    """Fit discs and a quadratic background to the pixels around them.

    A disc is contrast · (1 + dome · (1 - ρ²/R²)) · logistic((R - ρ) / edge): the dome is the thicker middle of a ball. Beads that overlap
    add up, as line integrals do. Pixels that fit badly (the edge of a bone) count less (Huber).

    Args:
        image: Attenuation, float [row, column]; beads are high.
        mask: Pixels that count, bool [row, column].
        center_px: First guess (column, row), [disc, 2].
        radius_px: First guess, [disc].

    Returns:
        The fit; None where too few pixels remain or the fit leaves the range of its first guess.
    """
    center_px, radius_px = np.atleast_2d(np.asarray(center_px, float)), np.atleast_1d(np.asarray(radius_px, float))
    window = _window(image, mask, center_px, radius_px)
    discs = len(radius_px)
    if window is None or window[0].size < 2 * (BACKGROUND_TERMS + DISC_TERMS * discs):
        return None
    columns, rows, values = window
    background = _background(columns, rows)
    shape = np.column_stack([center_px, radius_px, np.maximum(0.15 * radius_px, 0.5)])
    linear = _linear_terms(background, columns, rows, values, shape)
    start = np.concatenate([linear[:BACKGROUND_TERMS], _packed(linear, shape)])
    plain = values - background @ np.linalg.lstsq(background, values, rcond=None)[0]
    if np.sum((values - _model(background, columns, rows, start)[0]) ** 2) > (1 - LEAST_START_EXPLAINED) * np.sum(plain**2):
        return None
    terms, weight = _descend(background, columns, rows, values, start)
    fitted = terms[BACKGROUND_TERMS:].reshape(discs, DISC_TERMS)
    moved = np.hypot(*(fitted[:, 2:4] - center_px).T)
    change = fitted[:, 4] / radius_px
    if not np.isfinite(fitted).all() or (moved > radius_px).any() or (change < RADIUS_CHANGE[0]).any() or (change > RADIUS_CHANGE[1]).any():
        return None
    residual = values - _model(background, columns, rows, terms)[0]
    half, contrast = np.transpose([_half_maximum(one) for one in fitted])
    return DiscFit(
        center_px=fitted[:, 2:4].copy(),
        radius_px=half,
        edge_px=fitted[:, 5].copy(),
        contrast=contrast,
        explained=float(1 - np.sum(residual**2) / np.sum(plain**2)),
        noise=float(np.sqrt(np.sum(weight * residual**2) / np.sum(weight))),
    )


def _window(image: np.ndarray, mask: np.ndarray, center_px: np.ndarray, radius_px: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """Return columns, rows and values of the usable pixels around any of the discs."""
    reach = WINDOW_RADII * radius_px + WINDOW_MARGIN_PX
    low = np.floor((center_px - reach[:, None]).min(axis=0)).astype(int).clip(0)
    high = np.ceil((center_px + reach[:, None]).max(axis=0)).astype(int) + 1
    part = np.s_[low[1] : high[1], low[0] : high[0]]
    rows, columns = np.nonzero(mask[part])
    if not rows.size:
        return None
    values = image[part][rows, columns].astype(float)
    columns, rows = columns + float(low[0]), rows + float(low[1])
    near = (np.hypot(columns[:, None] - center_px[:, 0], rows[:, None] - center_px[:, 1]) <= reach).any(axis=1)
    return columns[near], rows[near], values[near]


def _background(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the terms of a quadratic surface, [pixel, 6], in coordinates of order one."""
    extent = max(np.ptp(columns), np.ptp(rows), 1.0) / 2
    x, y = (columns - columns.mean()) / extent, (rows - rows.mean()) / extent
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def _profile(columns: np.ndarray, rows: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return one disc's flat and domed profile and their derivatives by column, row, radius and edge, [pixel, 4] each."""
    x, y, radius, edge = shape
    dx, dy = columns - x, rows - y
    rho = np.hypot(dx, dy) + 1e-9
    t = np.clip((radius - rho) / edge, -40, 40)
    flat = 1 / (1 + np.exp(-t))
    slope = flat * (1 - flat) / edge
    flat_by = np.column_stack([slope * dx / rho, slope * dy / rho, slope, -slope * t])
    inside = rho < radius
    dome = np.where(inside, 1 - (rho / radius) ** 2, 0.0)
    dome_by = np.where(inside, 2 / radius**2, 0.0)[:, None] * np.column_stack([dx, dy, rho**2 / radius, np.zeros_like(dx)])
    return flat, flat * dome, flat_by, flat_by * dome[:, None] + flat[:, None] * dome_by


def _linear_terms(background: np.ndarray, columns: np.ndarray, rows: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return background and contrasts that fit best while the discs stay where they are."""
    flats = [_profile(columns, rows, one)[0] for one in shape]
    return np.linalg.lstsq(np.column_stack([background, *flats]), values, rcond=None)[0]


def _packed(linear: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the terms of the discs one after the other: contrast, no dome yet, then the shape."""
    contrast = linear[BACKGROUND_TERMS:, None]
    return np.hstack([contrast, np.zeros_like(contrast), shape]).ravel()


def _model(background: np.ndarray, columns: np.ndarray, rows: np.ndarray, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the modeled values [pixel] and their derivatives by every term [pixel, term]."""
    values = background @ terms[:BACKGROUND_TERMS]
    parts = [background]
    for contrast, dome, *shape in terms[BACKGROUND_TERMS:].reshape(-1, DISC_TERMS):
        flat, domed, flat_by, domed_by = _profile(columns, rows, np.array(shape))
        values = values + contrast * flat + dome * domed
        parts += [np.column_stack([flat, domed]), contrast * flat_by + dome * domed_by]
    return values, np.hstack(parts)


def _half_maximum(terms: np.ndarray) -> tuple[float, float]:
    """Return where a disc has half the height of its center, which dome and edge shift, and the mean height inside."""
    contrast, dome, _, _, radius, edge = terms
    rho = np.linspace(0, radius + 4 * edge, HALF_MAXIMUM_SAMPLES)
    flat, domed, _, _ = _profile(rho, np.zeros_like(rho), np.array([0.0, 0.0, radius, edge]))
    height = contrast * flat + dome * domed
    inside = height >= height[0] / 2 if height[0] > 0 else rho <= radius
    return float(rho[inside].max()), float(np.average(height[inside], weights=rho[inside] + 1e-9))


def _huber(residual: np.ndarray) -> np.ndarray:
    limit = OUTLIER_SIGMAS * 1.4826 * float(np.median(np.abs(residual))) + 1e-12
    return limit / np.maximum(np.abs(residual), limit)


def _descend(
    background: np.ndarray, columns: np.ndarray, rows: np.ndarray, values: np.ndarray, terms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimize by Levenberg's and Marquardt's method with Huber's weights; return the terms and the pixels' weights."""
    damping = 1e-3
    modeled, jacobian = _model(background, columns, rows, terms)
    weight = _huber(values - modeled)
    for _ in range(ITERATIONS):
        residual = values - modeled
        cost = float(weight @ residual**2)
        weighted = jacobian * weight[:, None]
        normal = weighted.T @ jacobian
        scale = np.diag(normal) + 1e-12 * np.trace(normal)
        step = np.linalg.solve(normal + damping * np.diag(scale) + 1e-12 * np.eye(len(scale)), weighted.T @ residual)
        tried = _bounded(terms + step)
        tried_values, tried_jacobian = _model(background, columns, rows, tried)
        if float(weight @ (values - tried_values) ** 2) < cost:
            moved = np.abs((tried - terms)[BACKGROUND_TERMS:].reshape(-1, DISC_TERMS)[:, SHAPE_TERMS]).max()
            terms, modeled, jacobian = tried, tried_values, tried_jacobian
            weight = _huber(values - modeled)
            damping = max(damping / 5, LEAST_DAMPING)
            if moved < CONVERGED_PX:
                break
        else:
            damping *= 8
            if damping > MOST_DAMPING:
                break
    return terms, weight


def _bounded(terms: np.ndarray) -> np.ndarray:
    """Keep radii and edges positive, edges narrower than discs, and a dome from taking the place of its disc."""
    discs = terms[BACKGROUND_TERMS:].reshape(-1, DISC_TERMS)  # a view
    low, high = np.where(discs[:, 4] < LEAST_DOMED_RADIUS_PX, 0.0, np.array(DOME_SHARE)[:, None])
    discs[:, 1] = np.clip(discs[:, 1], low * np.abs(discs[:, 0]), high * np.abs(discs[:, 0]))
    discs[:, 4] = np.maximum(discs[:, 4], LEAST_RADIUS_PX)
    discs[:, 5] = np.clip(discs[:, 5], LEAST_EDGE_PX, MOST_EDGE_SHARE * discs[:, 4] + LEAST_EDGE_PX)
    return terms
