"""One view against a volume: the small rigid motion of the view after which its image fits better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .calibration.camera import rotation_matrix
from .config import PoseSettings
from .voxels.motion import project_with_motion

_UNITS = np.array([1e-2] * 3 + [1.0] * 3)  # a turn that moves as much as a shift of 1 mm at 100 mm from the isocenter
_LEAST_WEIGHT = 1e-3
_TO_STANDARD_DEVIATION = 1.4826  # of the median absolute value of normal numbers


@dataclass(frozen=True, eq=False)
class ViewImage:
    """One view and its image, in the frame of the region's box, whose origin the view turns about.

    Attributes:
        geometry: Where the view is thought to be.
        attenuation: float32 [row, column].
        weights: 1 where the attenuation counts, 0 where it does not, float32 [row, column].
    """

    geometry: XrayView
    attenuation: np.ndarray
    weights: np.ndarray

    @property
    def pixel_at_center_mm(self) -> float:
        """What a pixel measures at the center of the box."""
        geometry = self.geometry
        return float(geometry.pixel_pitch_mm.mean() * abs(geometry.depth_mm(np.zeros(3))) / geometry.source_to_detector_mm)


def motion(step: np.ndarray) -> np.ndarray:
    """Return the rigid motion [4, 4] of a rotation vector (radians) and a shift (mm), [6]."""
    return affine(rotation_matrix(step[:3]), step[3:])


def step_of(rigid: np.ndarray) -> np.ndarray:
    """Return the rotation vector (radians) and the shift (mm), [6], of a rigid motion [4, 4]."""
    return np.concatenate([Rotation.from_matrix(rigid[:3, :3]).as_rotvec(), rigid[:3, 3]])


def pose_step(
    field: np.ndarray, grid: VoxelGrid, view: ViewImage, correction: np.ndarray, sigma: np.ndarray, settings: PoseSettings
) -> tuple[np.ndarray, float]:
    """Take a Gauss–Newton step of a view's pose towards the image, held back by what is known of the pose.

    Args:
        field: `values_and_slopes` of the volume.
        grid: Of the volume.
        view: The image, with the pose so far.
        correction: What the pose so far differs from the calibrated one by: rotation vector (radians) and shift (mm), [6].
        sigma: Standard deviations of the calibrated pose, in the same order, [6].
        settings: How.

    Returns:
        The further motion, [6], and the share of the image (root mean square, slow variation left out) that the volume does not explain
        before the step.
    """
    projected, slopes = project_with_motion(field, grid, view.geometry)
    images = np.concatenate([(view.attenuation - projected)[None], view.attenuation[None], slopes])
    pixel_mm = view.pixel_at_center_mm
    images = _without_slow_variation(images, view.weights, settings.high_pass_mm / pixel_mm)
    counts = view.weights > 0
    residual, measured, columns = images[0][counts], images[1][counts], images[2:][:, counts].T * _UNITS.astype(np.float32)
    size = _TO_STANDARD_DEVIATION * float(np.median(np.abs(residual), axis=None)) if len(residual) else 0.0
    robust = np.minimum(1.0, settings.huber * size / np.maximum(np.abs(residual), 1e-12)).astype(np.float32)
    variance = float((robust * residual**2).sum()) / max(float(robust.sum()), 1e-12)
    energy = float((measured**2).sum())
    unexplained = float(np.sqrt((residual**2).sum() / energy)) if energy > 0 else 1.0
    if not variance > 0:
        return np.zeros(6), unexplained
    information = (pixel_mm / settings.correlation_mm) ** 2 / variance
    weighted = columns * robust[:, None]
    prior = np.diag((_UNITS / sigma) ** 2)
    normal = (weighted.T @ columns).astype(np.float64) * information + prior
    gradient = (weighted.T @ residual).astype(np.float64) * information - prior @ (correction / _UNITS)
    return _limited(settings.over_relaxation * np.linalg.solve(normal, gradient) * _UNITS, settings), unexplained


def _without_slow_variation(images: np.ndarray, weights: np.ndarray, sigma_px: float) -> np.ndarray:
    """Subtract from images [..., row, column] their mean over the neighborhood, as far as it counts; 0 where they do not count."""
    sigma = [0] * (images.ndim - 2) + [sigma_px] * 2
    means = gaussian_filter(images * weights, sigma, mode="constant", truncate=3.0)
    share = np.maximum(gaussian_filter(weights, sigma_px, mode="constant", truncate=3.0), _LEAST_WEIGHT)
    return (images - means / share) * weights


def _limited(step: np.ndarray, settings: PoseSettings) -> np.ndarray:
    turn, shift = np.linalg.norm(step[:3]), np.linalg.norm(step[3:])
    excess = max(1.0, turn / np.deg2rad(settings.most_deg), shift / settings.most_mm)
    return step / excess
