"""From pixels alone to a volume: the sample case with beads, calibrated and reconstructed, beside the true poses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from IntraopReconLib import cli, demo
from IntraopReconLib.core.calibrate_case import calibrate_case
from IntraopReconLib.core.calibration.camera import rotation_angle_deg
from IntraopReconLib.core.calibration.poses import PosedImage, read_poses
from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.evaluate import evaluate
from IntraopReconLib.core.pipeline import reconstruct_case
from IntraopReconLib.core.reconstruction import silent

TRUE_POSES = "ground_truth_poses.json"


def copied(sample_case: Path, folder: Path, every: int = 1) -> Path:
    """Return a copy of the case with beads that can be written to, with every n-th X-ray."""
    case = folder / "case"
    shutil.copytree(sample_case / "lumbar-beads", case)
    for number, path in enumerate(sorted((case / "xrays").iterdir())):
        if number % every:
            path.unlink()
    return case


def pose_errors(found: PosedImage, true: PosedImage) -> tuple[float, float]:
    """Return the errors of the rotation in degrees and of the source in mm."""
    rotation = rotation_angle_deg(found.view.lps_from_camera[:3, :3], true.view.lps_from_camera[:3, :3])
    return rotation, float(np.linalg.norm(found.view.source_lps_mm - true.view.source_lps_mm))


def psnr_db(case: Path, out: Path, truth: Path) -> float:
    """Reconstruct, all by one method: `auto` may take another one for each, and a decibel lies between them."""
    reconstruct_case(case, out, ReconstructionConfig(method="voxel", quality="preview"), silent)
    return evaluate(out, truth)["psnr_3d_db"]


@pytest.mark.slow
def test_calibrated_poses_cost_less_than_half_a_decibel(sample_case, tmp_path):
    case, truth = copied(sample_case, tmp_path), sample_case / "lumbar" / "ground_truth.nrrd"
    calibration = calibrate_case(case)
    assert calibration.grades == {"green": 25, "amber": 0, "red": 0}
    pairs = zip(read_poses(case / "poses.json"), read_poses(case / TRUE_POSES), strict=True)
    rotation, source = np.transpose([pose_errors(*pair) for pair in pairs])
    assert np.median(rotation) < 0.1 and np.quantile(rotation, 0.95) < 0.25
    assert np.median(source) < 1.0

    true = tmp_path / "true"
    shutil.copytree(case, true)
    shutil.copyfile(true / TRUE_POSES, true / "poses.json")
    with_calibrated, with_true = psnr_db(case, tmp_path / "a", truth), psnr_db(true, tmp_path / "b", truth)
    without_beads = psnr_db(sample_case / "lumbar", tmp_path / "c", truth)
    assert with_calibrated > with_true - 0.5
    assert with_true > without_beads - 0.5  # what the beads hid is little

    shutil.rmtree(case / "calibration")  # nobody says where the beads are, so they stay in
    assert psnr_db(case, tmp_path / "d", truth) < with_calibrated - 3


def test_the_demo_calibrates_a_case_with_beads(sample_case, tmp_path, monkeypatch, capsys):
    few = copied(sample_case, tmp_path, every=4)
    (few / "calibration").mkdir()  # as if somebody had calibrated the sample itself
    for leftover in ("poses.json", "calibration/beads_view_001.mrk.json"):
        (few / leftover).write_text("left over", encoding="utf-8")
    before = {path: path.read_bytes() for path in few.rglob("*") if path.is_file()}
    monkeypatch.setattr(demo, "sample_case", lambda name: few if name == "lumbar-beads" else sample_case / name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no Slicer scene, which other tests look at
    out = tmp_path / "out"
    for _ in range(2):  # the second time over the first
        assert cli.main(["demo", "--case", "lumbar-beads", "--out", str(out), "--quality", "preview"]) == 0
        printed = capsys.readouterr().out
        assert "Poses from beads  7 green, 0 amber, 0 red" in printed
        assert float(printed.partition("Source position")[2].split()[0]) < 1.0
        assert float(printed.partition("PSNR-3D")[2].split()[0]) > 20
        assert str(out / "lumbar-beads" / "calibration" / "calibration.html") in printed
    assert {path: path.read_bytes() for path in few.rglob("*") if path.is_file()} == before  # what ships stays as it is
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert any("Beads were taken out of 7 X-rays" in sentence for sentence in report["warnings"])
