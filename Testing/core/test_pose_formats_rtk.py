"""The geometry file of RTK: known rays, and RTK itself as the judge."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_file_scenes import IMAGE, VIEWS, check_same, import_text, posed_images

from IntraopReconLib.core.calibration.formats.file_pose import Detector
from IntraopReconLib.core.calibration.formats.rtk_xml import read_rtk, rtk_text
from SparseAnatomyLib.rtk_geometry import RtkProjection

RTK_XML = """<?xml version="1.0"?>
<!DOCTYPE RTKGEOMETRY>
<RTKThreeDCircularGeometry version="3">
    <SourceToIsocenterDistance>600</SourceToIsocenterDistance>
    <SourceToDetectorDistance>1000</SourceToDetectorDistance>
    <ProjectionOffsetX>3</ProjectionOffsetX>
  <Projection>
    <GantryAngle>90</GantryAngle>
    <Matrix>
      3 0 1000 -1800
      0 -1000 0 0
      1 0 0 -600
    </Matrix>
  </Projection>
  <Projection><GantryAngle>0</GantryAngle></Projection>
</RTKThreeDCircularGeometry>
"""


def test_known_rtk_geometry(tmp_path):
    """RTK: at gantry 0 the source is on +z, at 90 on +x; v runs along y; rows counted along v are mirrored, hence from the bottom."""
    images = [replace(IMAGE[0], image=f"{n}.dcm") for n in range(2)]
    side, front = import_text(tmp_path, "geometry.xml", RTK_XML.replace("3 0 1000 -1800", "-3 0 1000 1800"), images, rows_up=True)
    np.testing.assert_allclose(front.source_lps_mm, [0, 0, 600])
    np.testing.assert_allclose(side.source_lps_mm, [600, 0, 0], atol=1e-9)
    # The point (60, 0, 0) of the front view: u = 60 · 1000 / 600 = 100 on the detector, whose coordinates are zero at u = 3: 97 mm, 194 px
    # from the middle (149.5, 99.5). The point (0, 30, 0): v = 50 mm, 100 px towards the image's top.
    np.testing.assert_allclose(front.project([[60, 0, 0], [0, 30, 0]]), [[149.5 + 194, 99.5], [149.5 - 6, 99.5 - 100]])
    # From the side, z to the front of the source is u to the left: u = -z · 1000 / 600.
    np.testing.assert_allclose(side.project([[0, 0, 30]]), [[149.5 - 100 - 6, 99.5]])


def test_rtk_needs_the_origin_of_uncentered_images(tmp_path):
    images = [replace(IMAGE[0], image=f"{n}.dcm") for n in range(2)]
    text = RTK_XML.replace("3 0 1000 -1800", "-3 0 1000 1800")
    _, front = import_text(tmp_path, "geometry.xml", text, images, rows_up=True, first_pixel_mm=(0.0, 0.0))
    np.testing.assert_allclose(front.project([60, 30, 0]), [194, 199 - 100])


@pytest.fixture(scope="module")
def rtk():
    """RTK's Python module."""
    pytest.importorskip("itk", reason="needs itk-rtk")
    try:
        from itk import RTK
    except ImportError:
        pytest.skip("needs itk-rtk")
    return RTK


@pytest.mark.filterwarnings("ignore:builtin type .*wig:DeprecationWarning")
@given(views=st.lists(VIEWS, min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_rtk_reads_what_is_written_and_the_other_way_round(rtk, tmp_path_factory, views):
    folder = tmp_path_factory.mktemp("rtk")
    (folder / "ours.xml").write_text(rtk_text(posed_images(views)))
    geometry = rtk.read_geometry(str(folder / "ours.xml"))  # it compares the matrix with the parameters
    rtk.write_geometry(geometry, str(folder / "rtk.xml"))
    for view, pose in zip(views, read_rtk(folder / "rtk.xml"), strict=True):
        check_same(pose.view(Detector(view.size_px, tuple(view.pixel_pitch_mm)), np.eye(4)), view, atol=1e-5)


@pytest.mark.filterwarnings("ignore:builtin type .*wig:DeprecationWarning")
def test_what_rtk_itself_writes(rtk, tmp_path):
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    projections = [RtkProjection(600, 1000, 0.3, 1, 2, 0.1, 0.2, 3, 4), RtkProjection(600, 1000, 0.9, 1, 2, 0.1, 0.2, 3, 4)]
    for projection in projections:
        geometry.AddProjectionInRadians(*astuple(projection))
    geometry.SetCollimationOfLastProjection(10, 20, 30, 40)
    rtk.write_geometry(geometry, str(tmp_path / "rtk.xml"))
    for pose, projection in zip(read_rtk(tmp_path / "rtk.xml"), projections, strict=True):
        np.testing.assert_allclose(astuple(pose.projection), astuple(projection), atol=1e-9)
