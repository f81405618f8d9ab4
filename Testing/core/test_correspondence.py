"""Which point is which bead, and the pose: three points, search, assignment, rivals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bead_scenes import CAMERA, pixels, pose, shot, volume_jig
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.calibration._pose_numba import poses_from_three
from IntraopReconLib.core.calibration.camera import Camera, moved, rotation_angle_deg, rotation_matrix
from IntraopReconLib.core.calibration.correspondence import BeadPoints, Beads, match_view, project, refine_match
from IntraopReconLib.core.calibration_config import MatchSettings
from SparseAnatomyLib.frames import affine


def _errors(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the errors of the rotation in degrees and of the source in mm."""
    rotation = rotation_angle_deg(found[:3, :3], truth[:3, :3])
    return rotation, float(np.linalg.norm(np.linalg.inv(found)[:3, 3] - np.linalg.inv(truth)[:3, 3]))


def test_three_points_give_the_pose_among_at_most_four():
    rng = np.random.default_rng(0)
    poses = np.empty((4, 3, 4))
    for rotation in Rotation.random(300, random_state=1).as_matrix():
        world = rng.uniform(-80, 80, (3, 3))
        translation = np.array([*rng.uniform(-60, 60, 2), rng.uniform(300, 800)])
        local = world @ rotation.T + translation
        count = poses_from_three(world, local / np.linalg.norm(local, axis=1)[:, None], poses)
        for found in poses[:count]:  # each of them brings the points onto their rays
            np.testing.assert_allclose(found[:, :3] @ found[:, :3].T, np.eye(3), atol=1e-9)
            again = world @ found[:, :3].T + found[:, 3]
            np.testing.assert_allclose(again[:, :2] / again[:, 2:], local[:, :2] / local[:, 2:], atol=1e-6)
        assert min(np.abs(found - np.column_stack([rotation, translation])).max() for found in poses[:count]) < 1e-4


def test_points_on_a_line_give_no_pose():
    world = np.array([[0.0, 0, 0], [10, 0, 0], [20, 0, 0]])
    local = world + [0, 0, 600]
    assert poses_from_three(world, local / np.linalg.norm(local, axis=1)[:, None], np.empty((4, 3, 4))) == 0


def test_a_camera_is_what_its_view_says():
    view = CAMERA.view(pose(20, 10, 5))
    again = Camera.of(view)
    assert not view.is_mirrored
    np.testing.assert_allclose(again.focal_px, CAMERA.focal_px)
    np.testing.assert_allclose(again.principal_point_px, CAMERA.principal_point_px)
    np.testing.assert_allclose(np.linalg.inv(view.lps_from_camera), pose(20, 10, 5), atol=1e-9)


def test_distortion_is_undone():
    camera = replace(CAMERA, radial=0.05)
    points = np.random.default_rng(0).uniform(0, 480, (50, 2))
    assert np.abs(camera.distorted_px(points) - points).max() > 5
    np.testing.assert_allclose(camera.undistorted_px(camera.distorted_px(points)), points, atol=1e-4)
    np.testing.assert_allclose(camera.distorted_px(camera.center_px), camera.center_px)
    corner = camera.center_px + camera.half_diagonal_px * np.array([0.6, 0.8])
    np.testing.assert_allclose(camera.distorted_px(corner) - camera.center_px, 1.05 * (corner - camera.center_px))


def test_projection_agrees_with_the_view():
    jig = volume_jig()
    np.testing.assert_allclose(project(pose(30, -15, 8, jig), jig, CAMERA), pixels(pose(30, -15, 8, jig), jig), atol=1e-9)


def test_moving_a_pose_about_a_point_leaves_it_where_it_was():
    pivot = np.array([10.0, -20.0, 5.0])
    before = pose(10)
    after = moved(before, rotation_matrix(np.array([0.1, 0.2, 0.3])), np.zeros(3), pivot)
    np.testing.assert_allclose(after @ [*pivot, 1], before @ [*pivot, 1])
    assert rotation_angle_deg(after[:3, :3], before[:3, :3]) == pytest.approx(np.rad2deg(np.sqrt(0.14)))


@pytest.mark.parametrize("prior", [True, False])
def test_a_view_is_solved_with_missing_and_false_beads(prior: bool):
    jig = volume_jig(count=10)
    for seed, truth in enumerate([pose(0, 0, 0, jig), pose(60, 20, 15, jig), pose(-100, -30, -20, jig)]):
        points = shot("view", truth, jig, seed, missing=3, false=5)
        points = points if prior else replace(points, camera_from_lps=None)
        found = match_view(points, replace(jig, kind=None), CAMERA)
        assert len(found) == 1
        rotation, source = _errors(found[0].camera_from_lps, truth)
        assert (rotation, source) < (0.4, 4.0)
        assert len(found[0].matches) >= 7
        true = pixels(truth, jig)[found[0].matches[:, 0]] - points.pixel[found[0].matches[:, 1]]
        assert (np.linalg.norm(true, axis=1) < 3).all()
        assert found[0].rms_px < 1


def test_without_noise_the_pose_is_exact_and_the_residuals_are_of_the_points():
    jig = volume_jig()
    truth = pose(25, 10, -5, jig)
    found = match_view(shot("view", truth, jig, noise_px=0.0), jig, CAMERA)[0]
    assert _errors(found.camera_from_lps, truth) < (1e-5, 1e-4)
    assert found.rms_px < 1e-5
    assert found.cost < 1e-9


def test_a_prior_keeps_what_lies_beyond_it_out():
    jig = volume_jig()
    truth = pose(0, 0, 0, jig)
    points = replace(shot("view", truth, jig), camera_from_lps=affine(rotation_matrix(np.array([0, 1.0, 0])) @ truth[:3, :3], np.zeros(3)))
    assert match_view(points, jig, CAMERA) == []
    assert match_view(points, jig, CAMERA, MatchSettings(prior_deg=60.0))


def test_sizes_decide_between_poses_that_a_symmetric_jig_confuses():
    half = np.array([[x, y, 25.0 * x * y / 60**2] for x, y in ((60, 35), (45, -20), (20, 55), (30, 10), (55, -50))])
    position = np.concatenate([half, half * [-1, -1, 1]])  # a half turn about z maps the jig onto itself
    kind = np.array([2] + [1] * 9)
    truth = pose(90, 60, 0)
    pixel = pixels(truth, Beads(position))
    assert len(match_view(BeadPoints("view", pixel), Beads(position), CAMERA)) > 1
    found = match_view(BeadPoints("view", pixel, kind), Beads(position, kind), CAMERA)
    assert len(found) == 1
    assert _errors(found[0].camera_from_lps, truth) < (1e-3, 1e-2)


def test_too_few_points_or_points_by_chance_are_no_pose():
    jig = volume_jig(count=10)
    points = shot("view", pose(0, 0, 0, jig), jig)
    assert match_view(BeadPoints("view", points.pixel[:5], None, points.camera_from_lps), jig, CAMERA) == []
    assert match_view(BeadPoints("view", np.zeros((0, 2))), jig, CAMERA) == []
    chance = np.random.default_rng(4).uniform(0, 470, (12, 2))
    assert match_view(BeadPoints("view", chance, None, points.camera_from_lps), jig, CAMERA) == []


def test_a_pose_moved_by_hand_is_refined():
    jig = volume_jig()
    truth = pose(25, 10, -5, jig)
    off = moved(truth, rotation_matrix(np.array([0.02, -0.03, 0.02])), np.array([1.0, -1.0, 10.0]), jig.position_lps_mm.mean(0))
    found = refine_match(off, replace(shot("view", truth, jig, noise_px=0.0), kind=None), jig, CAMERA)
    assert _errors(found.camera_from_lps, truth) < (1e-5, 1e-4)


def test_points_of_the_wrong_shape_are_named():
    with pytest.raises(ValueError, match="kind"):
        BeadPoints("view", np.zeros((3, 2)), np.zeros(2, int))
    with pytest.raises(ValueError, match="position_lps_mm"):
        Beads(np.zeros((3, 2)))
