"""RTK's circular cone-beam geometry, to and from `XrayView`: nine parameters a projection, in pure numpy.

RTK's rotated frame has u along the detector's columns, v along its rows and w = u × v. Its fixed frame is taken as LPS, as ITK does for
images. Where an image's rows run down (seen from the source), w points away from the source and both distances are negative; RTK states and
accepts them so.

Source: RTK's documentation of `ThreeDCircularProjectionGeometry`.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from .checks import check_array
from .geometry import XrayView

LARGEST_SKEW = 1e-4  # cosine of the angle between columns and rows
GIMBAL_LOCK = 1e-10  # cosine of the out-of-plane angle


@dataclass(frozen=True)
class RtkProjection:
    """One projection of RTK's `ThreeDCircularProjectionGeometry`, in the order of its `AddProjectionInRadians`.

    Attributes:
        source_to_isocenter_mm: Along w, from the source to the fixed frame's origin.
        source_to_detector_mm: Along w, from the source to the detector (SDD).
        gantry_angle_rad: About y.
        projection_offset_x_mm: Along u, of the point where the projection's coordinates are zero.
        projection_offset_y_mm: Along v, of the same point.
        out_of_plane_angle_rad: About x.
        in_plane_angle_rad: About z.
        source_offset_x_mm: Along u, of the source.
        source_offset_y_mm: Along v, of the source.

    >>> view = RtkProjection(600.0, 1000.0).to_view((0.5, 0.5), (256, 256))
    >>> view.source_lps_mm.tolist(), view.detector_origin_lps_mm.tolist(), view.row_step_lps_mm.tolist()
    ([0.0, 0.0, 600.0], [0.0, 0.0, -400.0], [0.0, 0.5, 0.0])
    """

    source_to_isocenter_mm: float
    source_to_detector_mm: float
    gantry_angle_rad: float = 0.0
    projection_offset_x_mm: float = 0.0
    projection_offset_y_mm: float = 0.0
    out_of_plane_angle_rad: float = 0.0
    in_plane_angle_rad: float = 0.0
    source_offset_x_mm: float = 0.0
    source_offset_y_mm: float = 0.0

    def __post_init__(self) -> None:
        check_array("projection", astuple(self), (9,))

    @property
    def rotated_from_fixed(self) -> np.ndarray:
        """[3, 3] rotation; its rows are u, v and w in the fixed frame."""
        gantry, out_of_plane, in_plane = -self.gantry_angle_rad, -self.out_of_plane_angle_rad, -self.in_plane_angle_rad
        about_y = np.array([[np.cos(gantry), 0, np.sin(gantry)], [0, 1, 0], [-np.sin(gantry), 0, np.cos(gantry)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(out_of_plane), -np.sin(out_of_plane)], [0, np.sin(out_of_plane), np.cos(out_of_plane)]])
        about_z = np.array([[np.cos(in_plane), -np.sin(in_plane), 0], [np.sin(in_plane), np.cos(in_plane), 0], [0, 0, 1]])
        return about_z @ about_x @ about_y

    @classmethod
    def from_view(cls, view: XrayView) -> RtkProjection:
        """Return the projection whose coordinates (mm) are zero at the center of the view's pixel (0, 0) and grow with columns and rows.

        The matching ITK image has origin 0, identity direction and the view's pixel pitch as spacing.

        Raises:
            ValueError: The view's columns and rows are not perpendicular, which RTK cannot state.
        """
        pitch_column, pitch_row = view.pixel_pitch_mm
        u, v = view.column_step_lps_mm / pitch_column, view.row_step_lps_mm / pitch_row
        if abs(u @ v) > LARGEST_SKEW:
            raise ValueError(f"view: expected perpendicular columns and rows, got steps whose angle has the cosine {u @ v:.3g}.")
        w = view.detector_normal_lps
        v = np.cross(w, u)
        rotation = np.stack([u, v, w])
        source, detector = rotation @ view.source_lps_mm, rotation @ view.detector_origin_lps_mm
        gantry, out_of_plane, in_plane = _angles_rad(rotation)
        return cls(
            source_to_isocenter_mm=float(source[2]),
            source_to_detector_mm=float(source[2] - detector[2]),
            gantry_angle_rad=gantry,
            projection_offset_x_mm=float(detector[0]),
            projection_offset_y_mm=float(detector[1]),
            out_of_plane_angle_rad=out_of_plane,
            in_plane_angle_rad=in_plane,
            source_offset_x_mm=float(source[0]),
            source_offset_y_mm=float(source[1]),
        )

    def to_view(
        self, pixel_pitch_mm: tuple[float, float], size_px: tuple[int, int], first_pixel_mm: tuple[float, float] = (0.0, 0.0)
    ) -> XrayView:
        """Return the view of a projection image.

        Args:
            pixel_pitch_mm: Spacing of the ITK image along u and v; negative where its direction is.
            size_px: (columns, rows).
            first_pixel_mm: Origin of the ITK image, along u and v.

        Raises:
            ValueError: The numbers make no view.
        """
        u, v, w = self.rotated_from_fixed
        source = self.source_offset_x_mm * u + self.source_offset_y_mm * v + self.source_to_isocenter_mm * w
        first_u = self.projection_offset_x_mm + first_pixel_mm[0]
        first_v = self.projection_offset_y_mm + first_pixel_mm[1]
        detector = first_u * u + first_v * v + (self.source_to_isocenter_mm - self.source_to_detector_mm) * w
        return XrayView(source, detector, pixel_pitch_mm[0] * u, pixel_pitch_mm[1] * v, size_px)


def _angles_rad(rotation: np.ndarray) -> tuple[float, float, float]:
    """Return gantry, out-of-plane and in-plane angle of a rotation [3, 3]; the in-plane angle is 0 where the gimbal locks."""
    level = np.hypot(rotation[2, 0], rotation[2, 2])
    out_of_plane = np.arctan2(-rotation[2, 1], level)  # the arcsine loses half of the digits near a right angle
    if level < GIMBAL_LOCK:
        return float(np.arctan2(-rotation[0, 2], rotation[0, 0])), float(out_of_plane), 0.0
    gantry = np.arctan2(rotation[2, 0], rotation[2, 2])
    in_plane = np.arctan2(rotation[0, 1], rotation[1, 1])
    return float(gantry), float(out_of_plane), float(in_plane)
