"""Slicer's ROI files: the box is the same one, whatever frame and order of axes it is written in."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.config_check import check_config
from IntraopReconLib.core.roi import read_region
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid

ROI = {
    "type": "ROI",
    "coordinateSystem": "LPS",
    "coordinateUnits": "mm",
    "roiType": "Box",
    "center": [-10.0, -20.0, 30.0],
    "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],  # as Slicer writes one along the patient's axes
    "size": [40.0, 50.0, 60.0],
    "controlPoints": [{"id": "1", "position": [-10.0, -20.0, 30.0]}],
}


@pytest.fixture
def write(tmp_path):
    def write_roi(**changes):
        path = tmp_path / "box.mrk.json"
        roi = {key: value for key, value in (ROI | changes).items() if value is not ...}
        path.write_text(json.dumps({"markups": [{"type": "Fiducial"}, roi]}))
        return path

    return write_roi


def corners(region):
    """Return the box's corners in no particular order, [8, 3]."""
    half = np.array(region.extent_mm) / 2
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    return sorted((np.array(region.center_lps_mm) + (signs * half) @ np.array(region.direction).T).round(6).tolist())


def test_a_box_along_the_patient_gives_a_volume_along_the_patient(write):
    region = read_region(write())
    assert region.center_lps_mm == (-10, -20, 30) and region.extent_mm == (40, 50, 60)
    assert region.direction == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    check_config(ReconstructionConfig(region=region))


def test_ras_and_lps_state_the_same_box(write):
    turn = Rotation.from_euler("zx", [30, 20], degrees=True).as_matrix()
    flip = np.diag([-1.0, -1.0, 1.0])
    in_lps = read_region(write(orientation=turn.ravel().tolist()))
    in_ras = read_region(write(coordinateSystem="RAS", center=[10, 20, 30], orientation=(flip @ turn).ravel().tolist()))
    np.testing.assert_allclose(corners(in_lps), corners(in_ras), atol=1e-6)


@given(st.tuples(*[st.floats(-180, 180)] * 3), st.booleans())
def test_renaming_the_axes_moves_no_corner_and_makes_a_right_handed_grid(tmp_path_factory, angles_deg, mirrored):
    axes = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() * ([-1, 1, 1] if mirrored else 1)
    path = tmp_path_factory.mktemp("roi") / "box.mrk.json"
    path.write_text(json.dumps({"markups": [ROI | {"orientation": axes.ravel().tolist()}]}))
    region = read_region(path)
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    expected = np.array(ROI["center"]) + (signs * np.array(ROI["size"]) / 2) @ axes.T
    for corner in expected:
        assert np.abs(np.array(corners(region)) - corner).max(axis=1).min() < 1e-4
    assert np.linalg.det(region.direction) > 0
    VoxelGrid.box(region.center_lps_mm, region.extent_mm, 1.5, region.direction)


def test_what_slicer_itself_writes_is_read(tmp_path):
    slicer = pytest.importorskip("slicer")
    vtk = pytest.importorskip("vtk")
    scene, node = slicer.vtkMRMLScene(), slicer.vtkMRMLMarkupsROINode()
    scene.AddNode(node)
    node.SetCenter(10, 20, 30)
    node.SetSize(40, 50, 60)
    ras_from_box = np.eye(4)
    ras_from_box[:3, :3] = Rotation.from_euler("zyx", [25, -15, 40], degrees=True).as_matrix()
    ras_from_box[:3, 3] = 10, 20, 30
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ras_from_box.ravel())
    node.SetAndObserveObjectToNodeMatrix(matrix)
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "slicer.mrk.json"))
    assert storage.WriteData(node)
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    in_ras = ras_from_box[:3, 3] + (signs * [20, 25, 30]) @ ras_from_box[:3, :3].T
    expected = sorted((in_ras * [-1, -1, 1]).round(6).tolist())
    np.testing.assert_allclose(corners(read_region(tmp_path / "slicer.mrk.json")), expected, atol=1e-5)


def test_the_unit_may_be_coded_and_the_file_begin_with_a_byte_order_mark(write):
    plain = read_region(write())
    coded = write(coordinateUnits=["mm", "UCUM", "millimeter"])
    coded.write_bytes(b"\xef\xbb\xbf" + coded.read_bytes())
    assert read_region(coded) == plain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "Plane"}, "holds no ROI"),
        ({"controlPoints": []}, "no control points"),
        ({"controlPoints": ...}, "no control points"),
        ({"size": [0.0, 0.0, 0.0]}, "no extent"),
        ({"size": [40.0, -1.0, 50.0]}, "no extent"),
        ({"size": [40.0, float("nan"), 50.0]}, "valid size"),
        ({"size": [40.0, 50.0]}, "valid size"),
        ({"size": [10**400, 1, 1]}, "valid size"),
        ({"center": None}, "valid center"),
        ({"center": ["a", "b", "c"]}, "valid center"),
        ({"center": [[1], [2, 3]]}, "valid center"),
        ({"center": [float("inf"), 0.0, 0.0]}, "valid center"),
        ({"orientation": [1.0] * 9}, "perpendicular"),
        ({"orientation": [1.0, 0.0]}, "valid orientation"),
        ({"coordinateSystem": "IJK"}, "coordinate system"),
        ({"coordinateSystem": ["LPS"]}, "coordinate system"),
        ({"coordinateUnits": "m"}, "millimeters"),
        ({"coordinateUnits": ["m", "UCUM", "meter"]}, "millimeters"),
    ],
)
def test_a_bad_roi_is_one_sentence_that_names_the_file(write, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        read_region(write(**changes))
    assert "box.mrk.json" in caught.value.message and caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"markups": 3}', b'{"markups": [3, null]}', b"[" * 100_000])
def test_no_file_content_gives_anything_but_an_input_error(tmp_path, content):
    path = tmp_path / "box.mrk.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"box\.mrk\.json"):
        read_region(path)


@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "box.mrk.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_region(path)


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    for path, said in ((tmp_path / "missing.mrk.json", "no file missing"), (tmp_path, "cannot be read")):
        with pytest.raises(InputError, match=said):
            read_region(path)
