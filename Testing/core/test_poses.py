"""poses.json: what is written is read back; whatever else stands there is an InputError that names the view and the field."""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from IntraopReconLib.core.calibration.poses import PosedImage, read_poses, write_poses
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView

VIEW = {
    "image": "xrays/view_000.dcm",
    "frame": 0,
    "size_px": [256, 200],
    "source_lps_mm": [0, -600, 0],
    "detector_origin_lps_mm": [-178.5, 420, 178.5],
    "column_step_lps_mm": [1.4, 0, 0],
    "row_step_lps_mm": [0, 0, -1.4],
    "air_intensity": 60000,
    "reprojection_rms_px": 0.4,
    "grade": "green",
}
DOCUMENT = {"format": "SparseAnatomy poses", "version": 1, "coordinate_system": "LPS", "units": "mm", "views": [VIEW]}
ABSENT = object()


def _read(folder: Path, document: object) -> list[PosedImage]:
    path = folder / "poses.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_poses(path)


def _with(**changes: object) -> dict:
    """Return the document with fields of its view changed or removed."""
    view = {name: value for name, value in {**VIEW, **changes}.items() if value is not ABSENT}
    return {**DOCUMENT, "views": [view]}


def test_reads_the_documented_example(tmp_path: Path):
    (posed,) = _read(tmp_path, DOCUMENT)
    assert (posed.image, posed.frame, posed.size_px, posed.grade) == ("xrays/view_000.dcm", 0, (256, 200), "green")
    assert (posed.air_intensity, posed.reprojection_rms_px) == (60000, 0.4)
    assert posed.view.source_to_detector_mm == pytest.approx(1020)
    np.testing.assert_allclose(posed.view.row_step_lps_mm, [0, 0, -1.4])


def test_optional_keys_may_be_absent(tmp_path: Path):
    (posed,) = _read(tmp_path, _with(frame=ABSENT, air_intensity=ABSENT, reprojection_rms_px=ABSENT, grade=ABSENT))
    assert (posed.frame, posed.air_intensity, posed.reprojection_rms_px, posed.grade) == (0, None, None, None)


def test_round_trip_keeps_every_bit(tmp_path: Path):
    rng = np.random.default_rng(0)
    views = [
        XrayView(
            10 * rng.normal(size=3) - np.array([0, 600, 0]),
            rng.normal(size=3) + np.array([0, 400, 0]),
            [0.3 + 1e-9 * i, 1e-3, 0],
            [0, 0, -1 / 3],
            (7, 5),
        )
        for i in range(3)
    ]
    written = [PosedImage("xrays/α β.dcm", view, frame, 1 / 3 * 1e4 if frame else None) for frame, view in enumerate(views)]
    write_poses(tmp_path / "poses.json", written)
    for before, after in zip(written, read_poses(tmp_path / "poses.json"), strict=True):
        assert (before.image, before.frame, before.air_intensity, before.size_px) == (
            after.image, after.frame, after.air_intensity, after.size_px,
        )  # fmt: skip
        for name in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm"):
            np.testing.assert_array_equal(getattr(before.view, name), getattr(after.view, name))


@pytest.mark.parametrize("name", ["山田\u3000太郎", "a\u00a0b", "R\udcf6ntgen", "ro\u00adse"])
def test_names_of_any_script_are_read_as_they_were_written(tmp_path: Path, name: str):
    write_poses(tmp_path / "poses.json", [replace(_read(tmp_path, DOCUMENT)[0], image=f"xrays/{name}.dcm")])
    assert read_poses(tmp_path / "poses.json")[0].image == f"xrays/{name}.dcm"


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path):
    path = tmp_path / "poses.json"
    path.write_text("old")
    (posed,) = _read(tmp_path / ".", DOCUMENT)
    path.write_text("old")
    with pytest.raises(ValueError):
        write_poses(path, [PosedImage(posed.image, posed.view, air_intensity=float("nan"))])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["poses.json"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_lps_mm": ABSENT}, "source_lps_mm.*missing"),
        ({"source_lps_mm": [0, -600]}, "source_lps_mm.*three numbers"),
        ({"source_lps_mm": [0, "x", 0]}, "source_lps_mm.*finite"),
        ({"source_lps_mm": [0, True, 0]}, "source_lps_mm.*finite"),
        ({"source_lps_mm": [0, float("nan"), 0]}, "source_lps_mm.*finite"),
        ({"source_lps_mm": [0, float("inf"), 0]}, "source_lps_mm.*finite"),
        ({"source_lps_mm": [0, 10**400, 0]}, "source_lps_mm.*finite"),
        ({"source_lps_mm": [0, 420, 0]}, "source_lps_mm"),
        ({"source_lps_mm": [0, 300, 0]}, "source_lps_mm.*120 mm"),
        ({"source_lps_mm": [0, 1440, 0]}, "mirrored"),
        ({"column_step_lps_mm": [-1.4, 0, 0]}, "mirrored"),
        ({"column_step_lps_mm": [0, 0, 0]}, "column_step_lps_mm"),
        ({"column_step_lps_mm": [0, 0, 1.4]}, "column_step_lps_mm"),
        ({"column_step_lps_mm": [1.4, 0, 1.0]}, "perpendicular"),
        ({"source_lps_mm": [0, -0.6, 0], "detector_origin_lps_mm": [-0.1785, 0.42, 0.1785]}, "source_lps_mm.*1.02 mm"),
        ({"column_step_lps_mm": [0.0014, 0, 0], "row_step_lps_mm": [0, 0, -0.0014]}, "column_step_lps_mm.*pitch"),
        ({"detector_origin_lps_mm": [1e9, 420, 0]}, "detector_origin_lps_mm.*away"),
        ({"size_px": [256]}, "size_px"),
        ({"size_px": [256, 0]}, "size_px"),
        ({"size_px": [256, 1.5]}, "size_px"),
        ({"size_px": "256"}, "size_px"),
        ({"frame": -1}, "frame"),
        ({"frame": 0.5}, "frame"),
        ({"air_intensity": "bright"}, "air_intensity"),
        ({"air_intensity": float("nan")}, "air_intensity"),
        ({"reprojection_rms_px": -1}, "reprojection_rms_px"),
        ({"grade": "purple"}, "grade"),
        ({"grade": ["green"]}, "grade"),
        ({"image": ABSENT}, "image"),
        ({"image": 3}, "image"),
        ({"image": ""}, "image"),
        ({"image": "xrays/\0.dcm"}, "image"),
        ({"image": "xrays/a\nb.dcm"}, "image"),
        ({"image": "xrays/\x85.dcm"}, "image"),
        ({"image": "/etc/passwd"}, "outside"),
        ({"image": "../other/view.dcm"}, "outside"),
        ({"image": "xrays/../../view.dcm"}, "outside"),
        ({"image": "..\\view.dcm"}, "outside"),
        ({"image": "C:\\view.dcm"}, "outside"),
        ({"image": "."}, "outside"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict, said: str):
    with pytest.raises(InputError, match=said) as caught:
        _read(tmp_path, _with(**changes))
    assert "view 0" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "format"),
        ({**DOCUMENT, "format": "something"}, "format"),
        ({**DOCUMENT, "version": 2}, "version 2"),
        ({**DOCUMENT, "version": True}, "version True"),
        ({**DOCUMENT, "version": None}, "version nothing"),
        ({**DOCUMENT, "coordinate_system": "RAS"}, "coordinate_system.*LPS.*RAS"),
        ({**DOCUMENT, "units": "m"}, "units.*mm"),
        ({**DOCUMENT, "views": []}, "views"),
        ({**DOCUMENT, "views": {"0": VIEW}}, "views"),
        ({**DOCUMENT, "views": [None]}, "view 0"),
        ({**DOCUMENT, "views": [VIEW, VIEW]}, "two poses of xrays/view_000.dcm"),
        ({**DOCUMENT, "views": [VIEW, {**VIEW, "image": "./xrays\\view_000.dcm"}]}, "two poses"),
    ],
)
def test_a_wrong_document_is_named(tmp_path: Path, document: object, said: str):
    with pytest.raises(InputError, match=said):
        _read(tmp_path, document)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'"' + b"\xed\xa0\x80" + b'"', b"PK\x03\x04"])
def test_no_json(tmp_path: Path, content: bytes):
    path = tmp_path / "poses.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"poses\.json"):
        read_poses(path)


def test_missing_file_and_folder_in_its_place(tmp_path: Path):
    with pytest.raises(InputError, match=r"poses\.json is missing"):
        read_poses(tmp_path / "poses.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_poses(tmp_path)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_documents_are_valid_or_an_input_error(data: st.DataObject):
    document = copy.deepcopy(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(st.sampled_from([document, document["views"][0] if document.get("views") else document]))
        if not isinstance(target, dict):
            break
        target[data.draw(st.sampled_from(sorted({*VIEW, *DOCUMENT} - {"views"})))] = data.draw(JUNK)
    with tempfile.TemporaryDirectory() as folder:
        try:
            posed = _read(Path(folder), document)
        except InputError as error:
            assert "\n" not in error.message
        else:
            assert not any(image.view.is_mirrored for image in posed)


@given(position=st.integers(0, 10_000), replacement=st.binary(max_size=3))
@settings(max_examples=150, deadline=None)
def test_damaged_text_is_valid_or_an_input_error(position: int, replacement: bytes):
    content = json.dumps(DOCUMENT).encode()
    position %= len(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "poses.json"
        path.write_bytes(content[:position] + replacement + content[position + 1 :])
        try:
            assert read_poses(path)
        except InputError as error:
            assert "poses.json" in error.message
