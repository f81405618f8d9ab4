"""Damaged pose files: whatever stands in one, it is read or refused with a sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from IntraopReconLib.core.calibration.formats.itk_transform import read_transform
from IntraopReconLib.core.calibration.formats.matrices import read_matrices
from IntraopReconLib.core.calibration.formats.mayacam import read_mayacam
from IntraopReconLib.core.calibration.formats.rtk_xml import read_rtk
from IntraopReconLib.core.calibration.pose_formats import CaseImage, Detector, export_poses, import_poses
from IntraopReconLib.core.calibration.poses import PosedImage
from IntraopReconLib.core.calibration_config import PoseFileSettings
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView

SIZE = (300, 200)
FRONT = XrayView([0, -600, 0], [-75, 400, 50], [0.5, 0, 0], [0, 0, -0.5], SIZE)
SIDE = XrayView([600, 0, 0], [-400, -75, 50], [0, 0.5, 0], [0, 0, -0.5], SIZE)
POSED = [PosedImage("xrays/a.dcm", FRONT), PosedImage("xrays/b.dcm", SIDE)]
IMAGES = [CaseImage(one.image, 0, Detector(SIZE, (0.5, 0.5), 1000.0)) for one in POSED]
FILES = {
    "matrices": ("poses.txt", "poses.txt", read_matrices),
    "matrices-json": ("poses.json", "poses.json", read_matrices),
    "rtk": ("poses.xml", "poses.xml", read_rtk),
    "mayacam": ("out", "out/a.txt", read_mayacam),
    "mayacam1": ("out", "out/a.csv", read_mayacam),
    "slicer": ("out", "out/a.tfm", read_transform),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """Return a sound file of each format."""
    found = {}
    for format, (out, name, _) in FILES.items():
        folder = tmp_path_factory.mktemp(format)
        export_poses(POSED, folder / out, format)
        found[format] = (folder / name).read_bytes()
    return found


def _read_or_refused(path: Path, read) -> None:
    """Read a file; anything but poses that make views or a sentence with the file's name is an error."""
    try:
        poses = read(path)
        assert poses
        for pose in poses:
            view = pose.view(Detector(pose.size_px if getattr(pose, "size_px", None) else SIZE, (0.5, 0.5), 1000.0), np.eye(4))
            assert np.isfinite(view.projection_matrix).all()
    except InputError as error:
        assert path.stem in error.message and error.remedy


@pytest.mark.parametrize("format", FILES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_altered_files_are_read_or_refused(tmp_path_factory, sound, format, data):
    content = bytearray(sound[format])
    path = tmp_path_factory.mktemp("damage") / Path(FILES[format][1]).name
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content)), label="length")]
    for _ in range(data.draw(st.integers(0, 4), label="changes")):
        if content:
            words = st.sampled_from([b"nan", b"inf", b"-", b"1e999", b"x", b"\n", b",", b" ", b"<", b"&", b"\xff", b"0", b"[", b"{", b"}"])
            at = data.draw(st.integers(0, len(content)), label="at")
            content[at : at + data.draw(st.integers(0, 3), label="lost")] = data.draw(words, label="inserted")
    path.write_bytes(content)
    _read_or_refused(path, FILES[format][2])


@pytest.mark.parametrize("format", FILES)
@given(content=st.binary(max_size=300) | st.text(st.sampled_from("0123456789.,- \n#e[]{}<>\"'a"), max_size=300).map(str.encode))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused_by_reader_and_door(tmp_path_factory, format, content):
    path = tmp_path_factory.mktemp("noise") / Path(FILES[format][1]).name
    path.write_bytes(content)
    _read_or_refused(path, FILES[format][2])
    try:
        import_poses(path, IMAGES)
    except InputError as error:
        assert error.remedy


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "0", "x", 10**400, None, True, [], [[1, 2, 3]], {}, [[[0] * 4] * 3], -1, 1e300]
)
@pytest.mark.parametrize("field", ["matrix", "size_px", "source_to_detector_mm", "frame", "image"])
def test_any_value_in_any_field_of_the_json_is_read_or_refused(tmp_path, field, value):
    view = {"matrix": FRONT.projection_matrix.tolist(), "size_px": [300, 200], "source_to_detector_mm": 1000, "frame": 0, "image": "a.dcm"}
    path = tmp_path / "poses.json"
    path.write_text(json.dumps({"views": [view | {field: value}]}))
    _read_or_refused(path, read_matrices)


@pytest.mark.parametrize(
    ("format", "old", "new", "said"),
    [
        ("matrices", "0 1 0 600", "0 1 0", "line 5: expected 4 numbers, the next row"),
        ("matrices", "0 1 0 600", "0 one 0 600", "line 5 is not made of numbers"),
        ("matrices", "0 1 0 600", "0 nan 0 600", "line 5 holds NaN"),
        ("matrices", "0 1 0 600", "0 0 0 600", "view 0.*singular"),
        ("matrices", "0 1 0 600", "", "the last matrix has 2 of 3 rows"),
        ("matrices-json", '"matrix"', '"martix"', "view 0, matrix: expected 3 × 4"),
        ("matrices-json", '"LPS"', '"RAS"', "coordinate_system"),
        ("matrices-json", '"mm"', '"m"', "units"),
        ("rtk", 'version="3"', 'version="7"', "version 7"),
        ("rtk", "<GantryAngle>", "<GantryAngle>x", "projection 0, GantryAngle: expected 1 number"),
        ("rtk", "<SourceOffsetX>", "<SourceOffsetX>1", "Matrix and its parameters"),
        ("rtk", "</Projection>", "", "valid XML"),
        ("rtk", "<Projection>", "<RadiusCylindricalDetector>9</RadiusCylindricalDetector><Projection>", "cylinder"),
        ("rtk", "<!DOCTYPE RTKGEOMETRY>", '<!DOCTYPE x [<!ENTITY a "aaaa">]>', "document type"),
        ("rtk", "<!DOCTYPE RTKGEOMETRY>", '<!DOCTYPE x SYSTEM "file:///etc/passwd">', "document type"),
        ("rtk", "<!DOCTYPE RTKGEOMETRY>", '<!DOCTYPE x PUBLIC "-//x" "x.dtd">', "document type"),
        ("rtk", "<GantryAngle>", "<GantryAngle>&a;", "valid XML"),
        ("mayacam", "rotation", "roatation", '"rotation" is missing'),
        ("mayacam", "rotation\n", "rotation\n1,2\n", "line 10: expected 3 numbers"),
        ("mayacam", "rotation\n1", "rotation\n-1", "mirrored"),
        ("mayacam", "300,200", "300,0", "image size"),
        ("mayacam", "300,200", "300,199", "300 × 199 pixels, but its image has 300 × 200"),
        ("mayacam", "\n0,0,1", "\n0,0,2", "camera matrix"),
        ("mayacam1", "-2000", "2000", "line 4.*below zero"),
        ("slicer", "1 0 0 ", "2 0 0 ", "scales"),
        ("slicer", "AffineTransform", "TrickTransform", "linear transform"),
        ("slicer", "600", "nan", "linear transform|nowhere"),
    ],
)
def test_the_sentence_names_the_line_or_the_field(tmp_path, sound, format, old, new, said):
    text = sound[format].decode()
    assert old in text
    path = tmp_path / Path(FILES[format][1]).name
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said) as caught:
        FILES[format][2](path)[0].view(IMAGES[0].detector, np.eye(4))
    assert path.name in caught.value.message and caught.value.remedy


def test_another_xml_file_is_named_as_such(tmp_path, sound):
    (tmp_path / "scene.xml").write_text(sound["rtk"].decode().replace("RTKThreeDCircularGeometry", "MRML"))
    with pytest.raises(InputError, match="scene.xml is not a geometry of RTK: it begins with <MRML>"):
        import_poses(tmp_path / "scene.xml", IMAGES)


def test_entities_that_grow_are_never_expanded(tmp_path):
    bomb = '<!DOCTYPE b [<!ENTITY a0 "a">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 30)) + "]><b>&a29;</b>"
    (tmp_path / "bomb.xml").write_text(bomb)
    with pytest.raises(InputError, match="document type"):
        import_poses(tmp_path / "bomb.xml", IMAGES)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_hdf5_transform_is_refused(tmp_path, share):
    from IntraopReconLib.core.calibration.formats.itk_transform import write_transform

    write_transform(tmp_path / "a.h5", POSED[0])
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a\.h5"):
        import_poses(tmp_path / "a.h5", IMAGES[:1])


@pytest.mark.parametrize(
    ("format", "images", "said"),
    [
        ("matrices", IMAGES[:1], "2 poses, but 1 images"),
        ("rtk", [*IMAGES, IMAGES[0]], "2 poses, but 3 images"),
        ("rtk", [CaseImage(one.image, 0, Detector(SIZE)) for one in IMAGES], "pixel pitch"),
        ("mayacam", [CaseImage(one.image, 0, Detector(SIZE)) for one in IMAGES], "pixel pitch"),
        ("mayacam", [CaseImage(one.image, 0, Detector(SIZE, (0.5, 0.6))) for one in IMAGES], "as wide as high"),
        ("matrices-json", IMAGES[:1], "belongs to no image"),
        (
            "matrices-json",
            [CaseImage(one.image, 0, Detector((300, 300))) for one in IMAGES],
            "300 × 200 pixels, but its image has 300 × 300",
        ),
        ("matrices", [], "no image"),
    ],
)
def test_poses_that_do_not_fit_the_images(tmp_path, format, images, said):
    out = tmp_path / FILES[format][0]
    export_poses(POSED, out, format)
    with pytest.raises(InputError, match=said) as caught:
        import_poses(out, images)
    assert caught.value.remedy


@pytest.mark.parametrize(("unit", "factor"), [("mm", 0.1), ("mm", 0.001), ("m", 1.0)])
def test_another_unit_is_noticed(tmp_path, unit, factor):
    rows = [" ".join(map(str, row)) for view in (FRONT, SIDE) for row in view.projection_matrix @ np.diag([1 / factor] * 3 + [1])]
    (tmp_path / "poses.txt").write_text("\n".join(rows))
    with pytest.raises(InputError, match="unit|away|sources") as caught:
        import_poses(tmp_path / "poses.txt", IMAGES, PoseFileSettings(unit=unit))
    assert "--unit" in caught.value.remedy


def test_pixels_that_a_format_cannot_state(tmp_path):
    oblong = PosedImage("xrays/a.dcm", XrayView([0, -600, 0], [-75, 400, 50], [0.5, 0, 0], [0, 0, -0.6], SIZE))
    slanted = PosedImage("xrays/a.dcm", XrayView([0, -600, 0], [-75, 400, 50], [0.5, 0, 0], [0.01, 0, -0.5], SIZE))
    with pytest.raises(InputError, match="not square"):
        export_poses([oblong], tmp_path / "out", "mayacam1")
    for format in ("mayacam", "mayacam1", "rtk", "slicer"):
        with pytest.raises(InputError, match="perpendicular"):
            export_poses([slanted], tmp_path / "out", format)
    export_poses([slanted], tmp_path / "poses.json", "matrices-json")
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["poses.json"]


@pytest.mark.parametrize("content", ["", "\n\n", "hello world", "# only a comment\n"])
def test_what_is_no_pose_file_is_refused_with_what_is_known(tmp_path, content):
    (tmp_path / "notes.txt").write_text(content)
    with pytest.raises(InputError, match=r"notes\.txt"):
        import_poses(tmp_path / "notes.txt", IMAGES)


def test_missing_files_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match=r"no file gone\.xml"):
        import_poses(tmp_path / "gone.xml", IMAGES)
    with pytest.raises(InputError, match="no pose file"):
        import_poses(tmp_path, IMAGES)
