"""Distortion of image intensifiers: fitted from the picture of a grid, undone in points and images, kept in a file.

The curved input screen stretches the rim (pincushion), the earth's field turns the middle against it (S-distortion): both differ between
C-arms, the latter also with the pose. Flat detectors have none: `Distortion.none`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from IntraopReconLib.core.calibration_config import DistortionSettings
from SparseAnatomyLib.errors import InputError

from .distortion_grid import AXIS_ANGLE_RAD, REMEDY, GridPoints, find_grid
from .masked import continued

REJECTIONS = 4
INVERSE_STEPS = 12
INVERSE_PRECISION_PX = 1e-6
MESH_PX = 8  # an image is corrected with positions computed so far apart, and interpolated in between
SEED = 0
MATCH_TOLERANCE_PITCHES = 0.35


@dataclass(frozen=True, eq=False)
class Distortion:
    """Where the points of an image belong.

    A polynomial in the normalized position (column, row) adds to each measured point what it lacks to the corrected one. Beyond the grid
    that it was fitted to, it goes on along its tangent.

    Attributes:
        size_px: (columns, rows) of the images that it is for.
        degree: Highest total degree of the polynomial; 0 if nothing is distorted.
        coefficients_px: Shift along (columns, rows) for each term, [term, 2], in the order of `_powers`.
        hull_px: Corners of the convex area that the grid covered, (column, row), in the order of scipy's ConvexHull, [corner, 2]; empty if
            nothing is distorted.
        lattice_px: The corrected grid: step along its first axis and place of one of its points, both column + i · row.
        kind: Square or triangular grid; "none" if nothing is distorted.
        points: Points of the grid that the polynomial was fitted to.
        rms_px: What the fit leaves of their distances from the lattice, root mean square.
        held_out_rms_px: The same for points that were held out of the fit.
    """

    size_px: tuple[int, int]
    degree: int
    coefficients_px: NDArray[np.float64]
    hull_px: NDArray[np.float64]
    lattice_px: tuple[complex, complex] = (0j, 0j)
    kind: str = "none"
    points: int = 0
    rms_px: float = 0.0
    held_out_rms_px: float = 0.0

    @classmethod
    def none(cls, size_px: tuple[int, int]) -> Distortion:
        """Return the correction of a flat detector, which changes nothing."""
        return cls(size_px, 0, np.zeros((1, 2)), np.empty((0, 2)))

    @property
    def is_none(self) -> bool:
        """Whether nothing is changed."""
        return not self.coefficients_px.any()

    def corrected(self, point_px: np.ndarray) -> NDArray[np.float64]:
        """Return where measured points belong.

        Args:
            point_px: Measured (column, row), [..., 2].

        Returns:
            Corrected (column, row), [..., 2].
        """
        point = np.asarray(point_px, dtype=float)
        return point.copy() if self.is_none else self._map(point.reshape(-1, 2))[0].reshape(point.shape)

    def distorted(self, point_px: np.ndarray) -> NDArray[np.float64]:
        """Return where corrected points were measured: the inverse of `corrected`, by Newton's method.

        Args:
            point_px: Corrected (column, row), [..., 2].

        Returns:
            Measured (column, row), [..., 2].
        """
        wanted = np.asarray(point_px, dtype=float)
        if self.is_none:
            return wanted.copy()
        target = wanted.reshape(-1, 2)
        point = target.copy()
        for _ in range(INVERSE_STEPS):
            mapped, jacobian = self._map(point)
            step = np.linalg.solve(jacobian, (target - mapped)[:, :, None])[:, :, 0]
            point += step
            if np.abs(step).max(initial=0.0) < INVERSE_PRECISION_PX:
                break
        return point.reshape(wanted.shape)

    def corrected_image(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Undo the distortion of an image (cubic interpolation).

        Args:
            image: Intensity relative to air, or attenuation, float [row, column]. Raw intensities would need a factor for the stretched
                area, which the open field shares and attenuation therefore loses.
            mask: Usable pixels, bool [row, column].

        Returns:
            Image and mask on the same pixels; the mask leaves out what the image or the grid did not cover, where the image is 0.

        Raises:
            InputError: The image has another size than the grid's.
        """
        columns, rows = self.size_px
        if image.shape != (rows, columns) or mask.shape != image.shape:
            raise InputError(
                f"The distortion file is for images of {columns} × {rows} pixels, this one has {image.shape[1]} × {image.shape[0]}.",
                "Use the distortion grid's image from the same C-arm at the same magnification, neither cropped nor resampled.",
            )
        if self.is_none or not mask.any():
            return image.copy(), mask.copy()
        source = self._source_of_pixels()
        covered = inside_hull(self.hull_px, np.moveaxis(source, 0, -1).reshape(-1, 2)).reshape(rows, columns)
        usable = ndimage.map_coordinates(mask.astype(np.float32), source[::-1], order=1, mode="constant") > 0.999
        usable &= covered
        moved = ndimage.map_coordinates(continued(image, mask), source[::-1], order=3, mode="nearest")
        return np.where(usable, moved, 0).astype(image.dtype), usable

    def _source_of_pixels(self) -> NDArray[np.float64]:
        """Return the measured (column, row) of every corrected pixel, [2, row, column]."""
        columns, rows = self.size_px
        mesh = np.mgrid[0 : rows + 2 * MESH_PX : MESH_PX, 0 : columns + 2 * MESH_PX : MESH_PX].astype(float)
        places = self.distorted(np.moveaxis(mesh[::-1], 0, -1))
        row, column = np.mgrid[:rows, :columns] / MESH_PX
        return np.stack([ndimage.map_coordinates(places[..., axis], [row, column], order=3, mode="nearest") for axis in (0, 1)])

    def _map(self, point: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return corrected points [point, 2] and the derivatives of their coordinates (first) by the measured ones, [point, 2, 2]."""
        inside = _nearest_in_hull(self.hull_px, point)
        powers = _powers(self.degree)
        normal, scale = _normalized(inside, self.size_px)
        shift = _terms(normal, powers) @ self.coefficients_px
        jacobian = np.tile(np.eye(2), (len(point), 1, 1))
        for axis in (0, 1):
            lower = powers.copy()
            lower[:, axis] = np.maximum(lower[:, axis] - 1, 0)
            jacobian[:, :, axis] += (_terms(normal, lower) * powers[:, axis]) @ self.coefficients_px / scale
        beyond = point - inside
        return inside + shift + np.einsum("nij,nj->ni", jacobian, beyond), jacobian


def fit_distortion(
    image: np.ndarray, mask: np.ndarray, name: str, settings: DistortionSettings | None = None, reference: Distortion | None = None
) -> Distortion:
    """Fit the correction that makes the picture of a regular grid regular.

    A grid tells the distortion up to its own scale, angle and place, which are taken from the middle of the picture, so that little moves
    there. Where the grid stays fastened to the intensifier while the C-arm turns, give the first pose's correction as `reference`: the same
    lattice is kept, and what the earth's field shifts or turns as a whole is undone as well.

    Args:
        image: Intensity or attenuation of the grid, float [row, column].
        mask: Usable pixels, bool [row, column].
        name: What messages call the image.
        settings: How it is fitted.
        reference: A correction whose lattice is kept.

    Returns:
        The correction with its residuals.

    Raises:
        InputError: No grid is seen, too few points of it, or another grid than the reference's.
    """
    settings = settings or DistortionSettings()
    grid = find_grid(image, mask, name)
    if len(grid.point_px) < settings.least_points:
        raise InputError(f"{name} shows only {len(grid.point_px)} points of a grid; {settings.least_points} are needed.", REMEDY)
    size = (image.shape[1], image.shape[0])
    ideal, lattice = _own_lattice(grid, size, settings) if reference is None else _on_lattice(grid, size, name, reference, settings)
    normal, _ = _normalized(grid.point_px, size)
    shift = ideal - grid.point_px
    kept = _without_outliers(normal, shift, settings)
    held_out = [_held_out_rms(normal[kept], shift[kept], degree, settings.folds) for degree in range(1, settings.most_degree + 1)]
    degree = _chosen_degree(held_out, settings.worth)
    coefficients, residual = _fit(normal[kept], shift[kept], degree)
    hull = grid.point_px[kept][ConvexHull(grid.point_px[kept]).vertices]
    rms = float(np.sqrt((residual**2).sum(axis=1).mean()))
    return Distortion(size, degree, coefficients, hull, lattice, grid.kind, int(kept.sum()), rms, float(held_out[degree - 1]))


def _own_lattice(grid: GridPoints, size: tuple[int, int], settings: DistortionSettings) -> tuple[np.ndarray, tuple[complex, complex]]:
    """Return where each point belongs [point, 2] on the lattice that fits the middle of the picture best, and that lattice."""
    measured = grid.point_px @ np.array([1, 1j])
    middle = _middle(measured, size, settings)
    terms = np.column_stack([grid.lattice, np.ones(len(measured))])
    step, origin = np.linalg.lstsq(terms[middle], measured[middle], rcond=None)[0]
    ideal = origin + step * grid.lattice
    return np.column_stack([ideal.real, ideal.imag]), (complex(step), complex(origin))


def _on_lattice(
    grid: GridPoints, size: tuple[int, int], name: str, reference: Distortion, settings: DistortionSettings
) -> tuple[np.ndarray, tuple[complex, complex]]:
    """Return where each point belongs [point, 2] on the reference's lattice, and that lattice.

    Raises:
        InputError: The grid or the size of the image is another one.
    """
    (step, origin), measured = reference.lattice_px, grid.point_px @ np.array([1, 1j])
    _, (own_step, _) = _own_lattice(grid, size, settings)
    if grid.kind != reference.kind or size != reference.size_px or abs(abs(own_step / step) - 1) > 0.05:
        raise InputError(f"{name} shows another grid than the first image, or shows it at another magnification.", REMEDY)
    corner = AXIS_ANGLE_RAD[grid.kind]
    turned = grid.lattice * np.exp(1j * corner * round(float(np.angle(own_step / step)) / corner))
    middle = _middle(measured, size, settings)
    gap = (measured[middle] - origin) / step - turned[middle]
    gap = complex(np.median(gap.real), np.median(gap.imag))
    along = round(gap.imag / np.sin(corner))
    whole = round(gap.real - along * np.cos(corner)) + along * np.exp(1j * corner)
    if abs(gap - whole) > MATCH_TOLERANCE_PITCHES:
        raise InputError(f"The grid in {name} has moved against the first image.", "Fasten the grid, and take all its images again.")
    ideal = origin + step * (turned + whole)
    return np.column_stack([ideal.real, ideal.imag]), reference.lattice_px


def _middle(measured: np.ndarray, size: tuple[int, int], settings: DistortionSettings) -> np.ndarray:
    """Tell which points are the innermost, bool [point]; `measured` is column + i · row."""
    distance = np.abs(measured - complex(size[0] - 1, size[1] - 1) / 2)
    return distance <= np.quantile(distance, settings.central_share)


def _without_outliers(normal: np.ndarray, shift: np.ndarray, settings: DistortionSettings) -> np.ndarray:
    """Tell which points a polynomial of middling degree goes near, bool [point]."""
    kept = np.ones(len(normal), dtype=bool)
    powers = _powers(min(5, settings.most_degree))
    for _ in range(REJECTIONS):
        coefficients = np.linalg.lstsq(_terms(normal[kept], powers), shift[kept], rcond=None)[0]
        distance = np.hypot(*(shift - _terms(normal, powers) @ coefficients).T)
        kept = distance <= settings.outlier_sigmas * np.median(distance[kept]) / np.sqrt(2 * np.log(2)) + 1e-9
    return kept


def _held_out_rms(normal: np.ndarray, shift: np.ndarray, degree: int, folds: int) -> float:
    fold = np.random.default_rng(SEED).permutation(len(normal)) % folds
    terms, residual = _terms(normal, _powers(degree)), np.empty_like(shift)
    for part in range(folds):
        out = fold == part
        residual[out] = shift[out] - terms[out] @ np.linalg.lstsq(terms[~out], shift[~out], rcond=None)[0]
    return float(np.sqrt((residual**2).sum(axis=1).mean()))


def _chosen_degree(held_out: list[float], worth: float) -> int:
    """Return the lowest degree that no higher one betters by much; `held_out` begins with degree 1."""
    return next(index + 1 for index, rms in enumerate(held_out) if min(held_out[index:]) >= worth * rms - 1e-9)


def _fit(normal: np.ndarray, shift: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients [term, 2] and residuals [point, 2]."""
    terms = _terms(normal, _powers(degree))
    coefficients = np.linalg.lstsq(terms, shift, rcond=None)[0]
    return coefficients, shift - terms @ coefficients


def _powers(degree: int) -> NDArray[np.int64]:
    """Return the powers of (column, row) of each term up to a total degree, [term, 2]."""
    return np.array([(total - row, row) for total in range(degree + 1) for row in range(total + 1)])


def _terms(normal: np.ndarray, powers: np.ndarray) -> NDArray[np.float64]:
    """Return column^i · row^j for every point and term, [point, term]."""
    table = normal[:, None, :] ** np.arange(powers.max() + 1)[None, :, None]
    return table[:, powers[:, 0], 0] * table[:, powers[:, 1], 1]


def _normalized(point: np.ndarray, size: tuple[int, int]) -> tuple[NDArray[np.float64], float]:
    """Return points with the middle of the image at 0 and its longer side from -1 to 1, and half that side in pixels."""
    scale = max(size) / 2
    return (point - (np.array(size) - 1) / 2) / scale, scale


def inside_hull(hull: np.ndarray, point: np.ndarray) -> NDArray[np.bool_]:
    """Tell which points lie in a convex polygon, bool [point].

    Args:
        hull: Corners in the order of scipy's ConvexHull, [corner, 2].
        point: [point, 2].
    """
    edge = np.roll(hull, -1, axis=0) - hull
    inside = np.ones(len(point), dtype=bool)
    for corner, (right, down) in zip(hull, edge, strict=True):
        inside &= right * (point[:, 1] - corner[1]) - down * (point[:, 0] - corner[0]) >= -1e-9
    return inside


def _nearest_in_hull(hull: np.ndarray, point: np.ndarray) -> NDArray[np.float64]:
    """Return each point, or where it is outside a convex polygon the polygon's nearest point, [point, 2]."""
    nearest = point.copy()
    outside = np.flatnonzero(~inside_hull(hull, point))
    best = np.full(len(outside), np.inf)
    for corner, following in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        edge = following - corner
        share = np.clip((point[outside] - corner) @ edge / (edge @ edge), 0, 1)
        candidate = corner + share[:, None] * edge
        distance = np.hypot(*(point[outside] - candidate).T)
        closer = distance < best
        best[closer] = distance[closer]
        nearest[outside[closer]] = candidate[closer]
    return nearest
