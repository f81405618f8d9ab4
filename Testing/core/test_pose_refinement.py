"""Refinement of poses: wrong ones are mended, right ones kept, strangers named, a patient's motion noticed; and one view's derivatives."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import phantom_scene
import pose_scenes
import pytest
from phantom_scene import REGION
from pose_scenes import VIEWS, about_center, carried, errors, perturbed, true_views
from scipy.ndimage import gaussian_filter
from tiny_case import make_tiny_case

from IntraopReconLib.core import pose_refinement as module
from IntraopReconLib.core.acquisition import prepare
from IntraopReconLib.core.calibration.poses import read_poses, write_poses
from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.checkpoint import Checkpoint
from IntraopReconLib.core.config import EFFORTS, Effort
from IntraopReconLib.core.pipeline import reconstruct_case
from IntraopReconLib.core.pose_findings import alone, find_motion
from IntraopReconLib.core.pose_refinement import PoseState, hold_gauge, is_asked, with_refined_poses
from IntraopReconLib.core.pose_registration import motion, step_of
from IntraopReconLib.core.reconstruct import reconstruct
from IntraopReconLib.core.voxels.motion import project_with_motion, values_and_slopes
from IntraopReconLib.core.voxels.projection import ViewOnGrid, project_volume
from SparseAnatomyLib.errors import Cancelled

CONFIG = phantom_scene.config(quality="standard", refine_poses="on")
SMALL = Effort(coarse_cycles=(2, 3), voxel_cycles=3, gaussians=400, splat_steps=10, fits=1, polish_cycles=2)


def refined(views, config=CONFIG, told=lambda share: None, folder=None):
    """Return the poses, as XrayViews, all that is known of them, and the sentences."""
    _, poses, found = with_refined_poses(prepare(views, REGION, config.seed), views, config, told, Checkpoint(folder))
    return [pose.geometry for pose in poses], poses, found


@cache
def mended():
    """Return poses 1.5 mm and 0.7 degrees off along each axis, and what they became."""
    views = perturbed(1.5, 0.7, seed=0)
    return views, *refined(views)


def geometries(views):
    return [view.geometry for view in views]


def test_derivatives_are_those_of_the_moved_view():
    acquisition = phantom_scene.acquisition(6)
    grid = acquisition.grid(2.0)
    volume = gaussian_filter(phantom_scene.truth(acquisition.lps_grid(2.0)), 1.5)
    field = values_and_slopes(volume)
    for view in acquisition.geometries:
        value, slopes = project_with_motion(field, grid, view)
        projected, _ = project_volume(volume, ViewOnGrid.of(view, grid))
        np.testing.assert_allclose(value, projected, atol=1e-4 * projected.max())
        for index, size in enumerate([0.02] * 3 + [0.5] * 3):
            step = size * np.eye(6)[index]
            ahead, behind = (project_volume(volume, ViewOnGrid.of(view.transformed(motion(sign * step)), grid))[0] for sign in (1.0, -1.0))
            numeric = (ahead - behind) / (2 * size)
            assert np.linalg.norm(slopes[index] - numeric) < 0.2 * np.linalg.norm(numeric)
            assert np.sum(slopes[index] * numeric) == pytest.approx(np.sum(numeric**2), rel=0.1)


def test_a_step_is_its_motion_and_back():
    step = np.array([0.02, -0.01, 0.03, 1.0, -2.0, 0.5])
    np.testing.assert_allclose(step_of(motion(step)), step, atol=1e-12)


def test_wrong_poses_are_mended():
    views, poses, _, found = mended()
    before, after = errors(geometries(views)), errors(poses)
    assert before[0].mean() > 1
    assert after[0].mean() < 0.12
    assert after[0].max() < 0.4
    assert after[1].mean() < before[1].mean()
    assert found == []


def test_right_poses_stay():
    poses, known, found = refined(list(true_views()))
    shift, turn = errors(poses)
    assert shift.max() < 0.2
    assert turn.mean() < 0.3
    assert found == []
    assert not any(pose.left_out for pose in known)


def test_poses_that_are_known_well_move_less():
    views = [replace(view, pose_sigma_mm=0.3) for view in true_views()]
    known = [pose.turn_deg for pose in refined(views)[1]]
    free = [pose.turn_deg for pose in refined(list(true_views()))[1]]
    assert np.mean(known) < 0.7 * np.mean(free)


def test_the_fiducials_hold_the_coordinates():
    views, _, poses, _ = mended()
    center = np.array(phantom_scene.CENTER_LPS_MM)
    shifts = []
    for view, pose in zip(views, poses, strict=True):
        rigid = pose.geometry.lps_from_camera @ np.linalg.inv(view.geometry.lps_from_camera)
        shifts.append(rigid[:3, :3] @ center + rigid[:3, 3] - center)
    assert np.linalg.norm(np.mean(shifts, axis=0)) < 0.05
    assert [pose.shift_mm for pose in poses] == pytest.approx(np.linalg.norm(shifts, axis=1), abs=1e-6)


def test_intrinsics_stay():
    views, poses, _, _ = mended()
    for view, pose in zip(views, poses, strict=True):
        np.testing.assert_allclose(pose.intrinsics_px, view.geometry.intrinsics_px, rtol=1e-9, atol=1e-6)
        assert pose.size_px == view.geometry.size_px


def test_blunders_do_not_hold_the_gauge():
    acquisition = prepare(true_views(), REGION, 0)
    state = PoseState.of(VIEWS)
    for index in range(VIEWS):
        state.motions[index] = motion(np.array([0, 0, 0, 0.3, -0.2, 0.1]) + 0.05 * np.sin(np.arange(6) + index))
    state.motions[5, :3, 3] += 20.0
    hold_gauge(state, acquisition)
    usual = np.delete(np.arange(VIEWS), 5)
    assert np.linalg.norm(state.corrections[usual, 3:].mean(0)) < 0.02


def test_an_x_ray_of_somebody_else_is_named_and_left_out():
    views = perturbed(0.5, 0.25, seed=2)
    views[5] = replace(views[5], attenuation=phantom_scene.radiograph(true_views()[5].geometry, pose_scenes.SOMEBODY_ELSE))
    poses, known, found = refined(views)
    assert [pose.name for pose in known if pose.left_out] == [views[5].name]
    assert len(found) == 1
    assert found[0].startswith(f"{views[5].name} was left out")
    assert errors(poses, np.delete(np.arange(VIEWS), 5))[0].mean() < 0.15


@pytest.mark.parametrize("index", [2, 5])
def test_a_pose_that_is_far_off_is_named_and_does_no_harm(index):
    views = perturbed(0.5, 0.25, seed=2)
    views[index] = carried(views[index], about_center(np.zeros(3), np.array([12.0, -8.0, 14.0])))
    poses, known, found = refined(views)
    assert len(found) == 1
    assert views[index].name in found[0]
    assert ("was left out" if known[index].left_out else "was corrected") in found[0]
    assert errors(poses, np.delete(np.arange(VIEWS), index))[0].mean() < 0.15
    assert known[index].left_out or errors(poses)[0][index] < 0.05 * 20


def test_a_blunder_is_no_motion():
    corrections, beams = _random_corrections(2, 0.3)
    corrections[[4, 11], 3:] += [[20.0, 5.0, 0.0], [-9.0, 0.0, 6.0]]
    sigma = np.full(25, 0.5)
    np.testing.assert_array_equal(np.flatnonzero(alone(corrections, sigma)), [4, 11])
    assert find_motion(corrections, beams, ~alone(corrections, sigma)) is None


def test_a_stranger_does_not_enter_the_volume(monkeypatch):
    monkeypatch.setitem(EFFORTS, "preview", SMALL)
    views = list(true_views())
    views[5] = replace(views[5], attenuation=phantom_scene.radiograph(views[5].geometry, pose_scenes.SOMEBODY_ELSE))
    config = phantom_scene.config(method="voxel", refine_poses="on", seed=_seed_that_withholds(5))
    acquisition, _, _ = with_refined_poses(prepare(views, REGION, config.seed), views, config, lambda share: None, Checkpoint(None))
    assert acquisition.left_out.tolist() == [5]
    assert 5 not in acquisition.used
    assert 5 not in acquisition.training
    assert len(acquisition.withheld) == 2
    assert 5 not in acquisition.withheld
    result, mixed = reconstruct(views, config), reconstruct(views, replace(config, refine_poses="off"))
    truth = phantom_scene.truth(result.grid, pose_scenes.BONES)
    assert any("view_005" in warning for warning in result.warnings)
    assert phantom_scene.psnr_3d_db(result.attenuation_per_mm, truth) > phantom_scene.psnr_3d_db(mixed.attenuation_per_mm, truth)
    assert [fit.name for fit in result.fits] == [view.name for view in views]


def _seed_that_withholds(index: int) -> int:
    return next(seed for seed in range(100) if index in prepare(true_views(), REGION, seed).withheld)


def test_a_motion_between_two_shots_is_noticed():
    step = about_center(np.zeros(3), np.array([2.0, -1.0, 2.0]))
    views = [carried(view, step) if index >= 10 else view for index, view in enumerate(perturbed(0.3, 0.15, seed=3))]
    poses, _, found = refined(views)
    assert len(found) == 1
    assert "moved between xrays/view_009.dcm and xrays/view_010.dcm" in found[0]
    assert "xrays/view_015.dcm" in found[0]
    assert errors(poses)[0].mean() < 0.15


def _random_corrections(seed, sd_mm):
    rng = np.random.default_rng(seed)
    beams = np.array(
        [view.geometry.lps_from_camera[:3, 2] for view in phantom_scene.measured(phantom_scene.poses(25, seed=seed, size_px=9))]
    )
    return np.concatenate([rng.normal(0, 0.008 * sd_mm, (25, 3)), rng.normal(0, sd_mm, (25, 3))], 1), beams


def test_random_corrections_are_no_motion():
    found = [find_motion(*_random_corrections(seed, 1.5), np.ones(25, bool)) for seed in range(6)]
    assert sum(motion is not None for motion in found) <= 1


@pytest.mark.parametrize(("first", "end"), [(12, 25), (18, 25), (8, 15)])
def test_the_views_that_moved_are_found(first, end):
    corrections, beams = _random_corrections(1, 0.3)
    corrections[first:end, 3:] += [2.0, 1.0, -2.0]
    corrections[3] += 50.0
    used = np.arange(25) != 3
    found = find_motion(corrections, beams, used)
    apart = np.isin(np.arange(25), np.arange(first, end))
    smaller = apart if 2 * apart.sum() <= 24 else ~apart & used
    np.testing.assert_array_equal(found.views, np.flatnonzero(smaller))
    assert found.shift_mm == pytest.approx(3.0, abs=0.6)


def test_the_same_seed_gives_the_same_poses_and_a_stopped_run_goes_on_to_them(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    views, _, whole, _ = mended()
    calls = []

    def stop(share):
        calls.append(share)
        if len(calls) in (60, 150, 290):
            raise Cancelled

    for _ in range(4):
        try:
            _, again, _ = refined(views, told=stop, folder=tmp_path)
        except Cancelled:
            continue
        break
    assert len(calls) > 290
    for pose, expected in zip(again, whole, strict=True):
        np.testing.assert_array_equal(pose.geometry.source_lps_mm, expected.geometry.source_lps_mm)
        np.testing.assert_array_equal(pose.geometry.detector_origin_lps_mm, expected.geometry.detector_origin_lps_mm)


def test_progress_rises_and_cancel_ends_it():
    views = list(true_views())
    shares = []
    refined(views, told=shares.append)
    assert len(shares) > 18 * VIEWS
    assert shares[-1] == 1
    assert max(shares) <= 1

    def cancel(share):
        raise Cancelled

    with pytest.raises(Cancelled):
        refined(views, told=cancel)


def test_only_poses_of_a_calibration_are_refined_unasked():
    views = list(true_views())
    calibrated = [replace(view, pose_sigma_mm=0.4) for view in views]
    asked = {(choice, name): is_asked(choice, v) for choice in ("auto", "on", "off") for name, v in (("exact", views), ("cal", calibrated))}
    assert [key for key, value in asked.items() if value] == [("auto", "cal"), ("on", "exact"), ("on", "cal")]


def test_exact_poses_are_not_touched(monkeypatch):
    monkeypatch.setitem(EFFORTS, "preview", SMALL)
    off, auto = (reconstruct(true_views(), phantom_scene.config(method="voxel", refine_poses=choice)) for choice in ("off", "auto"))
    np.testing.assert_array_equal(off.attenuation_per_mm, auto.attenuation_per_mm)
    assert auto.poses == []
    assert "poses" not in auto.seconds


def test_too_few_views_are_left_as_they_are():
    views = list(true_views())[:5]
    acquisition = prepare(views, REGION, 0)
    same, poses, found = with_refined_poses(acquisition, views, CONFIG, lambda share: None, Checkpoint(None))
    assert same is acquisition
    assert poses == []
    assert "5" in found[0]


@pytest.mark.parametrize("change", ["flat", "black corner", "small"])
def test_odd_images_do_not_crash(change):
    views = list(true_views())
    if change == "flat":
        views = [replace(view, attenuation=np.full_like(view.attenuation, 0.3)) for view in views]
    elif change == "black corner":
        views = [replace(view, mask=view.mask & (np.indices(view.mask.shape).sum(0) > 60)) for view in views]
    else:
        views = phantom_scene.measured(phantom_scene.poses(8, size_px=18))
    _, poses, _ = refined(views, replace(CONFIG, quality="preview"))
    assert np.isfinite([pose.shift_mm for pose in poses]).all()


def test_masked_garbage_changes_nothing():
    mask = np.ones(true_views()[0].mask.shape, bool)
    mask[10:20, 15:30] = False
    results = []
    for garbage in (0.0, 1e4):
        views = [replace(view, mask=mask, attenuation=np.where(mask, view.attenuation, np.float32(garbage))) for view in true_views()]
        results.append([pose.shift_mm for pose in refined(views, replace(CONFIG, quality="preview"))[1]])
    assert results[0] == results[1]


def test_a_case_says_how_well_its_poses_are_known_and_gets_refined_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(EFFORTS, "preview", SMALL)
    case, out = make_tiny_case(tmp_path, views=7), tmp_path / "result"
    posed = read_poses(case / "poses.json")
    assert {view.pose_sigma_mm for view in load_case(case).views} == {None}
    write_poses(case / "poses.json", [replace(image, reprojection_rms_px=0.5, grade="green") for image in posed])
    assert load_case(case).views[0].pose_sigma_mm == pytest.approx(0.5 * posed[0].view.pixel_pitch_mm.mean())
    config = phantom_scene.config(method="voxel", region=None, spacing_mm=6.0)
    reconstruct_case(case, out, config, lambda *given: None)
    written, report = read_poses(out / "poses_refined.json"), json.loads((out / "report.json").read_text())
    assert [image.image for image in written] == [image.image for image in posed]
    assert [pose["name"] for pose in report["poses"]] == [image.image for image in posed]
    assert all(np.isfinite(pose["shift_mm"]) for pose in report["poses"])
    assert "<h2>Poses</h2>" in (out / "report.html").read_text()
    np.testing.assert_allclose(np.load(out / "views.npz")["source_lps_mm"], [image.view.source_lps_mm for image in written])
    reconstruct_case(case, out, replace(config, refine_poses="off"), lambda *given: None)
    assert not (out / "poses_refined.json").exists()
    assert "<h2>Poses</h2>" not in (out / "report.html").read_text()
