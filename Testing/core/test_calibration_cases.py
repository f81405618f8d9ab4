"""The benchmark from pixels to volumes: its own bookkeeping, and what its last run says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from Testing.benchmarks import calibration_cases
from Testing.benchmarks.calibration_cases import BEAD_CASES, CENTERS, RESULT, detection, markdown, pose_errors

from IntraopReconLib.core.calibration.fiducials import Fiducials, write_fiducials
from IntraopReconLib.core.calibration.poses import PosedImage
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.frames import affine

CASE = BEAD_CASES[0]


@pytest.fixture
def truth() -> list[PosedImage]:
    views = random_poses(replace(CASE.config(), views=3), np.array(CENTERS[CASE.anatomy][1]), np.random.default_rng(0))
    return [PosedImage(f"view_{number}", view, grade="green") for number, view in enumerate(views)]


def test_detections_are_counted(truth, tmp_path):
    center = np.array(CENTERS[CASE.anatomy][1])
    jig = Fiducials(center + [[0, 0, 0], [50, 20, -40], [-60, 10, 30]], np.array([2, 1, 1]))
    write_fiducials(tmp_path / "fiducials.mrk.json", jig)
    views = []
    for posed in truth:
        seen = posed.view.project(jig.position_lps_mm) + [0.3, 0.4]
        beads = [{"center_px": px.tolist(), "size": "small", "origin": "detected"} for px in seen[:2]]
        beads.append({"center_px": [3.0, 3.0], "size": "small", "origin": "detected"})  # false
        beads.append({"center_px": seen[2].tolist(), "size": "small", "origin": "expected"})  # put there by the pose
        views.append({"image": posed.image, "beads": beads})
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "calibration.json").write_text(json.dumps({"views": views}))
    figures = detection(tmp_path, truth)
    assert figures["beads"] == 9 and figures["found"] == pytest.approx(2 / 3)
    assert (figures["false"], figures["wrong_size"]) == (3, 3)
    assert figures["center_px"]["median"] == pytest.approx(0.5)


def test_pose_errors_are_those_of_the_poses(truth):
    found = {posed.image: posed for posed in truth[:2]}
    moved = truth[1].view.transformed(affine(np.eye(3), np.array([0.0, 0.0, 2.0])))
    found[truth[1].image] = replace(truth[1], view=moved, grade="amber")
    errors = pose_errors(found, truth, CASE)
    assert errors["grades"] == {"green": 1, "amber": 1, "red": 0, "none": 1}
    assert errors["source_mm"]["max"] == pytest.approx(2.0) and errors["rotation_deg"]["max"] == pytest.approx(0.0, abs=1e-6)
    assert 1.5 < errors["isocenter_mm"]["max"] < 2.5


def test_the_results_are_whole_and_reach_what_was_asked():
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert [row["name"] for row in result["rows"]] == [case.name for case in BEAD_CASES]
    assert result["provenance"]["command"] == f"python -m {calibration_cases.__name__}"
    for row in result["rows"]:
        assert row["false"] == 0 and row["grades"]["red"] == row["grades"]["none"] == 0
        assert row["rotation_deg"]["median"] < 0.1 and row["rotation_deg"]["p95"] < 0.25 and row["source_mm"]["median"] < 1.0
    compared = [{one["name"]: one["psnr_3d_db"] for one in row["volumes"]} for row in result["rows"] if "volumes" in row]
    assert len(compared) == 2
    for psnr in compared:
        assert psnr["beads taken out, calibrated poses"] > psnr["beads taken out, true poses"] - 0.5
    lines = [line for line in markdown(result).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(BEAD_CASES) + 2 * (2 + 4)
