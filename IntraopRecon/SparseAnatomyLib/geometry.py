"""One cone-beam X-ray view, stated by four vectors (LPS, mm): source, first pixel, step to the next column, step to the next row.

The four vectors hold any C-arm view, off-centre principal point and unequal pitches included. Pixel coordinates are (column, row); 0 is the
centre of the first pixel. Columns and rows are those of the image as it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .checks import check_array, check_positive
from .frames import affine, transform_points, transform_vectors


@dataclass(frozen=True, eq=False)
class XrayView:
    """Source and flat detector of one X-ray.

    Attributes:
        source_lps_mm: X-ray source, [3].
        detector_origin_lps_mm: Centre of pixel (0, 0), [3].
        column_step_lps_mm: From a pixel to the next column, pitch included, [3].
        row_step_lps_mm: From a pixel to the next row, pitch included, [3].
        size_px: (columns, rows).

    >>> view = XrayView([0, -600, 0], [-178.5, 420, 178.5], [1.4, 0, 0], [0, 0, -1.4], (256, 256))
    >>> float(round(view.source_to_detector_mm)), view.principal_point_px.round(3).tolist(), view.is_mirrored
    (1020.0, [127.5, 127.5], False)

    An observer at the source sees a point further to the patient's left further right, a point further up further up:

    >>> view.project([[10, 0, 0], [0, 0, 10]]).round(1).tolist()
    [[139.6, 127.5], [127.5, 115.4]]
    """

    source_lps_mm: np.ndarray
    detector_origin_lps_mm: np.ndarray
    column_step_lps_mm: np.ndarray
    row_step_lps_mm: np.ndarray
    size_px: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm"):
            object.__setattr__(self, name, check_array(name, getattr(self, name), (3,)))
        size = check_array("size_px", self.size_px, (2,), dtype=int)
        if (size < 1).any():
            raise ValueError(f"size_px: expected at least one column and one row, got {size.tolist()}.")
        object.__setattr__(self, "size_px", (int(size[0]), int(size[1])))
        pitch_column, pitch_row = self.pixel_pitch_mm
        if not np.linalg.norm(np.cross(self.column_step_lps_mm, self.row_step_lps_mm)) > 1e-3 * pitch_column * pitch_row:
            raise ValueError("column_step_lps_mm, row_step_lps_mm: expected two different directions, got parallel or zero steps.")
        if not abs(self.signed_source_to_detector_mm) > 1e-6:
            raise ValueError("source_lps_mm: expected a source off the detector plane, got one that lies in it.")

    @property
    def pixel_pitch_mm(self) -> np.ndarray:
        """Pitch between columns and between rows, [2]."""
        return np.array([np.linalg.norm(self.column_step_lps_mm), np.linalg.norm(self.row_step_lps_mm)])

    @property
    def detector_normal_lps(self) -> np.ndarray:
        """Unit vector column × row, [3]; points away from the source unless the image is mirrored."""
        normal = np.cross(self.column_step_lps_mm, self.row_step_lps_mm)
        return normal / np.linalg.norm(normal)

    @property
    def signed_source_to_detector_mm(self) -> float:
        """Distance from the source to the detector plane along its normal; negative where the image is mirrored."""
        return float(self.detector_normal_lps @ (self.detector_origin_lps_mm - self.source_lps_mm))

    @property
    def source_to_detector_mm(self) -> float:
        """Perpendicular distance from the source to the detector plane (SDD)."""
        return abs(self.signed_source_to_detector_mm)

    @property
    def is_mirrored(self) -> bool:
        """Whether columns run right to left for an observer at the source who sees the rows run down."""
        return self.signed_source_to_detector_mm < 0

    @property
    def principal_point_px(self) -> np.ndarray:
        """Foot of the perpendicular from the source, (column, row)."""
        intrinsics = self.intrinsics_px
        return intrinsics[:2, 2].copy()

    @property
    def intrinsics_px(self) -> np.ndarray:
        """[3, 3] upper triangular; maps camera coordinates (see `lps_from_camera`) to homogeneous pixels."""
        steps = np.stack([self.column_step_lps_mm, self.row_step_lps_mm, self.detector_origin_lps_mm - self.source_lps_mm], 1)
        intrinsics = np.linalg.inv(self.lps_from_camera[:3, :3].T @ steps)
        return intrinsics / intrinsics[2, 2]

    @property
    def lps_from_camera(self) -> np.ndarray:
        """[4, 4] rigid: origin at the source, x along the columns, z perpendicular to and towards the detector, mm."""
        x = self.column_step_lps_mm / np.linalg.norm(self.column_step_lps_mm)
        z = self.detector_normal_lps * np.sign(self.signed_source_to_detector_mm)
        return affine(np.stack([x, np.cross(z, x), z], 1), self.source_lps_mm)

    @property
    def projection_matrix(self) -> np.ndarray:
        """[3, 4], LPS mm to homogeneous pixels (column, row, 1); the third component is the depth from the source in mm."""
        camera_from_lps = np.linalg.inv(self.lps_from_camera)
        return self.intrinsics_px @ camera_from_lps[:3]

    @classmethod
    def from_intrinsics(
        cls, intrinsics_px: np.ndarray, lps_from_camera: np.ndarray, size_px: tuple[int, int], source_to_detector_mm: float
    ) -> XrayView:
        """Build a view from a pinhole camera.

        Args:
            intrinsics_px: [3, 3], camera mm to homogeneous pixels.
            lps_from_camera: [4, 4] rigid, z towards the detector.
            size_px: (columns, rows).
            source_to_detector_mm: SDD; it sets the pixel pitch, which no pinhole knows.
        """
        check_positive("source_to_detector_mm", source_to_detector_mm)
        intrinsics = check_array("intrinsics_px", intrinsics_px, (3, 3))
        pose = check_array("lps_from_camera", lps_from_camera, (4, 4))
        if abs(np.linalg.det(intrinsics)) < 1e-12:
            raise ValueError("intrinsics_px: expected an invertible matrix, got a singular one.")
        column, row, origin = (pose[:3, :3] @ np.linalg.inv(intrinsics / intrinsics[2, 2]) * source_to_detector_mm).T
        source = pose[:3, 3]
        return cls(source, source + origin, column, row, size_px)

    @classmethod
    def from_projection_matrix(
        cls, matrix: np.ndarray, size_px: tuple[int, int], source_to_detector_mm: float, in_front_lps_mm: np.ndarray | None = None
    ) -> XrayView:
        """Build a view from a 3×4 projection matrix, whatever its scale and sign.

        Args:
            matrix: [3, 4], LPS mm to homogeneous pixels.
            size_px: (columns, rows).
            source_to_detector_mm: SDD; it sets the pixel pitch, which the matrix does not hold.
            in_front_lps_mm: A point between source and detector, [3]; the world's origin by default.

        Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 6.2.
        """
        matrix = check_array("matrix", matrix, (3, 4))
        check_positive("source_to_detector_mm", source_to_detector_mm)
        linear = matrix[:, :3]
        singular_values = np.linalg.svd(linear, compute_uv=False)
        if not singular_values[-1] > 1e-9 * singular_values[0]:
            raise ValueError("matrix: expected an invertible left 3×3 block, got a singular one.")
        source = -np.linalg.solve(linear, matrix[:, 3])
        point = np.zeros(3) if in_front_lps_mm is None else np.asarray(in_front_lps_mm, float)
        depth_scale = np.linalg.norm(linear[2]) * (np.sign(linear[2] @ (point - source)) or 1.0)
        column, row, origin = np.linalg.inv(linear / depth_scale).T * source_to_detector_mm
        return cls(source, source + origin, column, row, size_px)

    def project(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Project points [..., 3] to pixels (column, row), [..., 2]."""
        homogeneous = transform_vectors(self.projection_matrix, np.asarray(points_lps_mm, float)) + self.projection_matrix[:, 3]
        return homogeneous[..., :2] / homogeneous[..., 2:]

    def depth_mm(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Return the depth of points [..., 3] from the source, perpendicular to the detector, [...]."""
        return (np.asarray(points_lps_mm, float) - self.source_lps_mm) @ self.lps_from_camera[:3, 2]

    def pixel_lps_mm(self, pixels: np.ndarray) -> np.ndarray:
        """Return where pixels (column, row) [..., 2] lie on the detector, [..., 3]."""
        pixels = np.asarray(pixels, float)
        return self.detector_origin_lps_mm + pixels[..., :1] * self.column_step_lps_mm + pixels[..., 1:] * self.row_step_lps_mm

    def all_pixels_lps_mm(self) -> np.ndarray:
        """Return the centres of all pixels, [row, column, 3]."""
        columns, rows = np.meshgrid(np.arange(self.size_px[0]), np.arange(self.size_px[1]))
        return self.pixel_lps_mm(np.stack([columns, rows], -1))

    def transformed(self, b_from_lps: np.ndarray) -> XrayView:
        """Return the view as seen from another frame, [4, 4] affine: nothing changes but the names of the points."""
        return replace(
            self,
            source_lps_mm=transform_points(b_from_lps, self.source_lps_mm),
            detector_origin_lps_mm=transform_points(b_from_lps, self.detector_origin_lps_mm),
            column_step_lps_mm=transform_vectors(b_from_lps, self.column_step_lps_mm),
            row_step_lps_mm=transform_vectors(b_from_lps, self.row_step_lps_mm),
        )

    def binned(self, factor: int) -> XrayView:
        """Return the view whose pixels are means over factor × factor of this one's; what is left at the far borders is cut."""
        half = (factor - 1) / 2
        return XrayView(
            self.source_lps_mm,
            self.pixel_lps_mm([half, half]),
            self.column_step_lps_mm * factor,
            self.row_step_lps_mm * factor,
            (max(1, self.size_px[0] // factor), max(1, self.size_px[1] // factor)),
        )

    def cropped(self, first_px: tuple[int, int], size_px: tuple[int, int]) -> XrayView:
        """Return the view of the sub-image that begins at `first_px` (column, row)."""
        return replace(self, detector_origin_lps_mm=self.pixel_lps_mm(first_px), size_px=size_px)
