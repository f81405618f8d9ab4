"""Beads in Slicer's point lists: what is written is read back, RAS and LPS name the same points, anything else is an InputError."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from IntraopReconLib.core.calibration.correspondence import Beads
from IntraopReconLib.core.calibration.fiducials import Fiducials, read_fiducials, write_fiducials
from SparseAnatomyLib.errors import InputError

POINT = {"id": "1", "label": "F-1", "position": [10.0, -20.0, 30.0], "positionStatus": "defined"}
MARKUP = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": [POINT]}


def _read(folder: Path, *markups: object) -> Fiducials:
    path = folder / "beads.mrk.json"
    path.write_text(json.dumps({"markups": list(markups)}), encoding="utf-8")
    return read_fiducials(path)


def _with(**changes: object) -> dict:
    return MARKUP | {"controlPoints": [{name: value for name, value in (POINT | changes).items() if value is not ...}]}


@given(
    position=arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-5000, 5000)),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_round_trip_keeps_every_bit(tmp_path_factory, position, data):
    kind = data.draw(arrays(np.int64, len(position), elements=st.integers(0, 2)))
    labels = data.draw(
        st.lists(st.text(st.characters(codec="utf-8", categories=("L", "N"))), min_size=len(position), max_size=len(position))
    )
    labels = ["" if {"small", "large"} & {label.lower()} else label for label in labels]
    path = tmp_path_factory.mktemp("beads") / "beads.mrk.json"
    write_fiducials(path, Fiducials(position, kind, tuple(labels)))
    beads = read_fiducials(path)
    np.testing.assert_array_equal(beads.position_lps_mm, position)
    np.testing.assert_array_equal(beads.kind, kind)
    assert list(beads.labels) == labels and [file.name for file in path.parent.iterdir()] == [path.name]


def test_beads_without_names_are_numbered(tmp_path):
    write_fiducials(tmp_path / "beads.mrk.json", Beads(np.eye(3)))
    assert read_fiducials(tmp_path / "beads.mrk.json").labels == ("bead-1", "bead-2", "bead-3")


def test_ras_is_turned_into_lps(tmp_path):
    beads = _read(tmp_path, MARKUP, MARKUP | {"coordinateSystem": "RAS"}, {"type": "ROI", "center": [0, 0, 0]})
    assert beads.position_lps_mm.tolist() == [[10, -20, 30], [-10, 20, 30]]


def test_points_that_were_not_placed_are_left_out(tmp_path):
    pending = [POINT | {"positionStatus": status, "position": None} for status in ("undefined", "preview", "missing")]
    assert len(_read(tmp_path, MARKUP | {"controlPoints": [*pending, POINT]})) == 1


@pytest.mark.parametrize(
    ("label", "description", "kind"),
    [("Large 3", "", 2), ("b_large_3", "", 2), ("3", "small", 1), ("enlarged", "", 0), ("3", "", 0), ("large", "small", 0), (None, 7, 0)],
)
def test_the_size_class_is_what_the_label_or_the_description_says(tmp_path, label, description, kind):
    assert _read(tmp_path, _with(label=label, description=description)).kind.tolist() == [kind]


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_what_slicer_itself_writes_and_reads(tmp_path, system):
    slicer = pytest.importorskip("slicer")
    scene, node = slicer.vtkMRMLScene(), slicer.vtkMRMLMarkupsFiducialNode()
    scene.AddNode(node)
    node.AddControlPoint([1.5, -2.5, 3.5], "one")  # RAS
    node.AddControlPoint([4, 5, -6], "two")
    storage = slicer.vtkMRMLMarkupsJsonStorageNode()
    scene.AddNode(storage)
    storage.SetCoordinateSystem(getattr(slicer.vtkMRMLStorageNode, f"CoordinateSystem{system}"))
    storage.SetFileName(str(tmp_path / "slicer.mrk.json"))
    assert storage.WriteData(node)
    beads = read_fiducials(tmp_path / "slicer.mrk.json")
    np.testing.assert_allclose(beads.position_lps_mm, [[-1.5, 2.5, 3.5], [-4, -5, -6]])
    assert beads.labels == ("one", "two")

    write_fiducials(tmp_path / "ours.mrk.json", beads)
    again = slicer.vtkMRMLMarkupsFiducialNode()
    scene.AddNode(again)
    storage.SetFileName(str(tmp_path / "ours.mrk.json"))
    assert storage.ReadData(again)
    assert [again.GetNthControlPointLabel(n) for n in range(2)] == ["one", "two"]
    np.testing.assert_allclose(list(again.GetNthControlPointPosition(0)), [1.5, -2.5, 3.5])


@pytest.mark.parametrize(
    ("markup", "said"),
    [
        (_with(position=...), "point 1.*three numbers"),
        (_with(position=[1, 2]), "point 1.*three numbers"),
        (_with(position=[1, 2, "x"]), "point 1.*three numbers"),
        (_with(position=[1, 2, True]), "point 1.*three numbers"),
        (_with(position=[1, 2, float("nan")]), "point 1.*three numbers"),
        (_with(position=[1, 2, float("inf")]), "point 1.*three numbers"),
        (_with(position=[1, 2, 10**400]), "point 1.*three numbers"),
        (_with(position=[1, 2, 3, 4]), "point 1.*three numbers"),
        (_with(position=[[1], [2], [3]]), "point 1.*three numbers"),
        (_with(position=[0, 0, 1e8]), "point 1.*away"),
        (MARKUP | {"coordinateSystem": "IJK"}, "coordinate system"),
        (MARKUP | {"coordinateSystem": ["LPS"]}, "coordinate system"),
        (MARKUP | {"coordinateUnits": "um"}, "millimeters"),
        (MARKUP | {"controlPoints": []}, "no points"),
        (MARKUP | {"controlPoints": None}, "control points"),
        (MARKUP | {"controlPoints": [3]}, "control points"),
        (MARKUP | {"type": "ROI"}, "no points"),
    ],
)
def test_a_bad_list_is_one_sentence_that_names_the_file(tmp_path, markup, said):
    with pytest.raises(InputError, match=said) as caught:
        _read(tmp_path, markup)
    assert "beads.mrk.json" in caught.value.message and caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"markups": 3}', b'{"markups": [3, null]}', b"[" * 100_000])
def test_no_file_content_gives_anything_but_an_input_error(tmp_path, content):
    path = tmp_path / "beads.mrk.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"beads\.mrk\.json"):
        read_fiducials(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*MARKUP, *POINT]), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from([*MARKUP, *POINT]), JSON)
@settings(max_examples=100, deadline=None)
def test_any_value_in_any_field_is_read_or_refused(tmp_path_factory, field, value):
    path = tmp_path_factory.mktemp("noise") / "beads.mrk.json"
    markup = MARKUP | {field: value} if field in MARKUP else _with(**{field: value})
    path.write_text(json.dumps({"markups": [markup]}))
    try:
        assert len(read_fiducials(path)) >= 1
    except InputError as error:
        assert "beads.mrk.json" in error.message and error.remedy


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_fiducials(tmp_path / "missing.mrk.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_fiducials(tmp_path)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "beads.mrk.json"
    path.write_text("old")
    beads = Beads(np.eye(3))
    beads.position_lps_mm[0, 0] = np.nan
    with pytest.raises(ValueError):
        write_fiducials(path, beads)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
