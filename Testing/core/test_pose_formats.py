"""Pose files of other programs: written and read they state the same rays, and rays worked out by hand come out as stated."""

from __future__ import annotations

import json
import math
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.calibration.correspondence import Beads
from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.core.calibration.formats.file_pose import Detector, oriented
from IntraopReconLib.core.calibration.formats.itk_transform import read_transform
from IntraopReconLib.core.calibration.formats.mayacam import read_mayacam
from IntraopReconLib.core.calibration.formats.rtk_xml import read_rtk, rtk_text
from IntraopReconLib.core.calibration.pose_formats import CaseImage, export_poses, import_poses, unseen_beads
from IntraopReconLib.core.calibration.poses import PosedImage, write_poses
from IntraopReconLib.core.calibration_config import PoseFileSettings
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import LPS_FROM_RAS
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.rtk_geometry import RtkProjection

FORMATS = {
    "matrices": "poses.txt",
    "matrices-json": "poses.json",
    "rtk": "geometry.xml",
    "slicer": "transforms",
    "mayacam": "maya",
    "mayacam1": "maya1",
}
PHANTOM = np.array([[0.0, 0, 0], [30, -20, 10], [-15, 40, 25], [5, 12, -60], [70, 3, 3]])  # no symmetry, no mirror plane
VECTORS = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")


def _view(direction: np.ndarray, roll_deg: float, pitch: tuple[float, float], offset_mm: np.ndarray, distance_mm: float) -> XrayView:
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
    _view,
    DIRECTIONS.map(np.array),
    st.floats(-180, 180),
    st.tuples(st.floats(0.2, 1.5), st.floats(0.2, 1.5)).filter(lambda p: abs(p[0] / p[1] - 1) > 1e-3),
    st.tuples(*[st.floats(-40, 40)] * 3).map(np.array),
    st.floats(450, 800),
)


def _posed(views: list[XrayView]) -> list[PosedImage]:
    return [PosedImage(f"xrays/shot_{number:02d}.dcm", view) for number, view in enumerate(views)]


def _images(posed: list[PosedImage]) -> list[CaseImage]:
    return [
        CaseImage(one.image, one.frame, Detector(one.size_px, tuple(one.view.pixel_pitch_mm), one.view.source_to_detector_mm))
        for one in posed
    ]


def _same(a: XrayView, b: XrayView, atol: float = 1e-7) -> None:
    for name in VECTORS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol, err_msg=name)
    assert a.size_px == b.size_px
    np.testing.assert_allclose(a.project(PHANTOM), b.project(PHANTOM), atol=1e-5)


def _square(view: XrayView) -> XrayView:
    return replace(view, row_step_lps_mm=view.row_step_lps_mm * view.pixel_pitch_mm[0] / view.pixel_pitch_mm[1])


@pytest.mark.parametrize("format", FORMATS)
@given(views=st.lists(VIEWS, min_size=2, max_size=4))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, format, views):
    posed = _posed([_square(view) if format == "mayacam1" else view for view in views])
    path = tmp_path_factory.mktemp(format) / FORMATS[format]
    written = export_poses(posed, path, format)
    assert all(file.is_file() for file in written)
    for before, after in zip(posed, import_poses(path, _images(posed)), strict=True):
        assert (after.image, after.frame) == (before.image, before.frame)
        _same(after.view, before.view)


@pytest.mark.parametrize("format", FORMATS)
def test_files_of_one_camera_each_and_named_views_find_their_image(tmp_path, format):
    views = [_square(_view(np.array(d), 10, (0.5, 0.7), np.zeros(3), 600)) for d in ([1, 0, 0], [0.2, 1, 0.1], [1, 1, 0.3])]
    posed = [PosedImage("xrays/b.dcm", views[0], 4), PosedImage("xrays/b.dcm", views[1], 11), PosedImage("xrays/a.dcm", views[2])]
    path = tmp_path / FORMATS[format]
    export_poses(posed, path, format)
    images = _images(posed)
    if format in ("matrices", "rtk"):  # by order
        images = [images[2], images[0], images[1]]
        found = import_poses(path, images)
        _same(found[0].view, views[0])
        return
    found = import_poses(path, [images[2], images[0], images[1]])
    assert [(one.image, one.frame) for one in found] == [("xrays/a.dcm", 0), ("xrays/b.dcm", 4), ("xrays/b.dcm", 11)]
    _same(found[0].view, views[2])
    _same(found[2].view, views[1])


# Known values: a camera 600 mm before the patient (LPS: anterior is -y), the detector 400 mm behind, looking along +y, rows towards the
# feet. 1000 mm and 0.5 mm pixels make 2000 px of focal length; the principal point is (100, 80) of 300 × 200.
# A point 60 mm to the left, 30 mm up, at the isocenter's depth lies at column 100 + 2000 · 60 / 600 = 300, row 80 - 2000 · 30 / 600 = -20.
POINT = np.array([60.0, 0.0, 30.0])
PIXEL = np.array([300.0, -20.0])
SIZE = (300, 200)
KNOWN = XrayView([0, -600, 0], [-50, 400, 40], [0.5, 0, 0], [0, 0, -0.5], SIZE)
IMAGE = [CaseImage("xrays/one.dcm", 0, Detector(SIZE, (0.5, 0.5), 1000.0))]


def _import(folder: Path, name: str, text: str, images: list[CaseImage] = IMAGE, **stated: object) -> list[XrayView]:
    (folder / name).write_text(text, encoding="utf-8")
    return [one.view for one in import_poses(folder / name, images, PoseFileSettings(**stated))]


def test_the_known_view_is_as_worked_out():
    np.testing.assert_allclose(KNOWN.project(POINT), PIXEL)


MATRIX = "2000 100 0 60000\n0 80 -2000 48000\n0 1 0 600\n"


@pytest.mark.parametrize(
    "text",
    [
        MATRIX,
        "# a view\n\n  " + MATRIX.replace(" ", ", ") + "\n% done\n",
        "[[2e3, 1e2, 0, 6e4];\n [0, 80, -2000, 48000];\n [0, 1, 0, 600]]",
        MATRIX.replace("\n", " "),
        "-4000 -200 0 -120000\r\n0 -160 4000 -96000\r\n0 -2 0 -1200",
    ],
)
def test_known_matrix(tmp_path, text):
    (view,) = _import(tmp_path, "poses.txt", text)
    np.testing.assert_allclose(view.project(POINT), PIXEL)
    _same(view, KNOWN)


@pytest.mark.parametrize("wrap", [lambda m: [m], lambda m: {"matrices": [m]}, lambda m: {"views": [{"matrix": m, "size_px": [300, 200]}]}])
def test_known_matrix_in_json(tmp_path, wrap):
    matrix = [[float(word) for word in line.split()] for line in MATRIX.splitlines()]
    (view,) = _import(tmp_path, "poses.json", json.dumps(wrap(matrix)))
    _same(view, KNOWN)
    (view,) = _import(tmp_path, "poses", json.dumps(wrap(matrix)))  # a bare list also reads as text, brackets being no more than blanks
    _same(view, KNOWN)


def test_ras_centimeters_and_rows_from_the_bottom(tmp_path):
    ras_cm = LPS_FROM_RAS @ np.diag([10.0, 10, 10, 1])  # columns: from the file's coordinates to LPS mm
    flip = np.array([[1, 0, 0], [0, -1, 199.0], [0, 0, 1]])
    matrix = flip @ np.array([[float(word) for word in line.split()] for line in MATRIX.splitlines()]) @ ras_cm
    text = "\n".join(" ".join(map(str, row)) for row in matrix)
    (view,) = _import(tmp_path, "poses.txt", text, coordinate_system="RAS", unit="cm", rows_up=True)
    _same(view, KNOWN)
    with pytest.raises(InputError, match="mirrored") as caught:
        _import(tmp_path, "poses.txt", text, coordinate_system="RAS", unit="cm")
    assert "--rows-up" in caught.value.remedy


MAYACAM_2 = """image size
300,200

camera matrix
2000,0,100
0,2000,80
0,0,1

rotation
1,0,0
0,0,-1
0,1,0

translation
0
0
600
"""
# Maya's camera at (0, -600, 0): x to the left of the patient, y up (superior), z backwards (anterior): a quarter turn about x.
# The principal point's row from the bottom, counted from 1, is 200 - 80 = 120; the column counted from 1 is 101.
MAYACAM_1 = "0,-600,0\n90,0,0\n24.5,-10,-1000\n101,120,-2000\n0.5,300,200\n"


@pytest.mark.parametrize("text", [MAYACAM_2, MAYACAM_2.replace("\n", "\r\n"), MAYACAM_1])
def test_known_mayacam(tmp_path, text):
    (view,) = _import(tmp_path, "camera.txt", text)
    np.testing.assert_allclose(view.project(POINT), PIXEL)
    _same(view, KNOWN)


def test_maya_turns_about_its_own_z_then_y_then_x(tmp_path):
    """Rolled by a quarter turn about the optical axis after the quarter turn about x: x now points to the feet, y to the left."""
    (tmp_path / "camera.csv").write_text("0,-600,0\n90,90,0\n0,0,0\n101,120,-2000\n0.5,300,200\n")
    (pose,) = read_mayacam(tmp_path / "camera.csv")
    view = pose.view(Detector(SIZE, (0.5, 0.5)), np.eye(4))
    # Ry(90) turns Maya's x axis (1, 0, 0) to (0, 0, -1); its y axis, after Rx(90) at (0, 0, 1), to (1, 0, 0); its z stays at (0, -1, 0).
    np.testing.assert_allclose(view.column_step_lps_mm, [0, 0, -0.5], atol=1e-12)
    np.testing.assert_allclose(view.row_step_lps_mm, [-0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(view.project(POINT), [100 - 2000 * 30 / 600, 80 - 2000 * 60 / 600], atol=1e-9)


def test_the_example_of_autoscopers_documentation_looks_at_the_origin(tmp_path):
    """Its camera stands 904 mm from the origin of the calibration object, which lies near the middle of the image."""
    (tmp_path / "camera.csv").write_text("-737.5,-514.9,94.3\n89.7,-2.0,-55.2\n3.9,4.1,-632.5\n840.2,839.2,-6325.8\n0.1,1760,1760\n")
    (pose,) = read_mayacam(tmp_path / "camera.csv")
    view = pose.view(Detector((1760, 1760), (0.2, 0.2)), np.eye(4))
    assert np.abs(view.project(np.zeros(3)) - 880).max() < 880 and not view.is_mirrored
    assert view.lps_from_camera[2, 1] < -0.99  # rows run down: world z is up


def test_a_mayacam_1_without_a_size_is_1024(tmp_path):
    (tmp_path / "camera.csv").write_text("0,-600,0\n90,0,0\n0,0,0\n101,120,-2000\n0.1,0,0\n")
    (pose,) = read_mayacam(tmp_path / "camera.csv")
    assert pose.size_px == (1024, 1024)
    assert pose.matrix[1] @ [0, 0, 0, 1] / (pose.matrix[2] @ [0, 0, 0, 1]) == pytest.approx(1024 - 120)


@given(VIEWS.map(_square))
@settings(max_examples=30, deadline=None)
def test_mayacam_1_as_xmalab_derives_it_from_opencvs_camera(tmp_path_factory, view):
    """XMALab reverses x and z of the camera, inverts, takes the angles from the rows with two of its signs, and counts rows from below."""
    rotation, translation = np.linalg.inv(view.lps_from_camera)[:3, :3], np.linalg.inv(view.lps_from_camera)[:3, 3]
    reversed_axes = np.diag([-1.0, 1.0, -1.0])
    turned = np.linalg.inv(reversed_axes @ rotation)
    place = -turned @ reversed_axes @ translation
    angles = np.degrees([
        np.arctan2(-turned[2, 1], turned[2, 2]),
        np.arctan2(turned[2, 0], np.hypot(turned[2, 1], turned[2, 2])),
        np.arctan2(-turned[1, 0], -turned[0, 0]),
    ])  # fmt: skip
    column, row = view.principal_point_px
    focal = -np.diag(view.intrinsics_px)[:2].mean()
    principal = [column + 1, (view.size_px[1] - 1) - row + 1, focal]
    rows = [place, angles, [0, 0, 0], principal, [0.1, *view.size_px]]
    path = tmp_path_factory.mktemp("xmalab") / "camera.csv"
    path.write_text("\n".join(",".join(map(repr, map(float, line))) for line in rows))
    (pose,) = read_mayacam(path)
    _same(pose.view(Detector(view.size_px, tuple(view.pixel_pitch_mm)), np.eye(4)), view, atol=1e-6)


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
    side, front = _import(tmp_path, "geometry.xml", RTK_XML.replace("3 0 1000 -1800", "-3 0 1000 1800"), images, rows_up=True)
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
    _, front = _import(tmp_path, "geometry.xml", text, images, rows_up=True, first_pixel_mm=(0.0, 0.0))
    np.testing.assert_allclose(front.project([60, 30, 0]), [194, 199 - 100])


def test_known_slicer_transform(tmp_path):
    """Columns of camera_from_patient: left is the camera's x, posterior its z, superior minus its y; 600 mm before the patient's origin."""
    head = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    text = head + "Parameters: 1 0 0 0 0 -1 0 1 0 0 0 600\nFixedParameters: 0 0 0\n"
    (tmp_path / "camera.json").write_text(
        json.dumps({"source_to_detector_mm": 1000, "pixel_pitch_mm": 0.5, "principal_point_px": [100, 80]})
    )
    (view,) = _import(tmp_path, "camera.tfm", text)
    np.testing.assert_allclose(view.project(POINT), PIXEL)
    _same(view, KNOWN)


def test_slicer_itself_shows_the_camera_where_the_transform_puts_it(tmp_path):
    slicer = pytest.importorskip("slicer")
    posed = [PosedImage("xrays/one.dcm", KNOWN)]
    for suffix in ("tfm", "h5"):
        from IntraopReconLib.core.calibration.formats.itk_transform import write_transform

        path = tmp_path / f"one.{suffix}"
        write_transform(path, posed[0])
        _same(read_transform(path)[0].view(Detector(SIZE), np.eye(4)), KNOWN)
        scene, node, storage = slicer.vtkMRMLScene(), slicer.vtkMRMLLinearTransformNode(), slicer.vtkMRMLTransformStorageNode()
        scene.AddNode(node)
        scene.AddNode(storage)
        storage.SetFileName(str(path))
        assert storage.ReadData(node)
        matrix = node.GetMatrixTransformToParent()
        world_ras = [matrix.MultiplyPoint([*point, 1.0])[:3] for point in ([0.0, 0, 0], [0, 0, 1000.0])]
        # The camera's origin is the source, and 1000 mm along its z axis lies the detector: (0, 400, 0) in LPS.
        np.testing.assert_allclose(world_ras, np.array([[0, -600, 0], [0, 400, 0]]) * [-1, -1, 1], atol=1e-6)
        storage.SetFileName(str(tmp_path / f"again.{suffix}"))
        assert storage.WriteData(node)
        path.with_suffix(".json").replace(tmp_path / "again.json")
        _same(read_transform(tmp_path / f"again.{suffix}")[0].view(Detector(SIZE), np.eye(4)), KNOWN)


@given(st.lists(VIEWS, min_size=2, max_size=5), st.lists(st.floats(0.001, 1000) | st.floats(-1000, -0.001), min_size=5, max_size=5))
@settings(max_examples=40, deadline=None)
def test_signs_and_scales_of_matrices_do_not_matter(views, scales):
    matrices = np.stack([view.projection_matrix * scale for view, scale in zip(views, scales, strict=False)])
    axes = np.stack([view.lps_from_camera[:3, 2] for view in views])
    if np.linalg.eigvalsh((np.eye(3) - axes[:, :, None] * axes[:, None]).sum(0))[0] < 0.05 * len(views):
        return  # nearly parallel: where they meet is anybody's guess
    np.testing.assert_allclose(oriented(matrices), [view.projection_matrix for view in views], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (["b.png", "elsewhere/a.dcm"], None),
        (["xrays/b.dcm", "xrays/a.dcm"], None),
        (["x.dcm", "y.dcm"], "belongs to no image of the case .x.dcm"),
        (["a.dcm", "y.dcm"], "belongs to no image of the case .y.dcm"),
        (["a.dcm", "xrays/a.dcm"], "Two poses belong to the same image"),
    ],
)
def test_images_that_the_file_names_are_found_or_missed(tmp_path, stated, said):
    images = [replace(IMAGE[0], image="xrays/a.dcm"), replace(IMAGE[0], image="xrays/b.dcm")]
    other = KNOWN.transformed(np.diag([-1.0, -1, 1, 1]))
    views = [{"image": name, "matrix": view.projection_matrix.tolist()} for name, view in zip(stated, (KNOWN, other), strict=True)]
    (tmp_path / "p.json").write_text(json.dumps({"views": views}))
    if said:
        with pytest.raises(InputError, match=said):
            import_poses(tmp_path / "p.json", images)
        return
    first, second = import_poses(tmp_path / "p.json", images)
    assert (first.image, second.image) == ("xrays/a.dcm", "xrays/b.dcm")
    _same(first.view, other)
    _same(second.view, KNOWN)


def test_our_own_file_comes_through_the_same_door(tmp_path):
    write_poses(tmp_path / "poses.json", [PosedImage("xrays/one.dcm", KNOWN, grade="green")])
    (posed,) = import_poses(tmp_path / "poses.json", IMAGE)
    assert posed.grade == "green"


def test_beads_beside_the_transforms(tmp_path):
    export_poses([PosedImage("xrays/one.dcm", KNOWN)], tmp_path / "out", "slicer", Beads(PHANTOM))
    np.testing.assert_array_equal(read_fiducials(tmp_path / "out" / "fiducials.mrk.json").position_lps_mm, PHANTOM)
    assert import_poses(tmp_path / "out", IMAGE)[0].image == "xrays/one.dcm"


def test_beads_that_no_view_shows_are_noticed():
    posed = [PosedImage("xrays/one.dcm", KNOWN)]
    assert unseen_beads(posed, Beads(PHANTOM / 10)) == []
    (sentence,) = unseen_beads(posed, Beads(PHANTOM + [0, 0, 900]))
    assert "xrays/one.dcm" in sentence


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
    (folder / "ours.xml").write_text(rtk_text(_posed(views)))
    geometry = rtk.read_geometry(str(folder / "ours.xml"))  # it compares the matrix with the parameters
    rtk.write_geometry(geometry, str(folder / "rtk.xml"))
    for view, pose in zip(views, read_rtk(folder / "rtk.xml"), strict=True):
        _same(pose.view(Detector(view.size_px, tuple(view.pixel_pitch_mm)), np.eye(4)), view, atol=1e-5)


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
