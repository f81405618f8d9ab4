"""A case whose jig nobody measured: beads and poses from the X-rays, the scale from one distance; the real phantom."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bead_scenes import volume_jig
from calibrate_scenes import make_bead_case

from IntraopReconLib.core.calibrate_case import CalibrationFiles, calibrate_case
from IntraopReconLib.core.calibration.camera import rotation_angle_deg
from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.core.calibration.poses import PosedImage, read_poses
from IntraopReconLib.core.case import load_case
from SparseAnatomyLib.errors import InputError

BELT = replace(volume_jig(seed=2, count=18, extent_mm=(120.0, 14.0, 80.0)), kind=None)


def _data(folder: Path) -> dict:
    return json.loads((folder / "calibration" / "calibration.json").read_text())


def _unknown_case(folder: Path) -> float:
    """Write X-rays of a jig without its coordinates; return the longest distance between two of its beads."""
    make_bead_case(folder, BELT, ((0, 0, 0), (15, 0, 2), (30, 0, 4), (0, 15, 6), (0, 30, 8)))
    (folder / "fiducials.mrk.json").unlink()
    return float(np.linalg.norm(BELT.position_lps_mm[:, None] - BELT.position_lps_mm, axis=-1).max())


def test_unknown_beads_are_found_with_one_known_distance(tmp_path):
    case = tmp_path / "belt"
    longest_mm = _unknown_case(case)
    with pytest.raises(InputError, match=r"no fiducials\.mrk\.json") as caught:
        calibrate_case(case)
    assert "--known-distance" in caught.value.remedy
    result = calibrate_case(case, CalibrationFiles(known_distance_mm=longest_mm))
    assert (result.grades["red"], result.without_pose) == (0, 0)
    assert any("rest on" in warning for warning in result.warnings)
    found = read_fiducials(result.paths["fiducials"]).position_lps_mm
    among, truly = (np.sort(np.linalg.norm(one[:, None] - one, axis=-1).ravel()) for one in (found, BELT.position_lps_mm))
    np.testing.assert_allclose(among, truly, atol=1.5)
    written = (case / "fiducials.mrk.json").read_bytes()
    again = calibrate_case(case, CalibrationFiles(known_distance_mm=50.0))  # beads that are there are used and never overwritten
    assert again.grades["red"] == 0
    assert (case / "fiducials.mrk.json").read_bytes() == written


def test_unknown_beads_that_are_not_sure_are_refused(tmp_path):
    case = tmp_path / "knee"
    make_bead_case(case)
    (case / "fiducials.mrk.json").unlink()
    with pytest.raises(InputError, match="with certainty|No arrangement of beads") as caught:
        calibrate_case(case, CalibrationFiles(known_distance_mm=160.0))  # beads in a volume, X-rays 40 degrees apart
    assert "Add X-rays" in caught.value.remedy or "add X-rays" in caught.value.remedy
    assert not (case / "fiducials.mrk.json").exists()


@pytest.mark.parametrize(("known_mm", "words"), [(700.0, "behind the detector"), (0.1, "no distance between two beads")])
def test_an_impossible_known_distance_is_told(tmp_path, known_mm, words):
    case = tmp_path / "belt"
    _unknown_case(case)
    with pytest.raises(InputError, match=words):
        calibrate_case(case, CalibrationFiles(known_distance_mm=known_mm))


@pytest.mark.slow
def test_the_real_phantom_is_calibrated_without_its_coordinates(shared_data, tmp_path):
    originals = sorted((shared_data / "carm").glob("Fiducial_*_Box_01.dcm"))
    if len(originals) != 5:
        pytest.skip("needs the real C-arm images")
    case = tmp_path / "phantom"
    (case / "xrays").mkdir(parents=True)
    for path in originals:
        shutil.copy(path, case / "xrays")
    with pytest.raises(InputError, match="do not tell their pixel pitch and source-detector distance"):
        calibrate_case(case, CalibrationFiles(known_distance_mm=100.0))
    (case / "arm.json").write_text(json.dumps({"source_to_detector_mm": 1000, "pixel_pitch_mm": 215 / 1016}))
    grid = shared_data / "carm" / "AC_Centered_0_Box_01.dcm"
    for distortion, most_px in ((None, 0.25), (grid, 0.2)):
        (case / "fiducials.mrk.json").unlink(missing_ok=True)
        files = CalibrationFiles(intrinsics=case / "arm.json", known_distance_mm=100.0, distortion=distortion)
        result = calibrate_case(case, files)
        assert result.grades == {"green": 0, "amber": 5, "red": 0}  # a thin jig is graded one lower
        for view in _data(case)["views"]:
            assert view["explained"] == 18
            assert view["reprojection_rms_px"] < most_px
            assert max(np.hypot(*bead["residual_px"]) for bead in view["beads"]) < 1
        steps = [_turn_deg(one, posed[0]) for posed in [read_poses(case / "poses.json")] for one in posed]
        np.testing.assert_allclose(steps, [0, 15, 30, 15, 30], atol=4)  # the nominal orbits and tilts in the file names
    views = load_case(case).views
    assert all(view.mask.mean() > 0.6 for view in views)
    _check_spine(shared_data / "carm", case, tmp_path / "spine")


def _check_spine(images: Path, phantom: Path, case: Path) -> None:
    """Check that the beads found in X-rays of the phantom alone explain those of the phantom beside a spine."""
    (case / "xrays").mkdir(parents=True)
    for path in images.glob("Fiducial_*_Spine_*.dcm"):
        shutil.copy(path, case / "xrays")
    files = CalibrationFiles(phantom / "fiducials.mrk.json", phantom / "arm.json", phantom / "calibration" / "distortion.json")
    result = calibrate_case(case, files)
    assert result.grades == {"green": 0, "amber": 3, "red": 0}
    for view in _data(case)["views"]:
        assert view["explained"] >= 16
        assert view["reprojection_rms_px"] < 0.7
        assert view["rivals"] == []
    assert len(load_case(case).views) == 3


def _turn_deg(one: PosedImage, other: PosedImage) -> float:
    return rotation_angle_deg(one.view.lps_from_camera[:3, :3], other.view.lps_from_camera[:3, :3])
