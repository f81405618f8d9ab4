"""The picture of a calibration grid: its points, measured and counted along the lattice that they stand on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from SparseAnatomyLib.errors import InputError

from .masked import continued

LatticeKind = Literal["square", "triangular"]
AXIS_ANGLE_RAD: dict[LatticeKind, float] = {"square": np.pi / 2, "triangular": np.pi / 3}
SIGMAS_PX = (1.2, 1.7, 2.4, 3.4, 4.8, 6.8, 9.6, 13.6)
DARKEST_SHARE = 1e-3  # of the bright pixels: the floor under the logarithm
PEAK_PERCENTILE, PEAK_SHARE = 75, 0.25  # peaks below this share of the strong ones are noise
SIGMA_PITCHES = 0.2
BAND_RATIO = 1.6
LEAST_PEAKS = 30
MOST_SPREAD = 0.35  # of the distances to the nearest neighbor, relative: a lattice, not a crowd
CENTRAL_SHARE = 0.2
NEIGHBORS = 8
SAME_STEP_PITCHES = 0.12
STEP_TOLERANCE_PITCHES = 0.3
ANGLE_TOLERANCE_RAD = np.radians(8.0)
LENGTH_TOLERANCE = 0.12
REMEDY = "Take an X-ray of the distortion grid alone, fastened to the image intensifier and filling the field."


@dataclass(frozen=True, eq=False)
class GridPoints:
    """The points of a grid in an image.

    Attributes:
        point_px: (column, row), [point, 2].
        index: Whole steps along the two axes of the lattice, [point, 2].
        kind: Square lattice (axes at 90 degrees) or triangular one (60 degrees), with steps of one length.
        pitch_px: Median distance to the nearest neighbor.
    """

    point_px: NDArray[np.float64]
    index: NDArray[np.int64]
    kind: LatticeKind
    pitch_px: float

    @property
    def lattice(self) -> NDArray[np.complex128]:
        """Where the points stand on the lattice with a pitch of 1, column + i · row, [point]."""
        return self.index[:, 0] + self.index[:, 1] * np.exp(1j * AXIS_ANGLE_RAD[self.kind])


def find_grid(image: np.ndarray, mask: np.ndarray, name: str) -> GridPoints:
    """Find the holes, balls or crossings of a regular grid and count them.

    Args:
        image: Intensity, or attenuation, float [row, column]; points may be bright or dark.
        mask: Usable pixels, bool [row, column].
        name: What the message calls the image.

    Returns:
        Points and their places on the lattice.

    Raises:
        InputError: The image shows no square or triangular grid.
    """
    if np.count_nonzero(mask) < LEAST_PEAKS or np.ptp(image[mask]) == 0:
        raise InputError(f"{name} shows no grid: it is empty.", REMEDY)
    plain = continued(np.asarray(image, dtype=np.float32), mask)
    if plain.min() >= 0:
        plain = np.log(np.maximum(plain, np.float32(DARKEST_SHARE * np.percentile(plain[mask], 99))))
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]  # to the border of what is usable
    candidates = [found for sigma in SIGMAS_PX for found in _spreads(_band(plain, sigma), depth, sigma)]
    if not candidates:
        raise InputError(f"{name} shows no regular grid.", REMEDY)
    _, sign, pitch = min(candidates)
    sigma = SIGMA_PITCHES * pitch
    point = _peaks(sign * _band(plain, sigma), depth, sigma)
    first, second, kind = _axes(point, pitch, name)
    place, index = _count(point, first, second, pitch)
    return GridPoints(point[place], index, kind, pitch)


def _band(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image without what is much finer or much coarser than sigma (pixels)."""
    return ndimage.gaussian_filter(image, sigma, truncate=3.0) - ndimage.gaussian_filter(image, BAND_RATIO * sigma, truncate=3.0)


def _spreads(response: np.ndarray, depth: np.ndarray, sigma: float) -> list[tuple[float, int, float]]:
    """Return (spread of the distances to the nearest neighbor, sign, their median) for bright and dark points, if there are enough."""
    found = []
    for sign in (1, -1):
        point = _peaks(sign * response, depth, sigma)
        if len(point) >= LEAST_PEAKS:
            distance = cKDTree(point).query(point, k=2)[0][:, 1]
            low, pitch, high = np.percentile(distance, [10, 50, 90])
            if high - low < MOST_SPREAD * pitch:
                found.append(((high - low) / pitch, sign, float(pitch)))
    return found


def _peaks(response: np.ndarray, depth: np.ndarray, sigma: float) -> NDArray[np.float64]:
    """Return the maxima of a band-passed image to a fraction of a pixel, (column, row), [point, 2]."""
    row, column = np.nonzero((depth > 2 * sigma) & (response > 0) & (response == ndimage.maximum_filter(response, size=3)))
    if not row.size:
        return np.empty((0, 2))
    height = response[row, column]
    strong = height > PEAK_SHARE * np.percentile(height, PEAK_PERCENTILE)
    row, column = row[strong], column[strong]
    around = np.array([[response[row + down, column + right] for right in (-1, 0, 1)] for down in (-1, 0, 1)], dtype=float)
    return np.column_stack([column, row]) + _summit(around)


def _summit(around: np.ndarray) -> NDArray[np.float64]:
    """Return the summit of the paraboloid through 3×3 values [row, column, point] as (column, row) from the middle, [point, 2]."""
    by_column = (around[:, 2] - around[:, 0]).mean(axis=0) / 2
    by_row = (around[2] - around[0]).mean(axis=0) / 2
    column_column = (around[:, 0] - 2 * around[:, 1] + around[:, 2]).mean(axis=0)
    row_row = (around[0] - 2 * around[1] + around[2]).mean(axis=0)
    column_row = (around[2, 2] - around[2, 0] - around[0, 2] + around[0, 0]) / 4
    determinant = column_column * row_row - column_row**2
    determinant = np.where(np.abs(determinant) < 1e-12, np.inf, determinant)
    right = (column_row * by_row - row_row * by_column) / determinant
    down = (column_row * by_column - column_column * by_row) / determinant
    return np.clip(np.column_stack([right, down]), -1, 1)


def _axes(point: np.ndarray, pitch: float, name: str) -> tuple[np.ndarray, np.ndarray, LatticeKind]:
    """Return the two steps of the lattice near the middle of the image and the kind of lattice.

    Raises:
        InputError: The steps fit no square or triangular lattice.
    """
    distance = np.hypot(*(point - np.median(point, axis=0)).T)
    middle = point[distance <= np.quantile(distance, CENTRAL_SHARE)]
    neighbors = cKDTree(point).query(middle, k=NEIGHBORS + 1)[1][:, 1:]
    steps = (point[neighbors] - middle[:, None]).reshape(-1, 2)
    steps = steps[np.hypot(*steps.T) < 1.25 * pitch]
    steps = np.where((steps[:, :1] < 0) | ((steps[:, :1] == 0) & (steps[:, 1:] < 0)), -steps, steps)
    tree = cKDTree(steps)
    support = np.array([len(near) for near in tree.query_ball_point(steps, SAME_STEP_PITCHES * pitch)])
    first = steps[tree.query_ball_point(steps[support.argmax()], SAME_STEP_PITCHES * pitch)].mean(axis=0)
    sine = np.abs(steps @ np.array([first[1], -first[0]])) / (np.hypot(*steps.T) * np.hypot(*first))
    if not (sine > 0.7).any():
        raise InputError(f"{name} shows points in rows, but no grid.", REMEDY)
    best = np.where(sine > 0.7, support, 0).argmax()
    second = steps[tree.query_ball_point(steps[best], SAME_STEP_PITCHES * pitch)].mean(axis=0)
    if first[0] * second[1] - first[1] * second[0] < 0:
        second = -second
    angle = np.arccos(first @ second / (np.hypot(*first) * np.hypot(*second)))
    if abs(np.hypot(*second) / np.hypot(*first) - 1) < LENGTH_TOLERANCE:
        if abs(angle - np.pi / 2) < ANGLE_TOLERANCE_RAD:
            return first, second, "square"
        if abs(angle - np.pi / 3) < ANGLE_TOLERANCE_RAD:
            return first, second, "triangular"
        if abs(angle - 2 * np.pi / 3) < ANGLE_TOLERANCE_RAD:
            return first, first + second, "triangular"
    raise InputError(f"{name} shows points, but no square or triangular grid.", REMEDY)


def _count(point: np.ndarray, first: np.ndarray, second: np.ndarray, pitch: float) -> tuple[np.ndarray, np.ndarray]:
    """Walk over the lattice from its middle, step by step; return which points were reached and their indices.

    Each step is expected to resemble the one that led there, so that the lattice may bend as far as it likes.
    """
    tree = cKDTree(point)
    start = int(np.hypot(*(point - np.median(point, axis=0)).T).argmin())
    index_of: dict[int, tuple[int, int]] = {start: (0, 0)}
    taken = {(0, 0)}
    waiting = deque([(start, first, second)])
    while waiting:
        here, right, down = waiting.popleft()
        for axis, direction in ((0, 1), (0, -1), (1, 1), (1, -1)):
            expected = right if axis == 0 else down
            index = (index_of[here][0] + direction * (axis == 0), index_of[here][1] + direction * (axis == 1))
            distance, there = tree.query(point[here] + direction * expected)
            if index in taken or there in index_of or distance > STEP_TOLERANCE_PITCHES * pitch:
                continue
            step = direction * (point[there] - point[here])
            index_of[there] = index
            taken.add(index)
            waiting.append((there, (right + step) / 2 if axis == 0 else right, (down + step) / 2 if axis == 1 else down))
    place = np.array(list(index_of), dtype=int)
    return place, np.array(list(index_of.values()), dtype=np.int64)
