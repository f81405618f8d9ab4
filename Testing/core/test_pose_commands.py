"""Poses in and out of a case by command: the case is as before, and what another program needs is there."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_case import make_tiny_case

from IntraopReconLib import cli
from IntraopReconLib.core.calibration.correspondence import Beads
from IntraopReconLib.core.calibration.fiducials import write_fiducials
from IntraopReconLib.core.calibration.formats.matrices import matrices_text
from IntraopReconLib.core.calibration.poses import read_poses, write_poses


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_tiny_case(tmp_path_factory.mktemp("exchange"))


@pytest.fixture
def case(original, tmp_path):
    shutil.copytree(original, tmp_path / "case")
    return tmp_path / "case"


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("format", ["matrices", "matrices-json", "rtk", "slicer", "mayacam", "mayacam1"])
def test_out_and_in_again(case, tmp_path, capsys, format, order):
    before = read_poses(case / "poses.json")
    write_poses(case / "poses.json", before[::order])
    out = tmp_path / {"matrices": "p.txt", "matrices-json": "p.json", "rtk": "p.xml"}.get(format, "poses")
    assert run(capsys, "export-poses", case, "--out", out, "--format", format)[0] == 0
    code, said, warned = run(capsys, "import-poses", case, out)
    assert code == 0 and "4 poses" in said
    by_order = format in ("matrices", "rtk")
    assert warned.count("\n") == by_order and ("view_003.dcm has p." in warned) == by_order
    for one, two in zip(before, read_poses(case / "poses.json"), strict=True):
        assert (one.image, one.frame, one.air_intensity) == (two.image, two.frame, two.air_intensity)
        np.testing.assert_allclose(one.view.projection_matrix, two.view.projection_matrix, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(one.view.detector_origin_lps_mm, two.view.detector_origin_lps_mm, atol=1e-3)


def test_poses_without_names_follow_the_numbers_of_the_images_and_of_their_files(case, tmp_path, capsys):
    posed = [replace(one, image=f"xrays/{n}.dcm") for n, one in zip((2, 10, 11, 100), read_poses(case / "poses.json"), strict=True)]
    for old, new in zip(sorted((case / "xrays").iterdir()), posed, strict=True):
        old.rename(case / new.image)
    write_poses(case / "poses.json", posed)
    run(capsys, "export-poses", case, "--out", tmp_path / "all.txt", "--format", "matrices")
    (tmp_path / "files").mkdir()
    for number, one in zip((9, 10, 99, 101), posed, strict=True):
        (tmp_path / "files" / f"shot{number}.txt").write_text(matrices_text([one]))
    for source in ("all.txt", "files"):
        code, _, warned = run(capsys, "import-poses", case, tmp_path / source)
        assert code == 0 and "Only their order" in warned
        for before, after in zip(posed, read_poses(case / "poses.json"), strict=True):
            assert before.image == after.image
            np.testing.assert_allclose(before.view.source_lps_mm, after.view.source_lps_mm, atol=1e-3)


def test_files_with_one_matrix_are_those_of_the_images_that_they_are_named_after(case, tmp_path, capsys):
    posed = read_poses(case / "poses.json")
    files = [tmp_path / f"view_{number:03d}.txt" for number in range(4)]
    for file, one in zip(files, posed, strict=True):
        file.write_text(matrices_text([one]))
    code, _, warned = run(capsys, "import-poses", case, *files[:0:-1])
    assert code == 0 and "view_000.dcm has no pose" in warned and "order" not in warned
    for before, after in zip(posed[1:], read_poses(case / "poses.json"), strict=True):
        assert before.image == after.image
        np.testing.assert_allclose(before.view.source_lps_mm, after.view.source_lps_mm, atol=1e-3)


def test_intrinsics_go_before_the_tags(case, tmp_path, capsys):
    run(capsys, "export-poses", case, "--out", tmp_path / "p.txt", "--format", "matrices")
    (tmp_path / "c.json").write_text(json.dumps({"source_to_detector_mm": 900, "pixel_pitch_mm": 0.9 * pitch(case)}))
    assert run(capsys, "import-poses", case, tmp_path / "p.txt", "--intrinsics", tmp_path / "c.json")[0] == 0
    assert pitch(case) == pytest.approx(json.loads((tmp_path / "c.json").read_text())["pixel_pitch_mm"])


def pitch(case):
    return float(read_poses(case / "poses.json")[0].view.pixel_pitch_mm[0])


def test_red_views_stay_behind(case, tmp_path, capsys):
    posed = read_poses(case / "poses.json")
    write_poses(case / "poses.json", [replace(posed[0], grade="red"), *posed[1:]])
    code, _, warned = run(capsys, "export-poses", case, "--out", tmp_path / "maya", "--format", "mayacam")
    assert code == 0 and posed[0].image in warned and len(list((tmp_path / "maya").iterdir())) == 3
    code, _, warned = run(capsys, "import-poses", case, *sorted((tmp_path / "maya").iterdir()))
    assert code == 0 and f"{posed[0].image} has no pose" in warned
    assert len(read_poses(case / "poses.json")) == 3


def test_one_camera_of_many_does_not_take_the_place_of_all_poses(case, tmp_path, capsys):
    run(capsys, "export-poses", case, "--out", tmp_path / "maya", "--format", "mayacam")
    before = (case / "poses.json").read_bytes()
    code, _, said = run(capsys, "import-poses", case, min((tmp_path / "maya").iterdir()))
    assert code == 2 and "Only 1 of 4 X-rays" in said and "folder" in said
    assert (case / "poses.json").read_bytes() == before


def test_beads_go_along_and_tell_when_poses_are_elsewhere(case, tmp_path, capsys):
    write_fiducials(case / "fiducials.mrk.json", Beads(np.eye(3) * 10))
    assert run(capsys, "export-poses", case, "--out", tmp_path / "slicer", "--format", "slicer")[0] == 0
    assert (tmp_path / "slicer" / "fiducials.mrk.json").is_file()
    write_fiducials(case / "fiducials.mrk.json", Beads(np.eye(3) * 10 + [0, 0, 500]))
    code, _, warned = run(capsys, "import-poses", case, tmp_path / "slicer")
    assert code == 0 and warned.count("No bead appears") == 4


@pytest.mark.parametrize("arguments", [(), ("nowhere.xml",), ("bad.txt",)])
def test_a_failed_import_leaves_the_poses_alone(case, tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txt").write_text("1 2 3 4\n")
    before = (case / "poses.json").read_bytes()
    code, _, said = run(capsys, "import-poses", case, *arguments)
    assert code == 2 and said.startswith("Error: ")
    assert (case / "poses.json").read_bytes() == before


def test_a_case_without_xrays_and_a_place_that_cannot_be_written(case, tmp_path, capsys):
    assert run(capsys, "import-poses", tmp_path, "p.txt")[0] == 2
    (tmp_path / "file").write_text("")
    assert run(capsys, "export-poses", case, "--out", tmp_path / "file" / "p.txt", "--format", "matrices")[0] == 2
    assert run(capsys, "export-poses", tmp_path, "--out", tmp_path / "p.txt", "--format", "matrices")[0] == 2
    code, _, said = run(capsys, "export-poses", case, "--out", tmp_path, "--format", "rtk")
    assert code == 2 and "is a folder" in said


def test_the_command_that_comes_next_can_be_pasted(original, tmp_path, capsys):
    case = shutil.copytree(original, tmp_path / "a case; of 'mine'")
    run(capsys, "export-poses", case, "--out", tmp_path / "p.txt", "--format", "matrices")
    said = run(capsys, "import-poses", case, tmp_path / "p.txt")[1]
    assert shlex.split(said.partition("Reconstruct with: ")[2]) == ["intraop-recon", "reconstruct", str(case), "--out", "RESULT"]
