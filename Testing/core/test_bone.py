"""The bone threshold on what volumes look like: suppressed soft tissue, plain soft tissue, contrast medium, metal, nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from IntraopReconLib.core.bone import bone_threshold

SHAPE = (40, 40, 40)
RADIUS = np.linalg.norm(np.indices(SHAPE) - 19.5, axis=0)
EVERYWHERE = np.ones(SHAPE, np.float32)


def volume(background, *parts, blur=0.7, noise=0.0008):
    """Attenuation of nested balls (radius, value), blurred and noisy."""
    values = np.full(SHAPE, background)
    for radius, value in parts:
        values[radius > RADIUS] = value
    return gaussian_filter(values, blur) + np.random.default_rng(0).normal(0, noise, SHAPE)


def test_bone_among_suppressed_soft_tissue_is_found_halfway():
    threshold = bone_threshold(volume(0.0, (18, 0.0011), (8, 0.03)), EVERYWHERE)
    assert 0.011 < threshold.value_per_mm < 0.02
    assert threshold.warning == "" or "contrast" in threshold.warning


def test_bone_among_plain_soft_tissue_is_above_it():
    threshold = bone_threshold(volume(0.0, (18, 0.02), (10, 0.042), (8, 0.03)), EVERYWHERE)
    assert 0.023 < threshold.value_per_mm < 0.03
    assert "soft tissue" in threshold.reason


def test_scattered_bone_gives_no_warning_and_an_even_organ_does():
    rng = np.random.default_rng(1)
    bone = gaussian_filter(np.where(rng.uniform(size=SHAPE) < 0.05, rng.uniform(0.1, 0.5, SHAPE), 0.0), 1.2)
    assert bone_threshold(bone, EVERYWHERE).warning == ""
    assert "contrast" in bone_threshold(volume(0.0, (14, 0.03), noise=0.0005), EVERYWHERE).warning


def test_metal_does_not_pull_the_threshold_up():
    values = volume(0.0, (18, 0.0011), (12, 0.03))
    with_metal = values.copy()
    with_metal[RADIUS < 5] = 0.5
    plain, metal = (bone_threshold(v, EVERYWHERE).value_per_mm for v in (values, with_metal))
    assert metal < 1.5 * plain
    assert metal < 0.03


def test_unknown_voxels_have_no_say():
    values = volume(0.0, (8, 0.03))
    coverage = EVERYWHERE.copy()
    coverage[:, :, :4] = 0
    expected = bone_threshold(values, coverage)
    values[:, :, :4] = np.random.default_rng(2).uniform(0, 1, values[:, :, :4].shape)
    assert bone_threshold(values, coverage) == expected


@pytest.mark.parametrize("values", [np.zeros(SHAPE), volume(0.0, (18, 0.0011))])
def test_a_volume_without_bone_says_so(values):
    threshold = bone_threshold(values, EVERYWHERE)
    assert values.max() < threshold.value_per_mm < 0.03
    assert "no bone surface" in threshold.warning


def test_nothing_covered_is_no_crash():
    assert bone_threshold(volume(0.0, (8, 0.03)), np.zeros(SHAPE)).warning


def test_the_user_may_choose():
    threshold = bone_threshold(np.zeros(SHAPE), EVERYWHERE, 0.021)
    assert (threshold.value_per_mm, threshold.reason, threshold.warning) == (0.021, "chosen by the user", "")
    with pytest.raises(ValueError, match="chosen_per_mm"):
        bone_threshold(np.zeros(SHAPE), EVERYWHERE, -1.0)


@pytest.mark.parametrize(("scene", "warns"), [("lumbar", False), ("thorax", True)])
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_real_scenes(shared_data, scene, warns, blur):
    truth = np.load(shared_data / "scenes" / f"{scene}.npz")["ground_truth_per_mm"]
    threshold = bone_threshold(gaussian_filter(truth, blur), np.ones_like(truth))
    assert 0.007 < threshold.value_per_mm < 0.018  # suppressed soft tissue: 0.0011; bone: 0.02-0.05
    assert bool(threshold.warning) == warns  # the thorax has a heart full of contrast medium
