"""RTK's nine parameters and the four vectors of a view state the same rays; itk-rtk itself is the judge."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.rtk_geometry import RtkProjection

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .*wig:DeprecationWarning")  # ITK's import under Python 3.11; fatal as an error

ANGLE = st.floats(-3.0, 3.0)
OFFSET = st.floats(-80.0, 80.0)
PROJECTIONS = st.builds(
    RtkProjection, st.floats(300, 900), st.floats(1000, 1500), ANGLE, OFFSET, OFFSET, st.floats(-1.5, 1.5), ANGLE, OFFSET, OFFSET
)
POINTS = np.array([[0.0, 0, 0], [30, -20, 10], [-15, 40, 25], [5, 12, -60]])


def _view(seed: int, mirrored: bool = False) -> XrayView:
    rng = np.random.default_rng(seed)
    u, v, w = Rotation.random(rng=rng).as_matrix()
    offset = rng.normal(size=(2, 3)) * 30
    return XrayView(w * -600 + offset[0], w * 400 + offset[1], u * 0.4, v * (-0.7 if mirrored else 0.7), (300, 200))


def _same(a: XrayView, b: XrayView) -> None:
    for name in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-8)
    assert a.size_px == b.size_px


@given(PROJECTIONS)
@settings(max_examples=60, deadline=None)
def test_view_round_trip(projection: RtkProjection):
    view = projection.to_view((0.4, 0.7), (300, 200))
    _same(RtkProjection.from_view(view).to_view((0.4, 0.7), (300, 200)), view)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_parameters_round_trip(seed: int, mirrored: bool):
    view = _view(seed, mirrored)
    projection = RtkProjection.from_view(view)
    _same(projection.to_view((0.4, 0.7), (300, 200)), view)
    assert (projection.source_to_detector_mm < 0) is not mirrored


@pytest.mark.parametrize("tilt_rad", [np.pi / 2, -np.pi / 2])
def test_gimbal_lock(tilt_rad: float):
    view = RtkProjection(600, 1000, 0.4, 3, 4, tilt_rad, 0.3, 5, 6).to_view((0.4, 0.7), (300, 200))
    _same(RtkProjection.from_view(view).to_view((0.4, 0.7), (300, 200)), view)


def test_image_origin_moves_the_first_pixel():
    projection = RtkProjection(600, 1000, 0.4, 3, 4, 0.1, 0.3, 5, 6)
    whole = projection.to_view((0.4, 0.7), (300, 200))
    part = projection.to_view((0.4, 0.7), (100, 50), first_pixel_mm=(0.4 * 20, 0.7 * 30))
    _same(part, whole.cropped((20, 30), (100, 50)))


def test_skewed_detector_is_refused():
    view = XrayView([0, -600, 0], [0, 400, 0], [1, 0, 0], [0.2, 0, -1], (10, 10))
    with pytest.raises(ValueError, match="perpendicular"):
        RtkProjection.from_view(view)


@pytest.fixture(scope="module")
def itk_rtk():
    """The modules itk and RTK, with an empty geometry's constructor."""
    itk = pytest.importorskip("itk", reason="needs itk-rtk")
    try:
        from itk import RTK
    except ImportError:
        pytest.skip("needs itk-rtk")
    return itk, RTK.ThreeDCircularProjectionGeometry.New


@given(projection=PROJECTIONS)
@settings(max_examples=25, deadline=None)
def test_same_projection_as_rtk(itk_rtk, projection: RtkProjection):
    itk, new = itk_rtk
    geometry = new()
    geometry.AddProjectionInRadians(*astuple(projection))
    matrix = itk.array_from_matrix(geometry.GetMatrix(0))  # LPS mm to projection coordinates in mm
    homogeneous = POINTS @ matrix[:, :3].T + matrix[:, 3]
    np.testing.assert_allclose(projection.to_view((1, 1), (10, 10)).project(POINTS), homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_same_parameters_as_rtk_finds_from_vectors(itk_rtk, seed: int, mirrored: bool):
    itk, new = itk_rtk
    view, geometry = _view(seed, mirrored), new()
    pitch_column, pitch_row = view.pixel_pitch_mm
    added = geometry.AddProjection(
        itk.Point[itk.D, 3](view.source_lps_mm.tolist()),
        itk.Point[itk.D, 3](view.detector_origin_lps_mm.tolist()),
        itk.Vector[itk.D, 3]((view.column_step_lps_mm / pitch_column).tolist()),
        itk.Vector[itk.D, 3]((view.row_step_lps_mm / pitch_row).tolist()),
    )
    assert added
    lengths = {
        "source_to_isocenter_mm": geometry.GetSourceToIsocenterDistances,
        "source_to_detector_mm": geometry.GetSourceToDetectorDistances,
        "projection_offset_x_mm": geometry.GetProjectionOffsetsX,
        "projection_offset_y_mm": geometry.GetProjectionOffsetsY,
        "source_offset_x_mm": geometry.GetSourceOffsetsX,
        "source_offset_y_mm": geometry.GetSourceOffsetsY,
    }
    angles = {
        "gantry_angle_rad": geometry.GetGantryAngles,
        "out_of_plane_angle_rad": geometry.GetOutOfPlaneAngles,
        "in_plane_angle_rad": geometry.GetInPlaneAngles,
    }
    projection = RtkProjection.from_view(view)
    for name, get in lengths.items():
        assert getattr(projection, name) == pytest.approx(get()[0], abs=1e-6)
    for name, get in angles.items():
        assert np.cos(getattr(projection, name) - get()[0]) == pytest.approx(1, abs=1e-12)
