"""What a panel is told of a case's X-rays, and cases that are made of X-rays from anywhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from calibrate_scenes import ANGLES, CAMERA, make_bead_case
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from IntraopReconLib.core.calibrate_case import calibrate_case
from IntraopReconLib.core.calibrate_edits import place_beads, write_jig
from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.core.calibration.poses import read_poses
from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.collect import collect_case
from IntraopReconLib.core.describe import describe_case
from IntraopReconLib.core.xrays.dicom_writer import positioner_angles_deg
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.textfiles import writable


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """A calibrated case of five X-rays with beads; nobody writes into it."""
    folder = tmp_path_factory.mktemp("describe") / "knee"
    make_bead_case(folder)
    calibrate_case(folder)
    return folder


@pytest.fixture
def case(calibrated: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(calibrated, tmp_path / "knee")


def described(case: Path, out: Path) -> dict:
    return json.loads(describe_case(case, out)["description"].read_text())


def test_a_calibrated_case(calibrated: Path, tmp_path: Path):
    data = described(calibrated, tmp_path / "out")
    assert data["notes"] == []
    assert [view["name"] for view in data["views"]] == [f"xrays/view_{number:03d}.dcm" for number in range(len(ANGLES))]
    for view in data["views"]:
        assert view["has_pose"]
        assert view["angles_origin"] == "pose"
        assert len(view["angles_deg"]) == 2
        assert view["grade"] in ("green", "amber")
        assert len([bead for bead in view["beads"] if bead["origin"] == "detected"]) >= 8
        with Image.open(tmp_path / "out" / view["picture"]) as picture:
            assert picture.size == CAMERA.size_px
            assert picture.mode == "L"
            column, row = np.round(view["beads"][0]["center_px"]).astype(int)
            assert picture.getpixel((int(column), int(row))) > 150  # metal is bright, where it is said to be
        with Image.open(tmp_path / "out" / view["thumbnail"]) as small:
            assert max(small.size) == 96
    with np.load(tmp_path / "out" / "frames.npz") as frames:
        assert len(frames["name"]) == len(ANGLES)
        assert max(frames["attenuation_000"].shape) <= 160
        assert tuple(frames["size_px"][0]) == frames["attenuation_000"].shape[::-1]


def test_without_poses_the_angles_are_those_of_the_tags(case: Path, tmp_path: Path):
    (case / "poses.json").unlink()
    shutil.rmtree(case / "calibration")
    views = described(case, tmp_path / "out")["views"]
    assert not any(view["has_pose"] or view["is_calibrated"] or view["beads"] for view in views)
    assert {view["angles_origin"] for view in views} <= {"tags", None}


def test_damaged_files_beside_the_xrays_are_sentences(case: Path, tmp_path: Path):
    (case / "poses.json").write_text("{")
    (case / "calibration" / "calibration.json").write_text("[]")
    data = described(case, tmp_path / "out")
    assert "poses.json is not a valid JSON file" in data["notes"][0]
    assert "calibration.json is no calibration" in data["notes"][1]
    assert len(data["views"]) == len(ANGLES)


def test_a_changed_image_is_not_given_the_beads_of_the_old_one(case: Path, tmp_path: Path):
    shutil.copyfile(case / "xrays" / "view_001.dcm", case / "xrays" / "view_000.dcm")
    views = described(case, tmp_path / "out")["views"]
    assert views[0]["beads"] == []
    assert views[1]["beads"]


def test_a_folder_without_xrays_and_a_cancel(case: Path, tmp_path: Path):
    with pytest.raises(InputError, match="holds no"):
        (tmp_path / "empty").mkdir()
        describe_case(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="The case folder .* does not exist"):
        describe_case(tmp_path / "nowhere", tmp_path / "out")

    def cancel(fraction: float, message: str, preview=None) -> None:
        if fraction > 0.5:
            raise Cancelled()

    with pytest.raises(Cancelled):
        describe_case(case, tmp_path / "out", cancel)
    assert list((tmp_path / "out").iterdir()) == []


@given(primary=st.floats(-170, 170), secondary=st.floats(-80, 80), distance=st.floats(500, 1500))
def test_angles_are_those_of_the_standard(primary: float, secondary: float, distance: float):
    """PS3.3 C.8.7.5.1.2: LAO and CRA are positive; the detector stands there."""
    orbit, tilt = np.deg2rad([primary, secondary])
    towards = np.array([np.cos(tilt) * np.sin(orbit), -np.cos(tilt) * np.cos(orbit), np.sin(tilt)])
    columns = np.cross([0.0, 0.0, -1.0], towards)
    columns /= np.linalg.norm(columns)
    rows = np.cross(towards, columns)
    origin = distance / 2 * towards - 0.5 * (20 * columns + 10 * rows)
    view = XrayView(-distance / 2 * towards, origin, columns, rows, (21, 11))
    assert positioner_angles_deg(view) == pytest.approx((primary, secondary), abs=1e-6)


def test_a_case_is_its_own_case(calibrated: Path, tmp_path: Path):
    assert collect_case([calibrated], tmp_path / "cases") == (calibrated, [])
    assert not (tmp_path / "cases").exists()


def test_a_folder_of_files_becomes_a_case_once(calibrated: Path, tmp_path: Path):
    folder = shutil.copytree(calibrated / "xrays", tmp_path / "Patient images")
    (folder / "notes.txt").write_text("no X-ray")
    case, notes = collect_case([folder], tmp_path / "cases")
    assert case == tmp_path / "cases" / "Patient images"
    assert "notes.txt" in notes[0]
    assert [path.name for path in sorted((case / "xrays").iterdir())] == [f"view_{number:03d}.dcm" for number in range(len(ANGLES))]
    assert collect_case([folder], tmp_path / "cases")[0] == case
    (folder / "view_000.dcm").unlink()
    assert collect_case([folder], tmp_path / "cases")[0].name == "Patient images 2"


def test_other_x_rays_of_the_same_names_and_sizes_are_another_case(calibrated: Path, tmp_path: Path):
    for number, day in enumerate(("monday", "tuesday")):
        (tmp_path / day / "DICOM").mkdir(parents=True)
        content = bytearray((calibrated / "xrays" / "view_000.dcm").read_bytes())
        content[0] = number  # of the preamble, which says nothing
        (tmp_path / day / "DICOM" / "IM0000.dcm").write_bytes(content)
    cases = [collect_case([tmp_path / day / "DICOM"], tmp_path / "cases")[0] for day in ("monday", "tuesday", "monday")]
    assert [case.name for case in cases] == ["DICOM", "DICOM 2", "DICOM"]


def test_identifiers_are_no_names(calibrated: Path, tmp_path: Path):
    names = ["1.2.826.0.1.3680043.8.498.1234567890", "IM_0001"]
    for number, name in enumerate(names):
        shutil.copyfile(calibrated / "xrays" / f"view_{number:03d}.dcm", tmp_path / name)
    case, _ = collect_case([tmp_path / name for name in names], tmp_path / "cases")
    assert sorted(path.name for path in (case / "xrays").iterdir()) == ["IM_0001.dcm", "view_000.dcm"]


@pytest.mark.parametrize("sources", [["nowhere"], ["notes.txt"], ["empty"], ["x" * 5000], ["a\0b"], ["notes.txt/inside"]])
def test_what_holds_no_xrays_is_refused(tmp_path: Path, sources: list[str]):
    (tmp_path / "notes.txt").write_text("no X-ray")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        collect_case([tmp_path / name for name in sources], tmp_path / "cases")
    assert caught.value.remedy
    assert not (tmp_path / "cases").exists()


def test_beads_by_hand_count_and_go_again(case: Path, tmp_path: Path):
    before = described(case, tmp_path / "before")["views"][1]
    detected = [bead for bead in before["beads"] if bead["origin"] == "detected"]
    kept = [[*bead["center_px"], bead["size"]] for bead in detected[1:]]
    place_beads(case, {before["key"]: kept})
    waiting = described(case, tmp_path / "waiting")["views"]
    assert [view["placed_by_hand"] for view in waiting[:2]] == [False, True]  # as soon as the next calibration will take them
    calibrate_case(case)
    after = described(case, tmp_path / "after")["views"][1]
    assert after["placed_by_hand"]
    by_hand = [bead for bead in after["beads"] if bead["origin"] == "by hand"]
    np.testing.assert_allclose([bead["center_px"] for bead in by_hand], [bead[:2] for bead in kept], atol=0.01)
    place_beads(case, {before["key"]: None, "view_002": None})
    assert not list((case / "calibration").glob("beads_*"))


def test_beads_by_hand_are_not_those_of_an_x_ray_that_was_taken_again(case: Path, tmp_path: Path):
    view = described(case, tmp_path / "before")["views"][0]
    place_beads(case, {view["key"]: [[*bead["center_px"], bead["size"]] for bead in view["beads"][1:]]})
    assert calibrate_case(case).grades["red"] == 0
    shutil.copyfile(case / "xrays" / "view_004.dcm", case / "xrays" / "view_000.dcm")
    (case / "xrays" / "view_004.dcm").unlink()
    for _ in range(2):  # the record of the calibration is that of the new X-ray now, the list is not
        result = calibrate_case(case)
        assert any("view_000.dcm has changed since beads were placed in it" in warning for warning in result.warnings)
        assert result.grades["red"] == 0
        assert not described(case, tmp_path / "after")["views"][0]["placed_by_hand"]
    place_beads(case, {view["key"]: [[*bead["center_px"], ""] for bead in described(case, tmp_path / "new")["views"][0]["beads"]]})
    assert not any("were placed" in warning for warning in calibrate_case(case).warnings)
    assert described(case, tmp_path / "again")["views"][0]["placed_by_hand"]


@pytest.mark.parametrize("beads", [{"../x": [[1, 2, ""]]}, {"": None}, {"a/b": None}, {"a": []}, {"a": [[1, "b", ""]]}, {"a": [[1]]}])
def test_beads_that_are_none_are_refused(tmp_path: Path, beads: dict):
    with pytest.raises(InputError):
        place_beads(tmp_path, beads)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_case_that_may_not_be_written_to_is_a_sentence(tmp_path: Path):
    (tmp_path / "calibration").write_text("a file where the folder should be")
    for place in (lambda: place_beads(tmp_path, {"a": [[1, 2, ""]]}), lambda: write_jig(tmp_path, [[1, 2, 3, ""]])):
        with pytest.raises(InputError, match="cannot be written"):
            place()


def test_a_jig_of_the_scene_is_written_into_the_case(tmp_path: Path):
    path = write_jig(tmp_path, [[1, 2, 3, "large one"], [4.5, 5, 6, ""]])
    beads = read_fiducials(path)
    np.testing.assert_allclose(beads.position_lps_mm, [[1, 2, 3], [4.5, 5, 6]])
    assert beads.kind.tolist() == [2, 0]
    for points in ([], [[1, 2]], [[1, 2, "x", ""]]):
        with pytest.raises(InputError):
            write_jig(tmp_path, points)


def test_images_of_any_name_are_calibrated_and_read(case: Path, tmp_path: Path):
    names = ["a$x_$b.dcm", "山田\u3000太郎.dcm", os.fsdecode(b"R\xf6ntgen.dcm")]
    for number, name in enumerate(names):
        try:
            (case / "xrays" / f"view_{number:03d}.dcm").rename(case / "xrays" / name)
        except OSError:  # a file system that holds Unicode alone
            names.remove(name)
    calibrate_case(case)
    assert {Path(posed.image).name for posed in read_poses(case / "poses.json")} >= set(names)
    shown = {view.name for view in load_case(case).views}
    assert shown >= {f"xrays/{writable(name)}" for name in names}
    assert {view["name"] for view in described(case, tmp_path / "out")["views"]} == shown


def test_skipped_views_are_left_out(case: Path):
    names = [posed.image for posed in read_poses(case / "poses.json")]
    loaded = load_case(case, names[1:2])
    assert [view.name for view in loaded.views] == [names[0], *names[2:]]
    assert f"{names[1]} was left out, as you chose." in loaded.warnings
