"""What all views of one C-arm share: detector, source-detector distance, principal point, and a mild radial distortion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from SparseAnatomyLib.checks import check_array, check_positive
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView

UNDISTORTION_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of a C-arm.

    Attributes:
        size_px: (columns, rows) of its images.
        pixel_pitch_mm: Between columns and between rows, at the detector.
        source_to_detector_mm: SDD.
        principal_point_px: (column, row); the middle of the image where it is None.
        radial: Radial distortion: a point at distance r of the image's middle, in half diagonals, appears at r · (1 + radial · r²).
    """

    size_px: tuple[int, int]
    pixel_pitch_mm: tuple[float, float]
    source_to_detector_mm: float
    principal_point_px: tuple[float, float] | None = None
    radial: float = 0.0

    def __post_init__(self) -> None:
        pitch = check_array("pixel_pitch_mm", self.pixel_pitch_mm, (2,))
        for length in (*pitch, self.source_to_detector_mm):
            check_positive("pixel_pitch_mm, source_to_detector_mm", float(length))
        point = self.center_px if self.principal_point_px is None else check_array("principal_point_px", self.principal_point_px, (2,))
        object.__setattr__(self, "pixel_pitch_mm", (float(pitch[0]), float(pitch[1])))
        object.__setattr__(self, "principal_point_px", (float(point[0]), float(point[1])))

    @classmethod
    def of(cls, view: XrayView) -> Camera:
        """Return the camera that a view was taken with."""
        return cls(view.size_px, tuple(view.pixel_pitch_mm), view.source_to_detector_mm, tuple(view.principal_point_px))

    @property
    def center_px(self) -> np.ndarray:
        """The middle of the image, (column, row)."""
        return (np.asarray(self.size_px) - 1) / 2

    @property
    def half_diagonal_px(self) -> float:
        """From the middle of the image to a corner."""
        return float(np.hypot(*self.size_px)) / 2

    @property
    def focal_px(self) -> np.ndarray:
        """SDD in pixels of a row and of a column, [2]."""
        return self.source_to_detector_mm / np.asarray(self.pixel_pitch_mm)

    def view(self, camera_from_lps: np.ndarray) -> XrayView:
        """Return the X-ray taken from a pose, [4, 4] rigid with z towards the detector; the radial distortion is left out."""
        intrinsics = np.diag([*self.focal_px, 1.0])
        intrinsics[:2, 2] = self.principal_point_px
        return XrayView.from_intrinsics(intrinsics, np.linalg.inv(camera_from_lps), self.size_px, self.source_to_detector_mm)

    def distorted_px(self, pixels: np.ndarray) -> np.ndarray:
        """Return where ideal pixels [..., 2] appear in the image."""
        offset = (np.asarray(pixels, float) - self.center_px) / self.half_diagonal_px
        return self.center_px + self.half_diagonal_px * offset * (1 + self.radial * (offset**2).sum(-1, keepdims=True))

    def undistorted_px(self, pixels: np.ndarray) -> np.ndarray:
        """Return where pixels [..., 2] of the image would lie without distortion: the inverse of `distorted_px`."""
        seen = (np.asarray(pixels, float) - self.center_px) / self.half_diagonal_px
        offset = seen
        for _ in range(UNDISTORTION_ROUNDS if self.radial else 0):
            offset = seen / (1 + self.radial * (offset**2).sum(-1, keepdims=True))
        return self.center_px + self.half_diagonal_px * offset

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Return directions [..., 3] of camera coordinates with z = 1 through pixels [..., 2] of the image."""
        plane = (self.undistorted_px(pixels) - self.principal_point_px) / self.focal_px
        return np.concatenate([plane, np.ones((*plane.shape[:-1], 1))], -1)

    def mirrored(self) -> Camera:
        """Return the camera of the images with their columns reversed."""
        return replace(self, principal_point_px=(self.size_px[0] - 1 - self.principal_point_px[0], self.principal_point_px[1]))


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Return the rotation [3, 3] about a vector [3] by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = np.asarray(vector) / angle if angle > 0 else (0.0, 0.0, 0.0)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rotation_angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two rotations [3, 3]."""
    return float(np.rad2deg(2 * np.arcsin(min(1.0, np.linalg.norm(a - b) / np.sqrt(8)))))


def moved(camera_from_lps: np.ndarray, rotation: np.ndarray, translation: np.ndarray, pivot_lps_mm: np.ndarray) -> np.ndarray:
    """Return a pose [4, 4] turned by a rotation [3, 3] about a point and shifted, both in camera coordinates."""
    pivot = camera_from_lps[:3, :3] @ pivot_lps_mm + camera_from_lps[:3, 3]
    return affine(rotation @ camera_from_lps[:3, :3], rotation @ (camera_from_lps[:3, 3] - pivot) + pivot + translation)
