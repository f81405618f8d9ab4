"""Beads that nobody knows: structure and poses from several views, on simulated points and on the real phantom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from bead_scenes import CAMERA, pose, shot, volume_jig

from IntraopReconLib.core.calibration.beads import find_beads
from IntraopReconLib.core.calibration.camera import Camera, rotation_angle_deg
from IntraopReconLib.core.calibration.correspondence import BeadPoints
from IntraopReconLib.core.calibration.jig_layout import jig_layout
from IntraopReconLib.core.calibration.self_calibrate import SelfCalibration, self_calibrate
from IntraopReconLib.core.calibration_config import MatchSettings, SelfCalibrationSettings
from SparseAnatomyLib.errors import InputError

STEPS = ((0, 0), (15, 0), (30, 0), (0, 15), (0, 30))
JIG = volume_jig(seed=2, count=18, extent_mm=(120.0, 14.0, 80.0))
SHARP = SelfCalibrationSettings(match=MatchSettings(inlier_px=1.0))


def _views(kinds: bool = True, noise_px: float = 0.1, missing: int = 0) -> list[BeadPoints]:
    shots = [
        shot(f"view {n}", pose(orbit, tilt, 2 * n, JIG), JIG, n, noise_px=noise_px, kinds=kinds, missing=missing * (n > 0))
        for n, (orbit, tilt) in enumerate(STEPS)
    ]
    return [replace(points, camera_from_lps=None) for points in shots]


def _steps_deg(found: SelfCalibration) -> list[float]:
    return [rotation_angle_deg(one.camera_from_lps[:3, :3], found.poses[0].camera_from_lps[:3, :3]) for one in found.poses]


@pytest.fixture(scope="module")
def solved() -> SelfCalibration:
    return self_calibrate(_views(), replace(CAMERA, source_to_detector_mm=1035.0), SHARP)


def test_beads_and_poses_are_found_up_to_similarity(solved: SelfCalibration):
    assert solved.explained == 5 * 18
    assert solved.rms_px < 0.2
    truths = [pose(orbit, tilt, 2 * n, JIG) for n, (orbit, tilt) in enumerate(STEPS)]
    expected = [rotation_angle_deg(truth[:3, :3], truths[0][:3, :3]) for truth in truths]
    np.testing.assert_allclose(_steps_deg(solved), expected, atol=1.0)


def test_one_known_distance_gives_the_scale(solved: SelfCalibration):
    large = np.flatnonzero(solved.beads.kind == 2)
    assert len(large) == 2
    scaled = solved.scaled(*large, float(np.linalg.norm(JIG.position_lps_mm[0] - JIG.position_lps_mm[1])))
    np.testing.assert_allclose(
        jig_layout(scaled.beads.position_lps_mm).extent_mm, jig_layout(JIG.position_lps_mm).extent_mm, rtol=0.02, atol=1.0
    )
    before, after = (solved.camera.view(one.poses[1].camera_from_lps).project(one.beads.position_lps_mm) for one in (solved, scaled))
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_wrong_rotation_signs_fit_clearly_worse(solved: SelfCalibration):
    assert solved.mirrored_rms_px > 5 * solved.rms_px
    assert solved.is_sure
    assert not replace(solved, mirrored_rms_px=1.5 * solved.rms_px).is_sure


def test_missing_beads_are_no_obstacle():
    found = self_calibrate(_views(missing=2), CAMERA, SHARP)
    assert all(found.poses)
    assert found.rms_px < 0.2
    assert len(found.beads) == 18


def test_too_few_views_and_views_of_nothing_are_told():
    with pytest.raises(InputError, match="Only 2 X-rays"):
        self_calibrate(_views()[:2], CAMERA)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="No arrangement of beads"):
        self_calibrate([BeadPoints(f"view {n}", rng.uniform(0, 480, (7, 2))) for n in range(3)], CAMERA, replace(SHARP, seeds=1))


def test_layout_of_a_symmetric_jig():
    corner = np.array([[x, y, 0.0] for x, y in ((50, 30), (20, 25), (40, 10))])
    mirrored = np.concatenate([corner, corner * [-1, 1, 1]]) + [0, 0, 7]
    layout = jig_layout(mirrored)
    assert layout.plane_rms_mm < 1e-9
    assert layout.symmetry_rms_mm[(-1, 1, 1)] < 1e-6
    assert layout.symmetry_rms_mm[(1, -1, 1)] > 2
    np.testing.assert_allclose(layout.extent_mm, [100, 20, 0], atol=1e-9)


@pytest.mark.slow
def test_the_real_phantom_is_reconstructed(shared_data):
    folder = shared_data / "carm"
    if not folder.is_dir():
        pytest.skip("needs the real C-arm images")
    names = ("Centered_0", "Orbit_15", "Orbit_30", "Tilt_15", "Tilt_30")
    views = []
    for name in names:
        image = pydicom.dcmread(folder / f"Fiducial_{name}_Box_01.dcm").pixel_array.astype(np.float32)
        row, column = np.indices(image.shape)
        beads = find_beads(image, (row - 512) ** 2 + (column - 512) ** 2 < 490**2)
        views.append(BeadPoints(name, np.array([one.center_px for one in beads]), np.array([1 + (one.size == "large") for one in beads])))
    pitch = 215 / 1016  # FieldOfViewDimensions and twice RadiusOfCircularShutter
    found = self_calibrate(views, Camera((1024, 1024), (pitch, pitch), 1000.0), SHARP)
    assert (len(found.beads), found.explained) == (18, 90)
    assert found.rms_px <= 0.25
    assert max(np.abs(one.residual_px).max() for one in found.poses) < 1
    assert 1.5 < found.mirrored_rms_px < 5
    np.testing.assert_allclose(_steps_deg(found), [0, 15, 30, 15, 30], atol=4)
    layout = jig_layout(found.beads.position_lps_mm)
    assert 1.3 < layout.extent_mm[0] / layout.extent_mm[1] < 1.7
    assert layout.plane_rms_mm < 0.05 * layout.extent_mm[0]
