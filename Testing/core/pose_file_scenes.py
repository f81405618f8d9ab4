"""Views and pose files that the tests of the formats share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.calibration.formats.file_pose import Detector
from IntraopReconLib.core.calibration.pose_formats import CaseImage, import_poses
from IntraopReconLib.core.calibration.poses import PosedImage
from IntraopReconLib.core.calibration_config import PoseFileSettings
from SparseAnatomyLib.geometry import XrayView

PHANTOM = np.array([[0.0, 0, 0], [30, -20, 10], [-15, 40, 25], [5, 12, -60], [70, 3, 3]])  # no symmetry, no mirror plane
VECTORS = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")


def make_view(direction: np.ndarray, roll_deg: float, pitch: tuple[float, float], offset_mm: np.ndarray, distance_mm: float) -> XrayView:
    """Return a view along a direction [3] with an off-center principal point and rectangular pixels."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.3, -0.2, 1.0], z)
    frame = np.stack([x / np.linalg.norm(x), np.cross(z, x / np.linalg.norm(x)), z])
    u, v, w = Rotation.from_rotvec(z * math.radians(roll_deg)).apply(frame)
    source = offset_mm - distance_mm * w
    middle = source + (distance_mm + 420) * w + 11 * u - 23 * v
    size = (300, 200)
    return XrayView(source, middle - u * pitch[0] * 149.5 - v * pitch[1] * 99.5, u * pitch[0], v * pitch[1], size)


DIRECTIONS = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda d: np.linalg.norm(np.cross([0.3, -0.2, 1.0], d)) > 0.1 < np.linalg.norm(d))
VIEWS = st.builds(
    make_view,
    DIRECTIONS.map(np.array),
    st.floats(-180, 180),
    st.tuples(st.floats(0.2, 1.5), st.floats(0.2, 1.5)).filter(lambda p: abs(p[0] / p[1] - 1) > 1e-3),
    st.tuples(*[st.floats(-40, 40)] * 3).map(np.array),
    st.floats(450, 800),
)


def posed_images(views: list[XrayView]) -> list[PosedImage]:
    return [PosedImage(f"xrays/shot_{number:02d}.dcm", view) for number, view in enumerate(views)]


def case_images_of(posed: list[PosedImage]) -> list[CaseImage]:
    return [
        CaseImage(one.image, one.frame, Detector(one.size_px, tuple(one.view.pixel_pitch_mm), one.view.source_to_detector_mm))
        for one in posed
    ]


def check_same(a: XrayView, b: XrayView, atol: float = 1e-7) -> None:
    for name in VECTORS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol, err_msg=name)
    assert a.size_px == b.size_px
    np.testing.assert_allclose(a.project(PHANTOM), b.project(PHANTOM), atol=1e-5)


def square_pixels(view: XrayView) -> XrayView:
    return replace(view, row_step_lps_mm=view.row_step_lps_mm * view.pixel_pitch_mm[0] / view.pixel_pitch_mm[1])


# Known values: a camera 600 mm before the patient (LPS: anterior is -y), the detector 400 mm behind, looking along +y, rows towards the
# feet. 1000 mm and 0.5 mm pixels make 2000 px of focal length; the principal point is (100, 80) of 300 × 200.
# A point 60 mm to the left, 30 mm up, at the isocenter's depth lies at column 100 + 2000 · 60 / 600 = 300, row 80 - 2000 · 30 / 600 = -20.
POINT = np.array([60.0, 0.0, 30.0])
PIXEL = np.array([300.0, -20.0])
SIZE = (300, 200)
KNOWN = XrayView([0, -600, 0], [-50, 400, 40], [0.5, 0, 0], [0, 0, -0.5], SIZE)
IMAGE = [CaseImage("xrays/one.dcm", 0, Detector(SIZE, (0.5, 0.5), 1000.0))]


def import_text(folder: Path, name: str, text: str, images: list[CaseImage] = IMAGE, **stated: object) -> list[XrayView]:
    (folder / name).write_text(text, encoding="utf-8")
    return [one.view for one in import_poses(folder / name, images, PoseFileSettings(**stated))]
