"""How far a result is from the truth: images, masks and surfaces, each measure stated once.

SSIM is scikit-image's. Surface distances are our own twenty lines over scipy's k-d tree: `surface-distance` on PyPI is a single release of
0.1, SimpleITK's filters weigh every voxel of the boundary alike, wrong where voxels are anisotropic, and MONAI brings torch. All of
them know masks only, whose surfaces are no better than half a voxel. A surface consists here of the faces between voxels inside and
outside, each weighted by its area; a field's lie where the field, between the two voxels, crosses its level. Distances run to the nearest
face, taken as a disc across the surface's normal, so that they do not depend on where along the surface the faces happen to lie.

Masks are bool [k, j, i]; `spacing_mm` is the voxel pitch along i, j, k, as in `VoxelGrid`. Faces on the border of the array are no surface:
there the box ends, not the anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from .checks import check_array, check_positive


def psnr_db(image: np.ndarray, truth: np.ndarray, peak: float, mask: np.ndarray | None = None) -> float:
    """Return the peak signal-to-noise ratio, 20·log10(peak / rmse).

    Args:
        image: Any shape.
        truth: The same shape.
        peak: The signal's peak, in the images' unit; say in the report which one was taken.
        mask: Where to compare, bool of the same shape; everywhere by default.

    Returns:
        dB; infinite for equal images, NaN where the mask is empty.
    """
    check_positive("peak", peak)
    _check_same_shape(image=image, truth=truth, mask=truth if mask is None else mask)
    difference = np.subtract(image, truth, dtype=np.float64)
    if mask is not None:
        difference = difference[np.asarray(mask, bool)]
    if difference.size == 0:
        return float("nan")
    rmse = np.sqrt(np.mean(difference**2))
    return float(20 * np.log10(peak / rmse)) if rmse > 0 else float("inf")


def ssim(image: np.ndarray, truth: np.ndarray, peak: float, mask: np.ndarray | None = None) -> float:
    """Return the mean of `ssim_map`.

    Args:
        image: [row, column] or [k, j, i], at least 11 long on each axis.
        truth: The same shape.
        peak: Range of the data (L), in the images' unit.
        mask: Where to average, bool of the same shape; everywhere by default. Windows near its border reach outside.

    Returns:
        At most 1, which equal images reach; NaN where the mask is empty.
    """
    _check_same_shape(image=image, truth=truth, mask=truth if mask is None else mask)
    local = ssim_map(image, truth, peak)
    if mask is not None:
        local = local[np.asarray(mask, bool)]
    return float(local.mean(dtype=np.float64)) if local.size else float("nan")


def ssim_map(image: np.ndarray, truth: np.ndarray, peak: float) -> np.ndarray:
    """Return the structural similarity of 2D or 3D images around each pixel, over a Gaussian window of σ = 1.5 pixels.

    Args:
        image: [row, column] or [k, j, i], at least 11 long on each axis.
        truth: The same shape.
        peak: Range of the data (L), in the images' unit.

    Returns:
        float32 of the same shape.

    Source: Wang et al., IEEE Transactions on Image Processing 13(4), 2004, equation 13, with K1 = 0.01 and K2 = 0.03.
    """
    from skimage.metrics import structural_similarity  # slow to import

    check_positive("peak", peak)
    _check_same_shape(image=image, truth=truth)
    if min(truth.shape) < 11:
        raise ValueError(f"truth: expected at least 11 pixels along each axis, got shape {list(truth.shape)}.")
    truth, image = np.asarray(truth, np.float32), np.asarray(image, np.float32)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(truth, image, data_range=peak, full=True, **settings)[1]


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice coefficient 2·|A∩B| / (|A|+|B|) of two masks of one shape; 1 where both are empty."""
    _check_same_shape(mask=mask, truth=truth)
    mask, truth = np.asarray(mask, bool), np.asarray(truth, bool)
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def volume_error_percent(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return how much larger the mask is than the truth, in percent of the truth (negative: smaller).

    0 where both are empty, infinite where only the truth is.
    """
    _check_same_shape(mask=mask, truth=truth)
    got, want = int(np.count_nonzero(mask)), int(np.count_nonzero(truth))
    if want == 0:
        return 0.0 if got == 0 else float("inf")
    return 100 * (got - want) / want


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between two surfaces, face by face.

    Where neither has a face, equal masks are at distance 0 and unlike ones (all against nothing) infinitely far apart; where only
    one has, distances are infinite and nothing is within tolerance: missing anatomy is never reported as a small error.

    Attributes:
        to_truth_mm: From each face of the result to the nearest face of the truth, [m].
        area_mm2: Area of each of these faces, [m].
        from_truth_mm: From each face of the truth to the nearest face of the result, [n].
        truth_area_mm2: Area of each of these faces, [n].
        equal: Whether the masks are equal voxel by voxel.
    """

    to_truth_mm: np.ndarray
    area_mm2: np.ndarray
    from_truth_mm: np.ndarray
    truth_area_mm2: np.ndarray
    equal: bool

    @property
    def _without_surface(self) -> bool:
        return self.to_truth_mm.size == 0 and self.from_truth_mm.size == 0

    @property
    def average_mm(self) -> float:
        """Average symmetric surface distance (ASD): mean over the area of both surfaces."""
        if self._without_surface:
            return 0.0 if self.equal else float("inf")
        distances = np.concatenate([self.to_truth_mm, self.from_truth_mm])
        return float(np.average(distances, weights=np.concatenate([self.area_mm2, self.truth_area_mm2])))

    @property
    def hd95_mm(self) -> float:
        """Robust Hausdorff distance: the larger of the two directed distances that 95 % of either surface's area keeps within."""
        if self._without_surface:
            return 0.0 if self.equal else float("inf")
        return max(_percentile(self.to_truth_mm, self.area_mm2, 95), _percentile(self.from_truth_mm, self.truth_area_mm2, 95))

    def nsd(self, tolerance_mm: float) -> float:
        """Return the normalized surface distance: the share of both surfaces' area that lies within the tolerance of the other.

        Source: Nikolov et al., arXiv 1809.04430, section "Surface Dice".
        """
        if self._without_surface:
            return float(self.equal)
        limit = tolerance_mm + 1e-6  # distances that equal the tolerance up to rounding are within it
        within = self.area_mm2[self.to_truth_mm <= limit].sum() + self.truth_area_mm2[self.from_truth_mm <= limit].sum()
        return float(within / (self.area_mm2.sum() + self.truth_area_mm2.sum()))


def isosurface_distances(field: np.ndarray, truth: np.ndarray, level: float, spacing_mm: ArrayLike) -> SurfaceDistances:
    """Measure how far the surfaces where two fields cross a level are apart, finer than voxels.

    Args:
        field: float [k, j, i].
        truth: float [k, j, i].
        level: In the fields' unit.
        spacing_mm: Voxel pitch along i, j, k (the arrays' axes backwards), [3].
    """
    _check_same_shape(field=field, truth=truth)
    spacing_mm = check_array("spacing_mm", spacing_mm, (3,))
    field, truth = np.asarray(field, np.float64), np.asarray(truth, np.float64)
    equal = bool(((field > level) == (truth > level)).all())
    return _between(_faces(field, level, spacing_mm, oblique=True), _faces(truth, level, spacing_mm, oblique=True), equal)


def surface_distances(mask: np.ndarray, truth: np.ndarray, spacing_mm: ArrayLike) -> SurfaceDistances:
    """Measure how far the surfaces of two masks are apart.

    Args:
        mask: bool [k, j, i].
        truth: bool [k, j, i].
        spacing_mm: Voxel pitch along i, j, k (the array's axes backwards), [3].
    """
    _check_same_shape(mask=mask, truth=truth)
    spacing_mm = check_array("spacing_mm", spacing_mm, (3,))
    mask, truth = np.asarray(mask, bool), np.asarray(truth, bool)
    return _between(
        _faces(mask, 0.5, spacing_mm, oblique=False), _faces(truth, 0.5, spacing_mm, oblique=False), bool((mask == truth).all())
    )


@dataclass(frozen=True, eq=False)
class _Faces:
    """Pieces of a surface: centers [n, 3] in mm along k, j, i, unit normals [n, 3], areas [n] in mm²."""

    centers: np.ndarray
    normals: np.ndarray
    areas: np.ndarray


def _faces(field: np.ndarray, level: float, spacing_mm: np.ndarray, *, oblique: bool) -> _Faces:
    """Return the faces between voxels above a level and others, at the crossing; their normals follow the gradient where `oblique`."""
    spacing_kji = spacing_mm[::-1]
    inside = field > level
    centers, normals, areas = [], [], []
    for axis, step in enumerate(np.eye(3, dtype=int)):
        near = np.argwhere(np.diff(inside, axis=axis))
        far = near + step
        value, other = field[tuple(near.T)].astype(float), field[tuple(far.T)].astype(float)
        centers.append((near + ((level - value) / (other - value))[:, None] * step) * spacing_kji)
        normal = np.broadcast_to(step.astype(float), near.shape)
        if oblique:
            normal = _gradient(field, near, spacing_kji) + _gradient(field, far, spacing_kji)
            length = np.linalg.norm(normal, axis=1, keepdims=True)
            normal = np.where(length > 0, normal / np.where(length > 0, length, 1), step)
        normals.append(normal)
        areas.append(np.full(len(near), spacing_kji.prod() / spacing_kji[axis]))
    return _Faces(np.concatenate(centers), np.concatenate(normals), np.concatenate(areas))


def _gradient(field: np.ndarray, index: np.ndarray, spacing_kji: np.ndarray) -> np.ndarray:
    """Return the field's central differences at voxels [n, 3], one-sided at the border, [n, 3] per mm."""
    gradient = np.empty(index.shape)
    for axis, step in enumerate(np.eye(3, dtype=int)):
        below, above = np.maximum(index - step, 0), np.minimum(index + step, np.array(field.shape) - 1)
        apart = np.maximum(above[:, axis] - below[:, axis], 1) * spacing_kji[axis]
        gradient[:, axis] = (field[tuple(above.T)] - field[tuple(below.T)]) / apart
    return gradient


def _between(faces: _Faces, truth_faces: _Faces, equal: bool) -> SurfaceDistances:
    return SurfaceDistances(_to(faces, truth_faces), faces.areas, _to(truth_faces, faces), truth_faces.areas, equal)


def _to(faces: _Faces, others: _Faces) -> np.ndarray:
    """Return the distance from the center of each face to the nearest of the others, infinite where there are none."""
    if len(faces.areas) == 0 or len(others.areas) == 0:
        return np.full(len(faces.areas), np.inf)
    distance, nearest = cKDTree(others.centers).query(faces.centers)
    across = np.abs(np.einsum("ij,ij->i", faces.centers - others.centers[nearest], others.normals[nearest]))
    along = np.sqrt(np.maximum(distance**2 - across**2, 0))
    return np.hypot(across, np.maximum(along - np.sqrt(others.areas[nearest]) / 2, 0))


def _percentile(values: np.ndarray, weights: np.ndarray, percent: float) -> float:
    """Return the smallest value that `percent` of the weight does not exceed; 0 where there are no values."""
    if values.size == 0:
        return 0.0
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, percent / 100 * cumulative[-1] * (1 - 1e-12))])


def _check_same_shape(**arrays: np.ndarray) -> None:
    names, shapes = list(arrays), [np.shape(array) for array in arrays.values()]
    for name, shape in zip(names, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(f"{name}: expected the shape of {names[0]}, {list(shapes[0])}, got {list(shape)}.")
