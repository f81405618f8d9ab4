"""Pose files of other programs: written and read they state the same rays, and rays worked out by hand come out as stated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_file_scenes import (
    IMAGE,
    KNOWN,
    PHANTOM,
    PIXEL,
    POINT,
    SIZE,
    VIEWS,
    case_images_of,
    check_same,
    import_text,
    make_view,
    posed_images,
    square_pixels,
)

from IntraopReconLib.core.calibration.correspondence import Beads
from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.core.calibration.formats.file_pose import Detector, oriented
from IntraopReconLib.core.calibration.formats.itk_transform import read_transform
from IntraopReconLib.core.calibration.formats.mayacam import read_mayacam
from IntraopReconLib.core.calibration.pose_formats import export_poses, import_poses, unseen_beads
from IntraopReconLib.core.calibration.poses import PosedImage, write_poses
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import LPS_FROM_RAS, affine

FORMATS = {
    "matrices": "poses.txt",
    "matrices-json": "poses.json",
    "rtk": "geometry.xml",
    "slicer": "transforms",
    "mayacam": "maya",
    "mayacam1": "maya1",
}


@pytest.mark.parametrize("format", FORMATS)
@given(views=st.lists(VIEWS, min_size=2, max_size=4))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, format, views):
    posed = posed_images([square_pixels(view) if format == "mayacam1" else view for view in views])
    path = tmp_path_factory.mktemp(format) / FORMATS[format]
    written = export_poses(posed, path, format)
    assert all(file.is_file() for file in written)
    for before, after in zip(posed, import_poses(path, case_images_of(posed)), strict=True):
        assert (after.image, after.frame) == (before.image, before.frame)
        check_same(after.view, before.view)


@pytest.mark.parametrize("format", FORMATS)
def test_files_of_one_camera_each_and_named_views_find_their_image(tmp_path, format):
    views = [square_pixels(make_view(np.array(d), 10, (0.5, 0.7), np.zeros(3), 600)) for d in ([1, 0, 0], [0.2, 1, 0.1], [1, 1, 0.3])]
    posed = [PosedImage("xrays/b.dcm", views[0], 4), PosedImage("xrays/b.dcm", views[1], 11), PosedImage("xrays/a.dcm", views[2])]
    path = tmp_path / FORMATS[format]
    export_poses(posed, path, format)
    images = case_images_of(posed)
    if format in ("matrices", "rtk"):  # by order
        images = [images[2], images[0], images[1]]
        found = import_poses(path, images)
        check_same(found[0].view, views[0])
        return
    found = import_poses(path, [images[2], images[0], images[1]])
    assert [(one.image, one.frame) for one in found] == [("xrays/a.dcm", 0), ("xrays/b.dcm", 4), ("xrays/b.dcm", 11)]
    check_same(found[0].view, views[2])
    check_same(found[2].view, views[1])


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
    (view,) = import_text(tmp_path, "poses.txt", text)
    np.testing.assert_allclose(view.project(POINT), PIXEL)
    check_same(view, KNOWN)


@pytest.mark.parametrize("wrap", [lambda m: [m], lambda m: {"matrices": [m]}, lambda m: {"views": [{"matrix": m, "size_px": [300, 200]}]}])
def test_known_matrix_in_json(tmp_path, wrap):
    matrix = [[float(word) for word in line.split()] for line in MATRIX.splitlines()]
    (view,) = import_text(tmp_path, "poses.json", json.dumps(wrap(matrix)))
    check_same(view, KNOWN)
    (view,) = import_text(tmp_path, "poses", json.dumps(wrap(matrix)))  # a bare list also reads as text, brackets being no more than blanks
    check_same(view, KNOWN)


def test_ras_centimeters_and_rows_from_the_bottom(tmp_path):
    ras_cm = LPS_FROM_RAS @ np.diag([10.0, 10, 10, 1])  # columns: from the file's coordinates to LPS mm
    flip = np.array([[1, 0, 0], [0, -1, 199.0], [0, 0, 1]])
    matrix = flip @ np.array([[float(word) for word in line.split()] for line in MATRIX.splitlines()]) @ ras_cm
    text = "\n".join(" ".join(map(str, row)) for row in matrix)
    (view,) = import_text(tmp_path, "poses.txt", text, coordinate_system="RAS", unit="cm", rows_up=True)
    check_same(view, KNOWN)
    with pytest.raises(InputError, match="mirrored") as caught:
        import_text(tmp_path, "poses.txt", text, coordinate_system="RAS", unit="cm")
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
    (view,) = import_text(tmp_path, "camera.txt", text)
    np.testing.assert_allclose(view.project(POINT), PIXEL)
    check_same(view, KNOWN)


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


@given(VIEWS.map(square_pixels))
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
    check_same(pose.view(Detector(view.size_px, tuple(view.pixel_pitch_mm)), np.eye(4)), view, atol=1e-6)


def test_known_slicer_transform(tmp_path):
    """Columns of camera_from_patient: left is the camera's x, posterior its z, superior minus its y; 600 mm before the patient's origin."""
    head = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    text = head + "Parameters: 1 0 0 0 0 -1 0 1 0 0 0 600\nFixedParameters: 0 0 0\n"
    (tmp_path / "camera.json").write_text(
        json.dumps({"source_to_detector_mm": 1000, "pixel_pitch_mm": 0.5, "principal_point_px": [100, 80]})
    )
    (view,) = import_text(tmp_path, "camera.tfm", text)
    np.testing.assert_allclose(view.project(POINT), PIXEL)
    check_same(view, KNOWN)


def test_slicer_itself_shows_the_camera_where_the_transform_puts_it(tmp_path):
    slicer = pytest.importorskip("slicer")
    posed = [PosedImage("xrays/one.dcm", KNOWN)]
    for suffix in ("tfm", "h5"):
        from IntraopReconLib.core.calibration.formats.itk_transform import write_transform

        path = tmp_path / f"one.{suffix}"
        write_transform(path, posed[0])
        check_same(read_transform(path)[0].view(Detector(SIZE), np.eye(4)), KNOWN)
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
        check_same(read_transform(tmp_path / f"again.{suffix}")[0].view(Detector(SIZE), np.eye(4)), KNOWN)


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
    check_same(first.view, other)
    check_same(second.view, KNOWN)


@pytest.mark.parametrize("format", ["slicer", "mayacam"])
def test_images_named_by_their_identifiers_keep_their_last_number(tmp_path, format):
    names = ["xrays/1.2.840.1", "xrays/1.2.840.2", "xrays/1.2.840.3.dcm", "xrays/knee.left.ima"]
    views = [KNOWN.transformed(affine(np.eye(3), [shift, 0, 0])) for shift in range(4)]
    posed = [PosedImage(name, square_pixels(view)) for name, view in zip(names, views, strict=True)]
    written = export_poses(posed, tmp_path / "out", format)
    assert {file.stem for file in written} == {"1.2.840.1", "1.2.840.2", "1.2.840.3", "knee.left"}
    found = import_poses(tmp_path / "out", case_images_of(posed[::-1]))
    for before, after in zip(posed[::-1], found, strict=True):
        assert after.image == before.image
        check_same(after.view, before.view)


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
