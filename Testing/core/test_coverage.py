"""What the views constrain: nothing outside their cones, nothing from one direction, all where directions are spread."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import phantom_scene
import pytest
from phantom_scene import CENTER_LPS_MM, REGION

from IntraopReconLib.core.acquisition import prepare
from IntraopReconLib.core.config import Region, SimulationConfig
from IntraopReconLib.core.coverage import coverage, default_region
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine, transform_points


def _circular(count, arc_deg=180.0, size_px=32, detector_mm=200.0):
    config = SimulationConfig(views=count, size_px=size_px, orbit="circular", arc_deg=arc_deg, detector_mm=detector_mm)
    return random_poses(config, np.array(CENTER_LPS_MM), np.random.default_rng(0))


def _ready(poses, region=REGION, masks=None):
    images = [np.ones(pose.size_px[::-1], np.float32) for pose in poses]
    masks = [image > 0 for image in images] if masks is None else masks
    return prepare([MeasuredView(f"view {n}", *given) for n, given in enumerate(zip(images, masks, poses, strict=True))], region, 0)


@pytest.mark.parametrize("detector_mm", [150.0, 300.0])
def test_default_region_of_a_circular_orbit(detector_mm):
    region = default_region(_circular(8, detector_mm=detector_mm))
    half_angle = np.arctan(detector_mm / 2 / 1020)
    assert region.center_lps_mm == pytest.approx(CENTER_LPS_MM, abs=1e-3)
    assert region.extent_mm == pytest.approx((2 * 620 * np.sin(half_angle),) * 3, rel=1e-6)


def test_default_region_moves_with_the_scene():
    poses, motion = phantom_scene.poses(9), phantom_scene.a_rigid_motion()
    here, there = default_region(poses), default_region([pose.transformed(motion) for pose in poses])
    assert there.center_lps_mm == pytest.approx(transform_points(motion, np.array(here.center_lps_mm)), abs=1e-2)
    assert there.extent_mm == pytest.approx(here.extent_mm, rel=1e-4)


def test_default_region_outlives_one_view_that_looks_elsewhere():
    poses = _circular(9)
    astray = replace(poses[4], detector_origin_lps_mm=poses[4].pixel_lps_mm([12, 0]))
    region = default_region([*poses[:4], astray, *poses[5:]])
    assert np.linalg.norm(np.subtract(region.center_lps_mm, CENTER_LPS_MM)) < 15
    assert region.extent_mm[0] > 90


def test_default_region_of_one_direction_lies_between_source_and_detector():
    pose = _circular(1)[0]
    center = np.array(default_region([pose, pose]).center_lps_mm)
    assert 0 < pose.depth_mm(center) < pose.source_to_detector_mm


def test_views_without_a_common_volume_are_refused():
    poses = [pose.transformed(affine(np.eye(3), np.array([0, 0, 500.0 * n]))) for n, pose in enumerate(_circular(4))]
    with pytest.raises(InputError, match="no volume in common"):
        default_region(poses)


def test_all_views_evenly_spread_give_one_at_the_center():
    ready = _ready(_circular(8))
    covered = coverage(ready, ready.grid(3.0))
    assert covered.dtype == np.float32
    assert covered.shape == ready.grid(3.0).shape_kji
    assert covered[10, 11, 12] == pytest.approx(1, abs=0.02)
    assert (covered >= 0).all()
    assert (covered <= 1).all()


def test_outside_all_cones_is_unknown():
    region = Region(CENTER_LPS_MM, (60.0, 60.0, 300.0))
    ready = _ready(_circular(8), region)
    grid = ready.grid(5.0)
    covered, z = coverage(ready, grid), grid.points_lps_mm()[..., 2]
    reach = 620 * (100 / 1020) * (1 + 43 / 620)  # of the cones along the patient, at the box's far edge
    assert (covered[np.abs(z) > reach + 10] == 0).all()
    assert (covered[np.abs(z) < 45] > 0.9).all()


def test_one_direction_is_unknown_everywhere():
    pose = _circular(1)[0]
    ready = _ready([pose, pose, pose])
    assert coverage(ready, ready.grid(4.0)).max() < 1e-6


def test_a_narrower_arc_covers_less():
    means = [coverage(ready := _ready(_circular(8, arc)), ready.grid(6.0)).mean() for arc in (180.0, 90.0, 45.0, 10.0)]
    assert all(a > b for a, b in pairwise(means))
    in_plane = np.deg2rad(45.0) / 8 * (np.arange(8) - 3.5)
    eigenvalues = np.linalg.eigvalsh(np.mean([np.outer(d, d) for d in np.stack([np.sin(in_plane), np.cos(in_plane)], -1)], 0))
    ready = _ready(_circular(8, 45.0))
    assert coverage(ready, ready.grid(6.0))[5, 5, 6] == pytest.approx(2 * eigenvalues[0], rel=0.05)


def test_masked_pixels_see_nothing():
    poses = _circular(8)
    masks = [np.ones((32, 32), bool) for _ in poses]
    for mask in masks:
        mask[:16] = False  # the half towards the head
    ready = _ready(poses, masks=masks)
    grid = ready.grid(3.0)
    covered, z = coverage(ready, grid), grid.points_lps_mm()[..., 2]
    assert (covered[z > 10] == 0).all()
    assert (covered[z < -10] > 0.8).all()


def test_a_masked_view_counts_as_missing():
    poses = _circular(8)
    masks = [np.ones((32, 32), bool) for _ in poses]
    masks[3] = np.zeros((32, 32), bool)
    masks[3][0, 0] = True
    ready = _ready(poses, masks=masks)
    assert coverage(ready, ready.grid(3.0))[10, 11, 12] == pytest.approx(7 / 8, abs=0.15)
    assert coverage(ready, ready.grid(3.0))[10, 11, 12] < 7 / 8 + 1e-6
