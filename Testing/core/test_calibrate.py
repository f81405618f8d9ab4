"""All views: adjustment of what they share, grades, and sentences about what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bead_scenes import CAMERA, pixels, pose, shot, volume_jig

from IntraopReconLib.core.calibration import bundle as bundling
from IntraopReconLib.core.calibration.bundle import Bundle, Observations, bundle_adjust
from IntraopReconLib.core.calibration.calibrate import Calibration, calibrate_views
from IntraopReconLib.core.calibration.correspondence import BeadPoints, Beads
from IntraopReconLib.core.calibration.jig_checks import check_jig
from IntraopReconLib.core.calibration_config import BundleSettings, CalibrationSettings, MatchSettings
from SparseAnatomyLib.errors import InputError

ANGLES = ((0, 0, 0), (40, 10, 5), (-40, -20, -8), (80, 20, 12), (-80, 5, 0), (120, -15, 6))


def _truths(jig: Beads) -> list[np.ndarray]:
    return [pose(*angles, jig) for angles in ANGLES]


def _everything(jig: Beads, camera=CAMERA) -> tuple[Bundle, Observations]:
    """Return the true bundle and all its observations, without noise."""
    truths = np.stack(_truths(jig))
    view, bead = (indices.ravel() for indices in np.indices((len(truths), len(jig))))
    return Bundle(camera, truths, jig.position_lps_mm), Observations(view, bead, np.concatenate([pixels(t, jig, camera) for t in truths]))


def _source_errors(calibration: Calibration, truths: list[np.ndarray]) -> np.ndarray:
    sources = [np.linalg.inv(truth)[:3, 3] for truth in truths]
    return np.array([np.linalg.norm(one.view.source_lps_mm - source) for one, source in zip(calibration.views, sources, strict=True)])


def test_derivatives_agree_with_differences():
    jig = volume_jig(count=7)
    now, seen = _everything(jig, replace(CAMERA, radial=0.03))
    _, local, about = bundling._project(now, seen)
    analytic = bundling._jacobian(now, seen, local, about, np.ones(len(local))).toarray()
    for column, step in enumerate(np.eye(analytic.shape[1]) * 1e-5):
        forward, back = (bundling._project(bundling._stepped(now, sign * step), seen)[0] for sign in (1, -1))
        np.testing.assert_allclose(((forward - back) / 2e-5).ravel(), analytic[:, column], atol=1e-6)


def test_intrinsics_and_distortion_are_found_from_all_views():
    jig = volume_jig()
    true = replace(CAMERA, radial=0.02)
    truth, seen = _everything(jig, true)
    start = replace(truth, camera=replace(CAMERA, source_to_detector_mm=1070.0, principal_point_px=(250.0, 245.0)))
    free = BundleSettings(focal_tolerance=1e3, principal_point_tolerance_px=1e6, radial_tolerance=1e3)
    found = bundle_adjust(start, seen, free)
    assert found.camera.source_to_detector_mm == pytest.approx(1020.0, abs=0.01)
    np.testing.assert_allclose(found.camera.principal_point_px, CAMERA.principal_point_px, atol=0.01)
    assert found.camera.radial == pytest.approx(0.02, abs=1e-5)
    assert np.abs(found.residual_px(seen)).max() < 1e-3
    assert bundle_adjust(start, seen, BundleSettings()).camera.source_to_detector_mm == 1070.0  # nothing is shared by default


def test_an_outlier_hardly_moves_a_pose():
    jig = volume_jig()
    truth, seen = _everything(jig)
    off = replace(seen, pixel=seen.pixel + np.where(np.arange(len(seen.pixel)) == 3, 40.0, 0.0)[:, None])
    found = bundle_adjust(truth, off, BundleSettings())
    assert np.abs(found.residual_px(seen)).max() < 0.2


def test_rough_intrinsics_are_adjusted_and_views_solved_with_them():
    jig = volume_jig()
    truths = _truths(jig)
    views = [shot(f"view {n}", truth, jig, n, missing=2, false=3) for n, truth in enumerate(truths)]
    rough = replace(CAMERA, source_to_detector_mm=1060.0, principal_point_px=(256.0, 239.0))
    settings = CalibrationSettings(bundle=BundleSettings(focal_tolerance=0.1, principal_point_tolerance_px=30.0))
    before = calibrate_views(views, jig, rough)
    after = calibrate_views(views, jig, rough, settings)
    assert abs(after.camera.source_to_detector_mm - 1020) < 12
    assert [one.grade for one in after.views] == ["green"] * len(views)
    solved = [n for n, one in enumerate(before.views) if one.view]
    worst = min((np.linalg.norm(before.views[n].view.source_lps_mm - np.linalg.inv(truths[n])[:3, 3]) for n in solved), default=99)
    assert np.median(_source_errors(after, truths)) < 0.5 * worst


def test_beads_are_refined_within_their_tolerance_and_the_gauge_holds():
    jig = volume_jig()
    truths = _truths(jig)
    views = [shot(f"view {n}", truth, jig, n, noise_px=0.1) for n, truth in enumerate(truths)]
    listed = replace(jig, position_lps_mm=jig.position_lps_mm + np.random.default_rng(5).normal(0, 0.3, (len(jig), 3)))
    settings = CalibrationSettings(bundle=BundleSettings(noise_px=0.1, bead_tolerance_mm=0.3))
    fixed, refined = calibrate_views(views, listed, CAMERA), calibrate_views(views, listed, CAMERA, settings)
    errors = [np.linalg.norm(one.beads.position_lps_mm - jig.position_lps_mm, axis=1) for one in (fixed, refined)]
    assert np.sqrt((errors[1] ** 2).mean()) < 0.65 * np.sqrt((errors[0] ** 2).mean())  # the jig as a whole stays where the list puts it
    shift = (refined.beads.position_lps_mm - listed.position_lps_mm).mean(0)
    assert np.linalg.norm(shift) < 0.05
    assert refined.views[0].hypotheses[0].rms_px < 0.5 * fixed.views[0].hypotheses[0].rms_px


def test_grades():
    jig = volume_jig(count=12)
    truth = pose(10, 5, 3, jig)
    good, few = shot("good", truth, jig), shot("few", truth, jig, seed=3, missing=6)
    wobbly = shot("wobbly", truth, jig, seed=3, noise_px=1.0)
    calibration = calibrate_views(
        [good, few, wobbly], jig, CAMERA, CalibrationSettings(duplicate_px=0.0, match=MatchSettings(inlier_px=4.0))
    )
    assert [one.grade for one in calibration.views] == ["green", "amber", "amber"]
    assert calibration.views[0].problems == ()
    assert "only 6 beads" in calibration.views[1].problems[0].message
    assert "pixels (RMS)" in calibration.views[2].problems[0].message
    assert all(one.points.name in one.problems[0].message for one in calibration.views[1:])


def test_a_thin_jig_is_graded_one_lower():
    jig = volume_jig(count=14, extent_mm=(140.0, 90.0, 10.0))
    thin = calibrate_views([shot("thin", pose(0, 90, 0, jig), jig, noise_px=0.1)], jig, CAMERA).views[0]
    assert thin.grade == "amber"
    assert "in one plane" in thin.problems[-1].message


def test_each_bad_view_says_why_and_the_good_ones_go_on():
    jig = volume_jig()
    truths = _truths(jig)
    views = [shot(f"view {n}", truth, jig, n, noise_px=0.1) for n, truth in enumerate(truths)]
    last = CAMERA.size_px[0] - 1
    views[1] = replace(views[1], name="flipped", pixel=views[1].pixel * [-1, 1] + [last, 0])
    views[2] = BeadPoints("sparse", views[2].pixel[:5])
    views[3] = replace(views[3], name="zoomed", pixel=CAMERA.center_px + 1.5 * (views[3].pixel - CAMERA.center_px))
    views[4] = BeadPoints("noise", np.random.default_rng(7).uniform(0, 470, (12, 2)), None, views[4].camera_from_lps)
    views.append(BeadPoints("again", views[5].pixel + 0.1, None, views[5].camera_from_lps))
    found = calibrate_views(views, replace(jig, kind=None), CAMERA)
    assert [one.grade for one in found.views] == ["green", "red", "red", "red", "red", "green", "red"]
    words = {1: "flipped is mirrored", 2: "sparse shows 5 beads", 3: "zoomed looks cropped or zoomed", 4: "points found in noise"}
    for number, text in words.items():
        assert found.views[number].view is None
        assert text in found.views[number].problems[0].message
        assert found.views[number].problems[0].remedy
    assert found.views[6].problems[0].message == "again is the same shot as view 5."
    assert found.problems == ()
    assert (_source_errors(replace(found, views=(found.views[0],)), truths[:1]) < 2).all()


def test_another_phantom_and_another_unit_are_told():
    jig = volume_jig()
    views = [shot(f"view {n}", truth, jig, n) for n, truth in enumerate(_truths(jig)[:2])]
    other = calibrate_views(views, volume_jig(seed=9), CAMERA)
    assert [one.grade for one in other.views] == ["red", "red"]
    assert "another phantom" in other.problems[0].message
    small = calibrate_views(views, replace(jig, position_lps_mm=jig.position_lps_mm / 10), CAMERA)
    assert "centimeters" in small.views[0].problems[0].message
    assert small.problems == ()


def test_another_phantom_fits_no_single_view_by_chance_because_the_intrinsics_are_rough():
    jig = volume_jig(count=24)
    view = replace(shot("view", pose(0, 0, 0, jig), jig, false=3), kind=None, camera_from_lps=None)
    other = Beads(np.random.default_rng(15).uniform(-60, 60, (8, 3)))  # of which the loose tolerances explain six
    rough = CalibrationSettings(bundle=BundleSettings(focal_tolerance=0.02, principal_point_tolerance_px=7.0))
    (one,) = calibrate_views([view], other, CAMERA, rough).views
    assert one.grade == "red" and one.view is None
    (own,) = calibrate_views([view], jig, CAMERA, rough).views
    assert own.grade == "green"


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (volume_jig().position_lps_mm[:5], "at least 6"),
        (volume_jig().position_lps_mm / 1000, "meters, not millimeters"),
        (volume_jig().position_lps_mm * 1000, "no millimeters"),
        (np.outer(np.arange(8.0), [10.0, 20.0, 5.0]), "on one line"),
        (np.concatenate([volume_jig().position_lps_mm, volume_jig().position_lps_mm[3:4]]), "Beads 4 and 13"),
    ],
)
def test_a_jig_of_no_use_is_refused(position: np.ndarray, words: str):
    with pytest.raises(InputError, match=words) as caught:
        calibrate_views([], Beads(position), CAMERA)
    assert caught.value.remedy


def test_a_flat_jig_is_warned_of():
    flat = volume_jig().position_lps_mm * [1, 1, 0]
    assert "one plane" in check_jig(Beads(flat), MatchSettings()).message
    assert check_jig(volume_jig(), MatchSettings()) is None
