"""The standardizer without a network: against the truth of simulated pictures, with veils, vignetting and masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from standardize_scenes import PITCH_MM, bones, counted, soft_tissue

from IntraopReconLib.core.standardization.classical import ClassicalStandardizer, block_means, without_veil
from IntraopReconLib.core.standardization_config import ClassicalSettings
from SparseAnatomyLib.metrics import psnr_db

EVERYWHERE = np.ones((160, 160), bool)
STANDARDIZER = ClassicalStandardizer()


def picture(veil: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the attenuation of an X-ray and of its bone."""
    bone = bones(seed=seed)
    return -np.log(counted(bone + soft_tissue(), seed=seed) + veil).astype(np.float32), bone.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_bone_comes_out_far_nearer_to_the_truth_than_it_went_in(seed):
    attenuation, bone = picture(seed=seed)
    found = STANDARDIZER.bone(attenuation, EVERYWHERE, PITCH_MM)
    assert psnr_db(found, bone, peak=float(bone.max())) > psnr_db(attenuation, bone, peak=float(bone.max())) + 15
    assert np.corrcoef(found.ravel(), bone.ravel())[0, 1] > 0.8
    assert found.dtype == np.float32
    assert (found >= 0).all()


def test_a_veil_is_taken_off():
    clean, veiled = picture()[0], picture(veil=0.01)[0]
    lifted = without_veil(veiled, EVERYWHERE, ClassicalSettings())
    assert np.abs(lifted - clean).mean() < 0.5 * np.abs(veiled - clean).mean()


def test_a_smooth_gain_changes_next_to_nothing():
    attenuation, bone = picture()
    row, column = np.mgrid[-1:1:160j, -1:1:160j]
    vignetted = attenuation + 0.3 * (row**2 + column**2).astype(np.float32)
    difference = STANDARDIZER.bone(vignetted, EVERYWHERE, PITCH_MM) - STANDARDIZER.bone(attenuation, EVERYWHERE, PITCH_MM)
    assert np.sqrt(np.mean(difference**2)) < 0.12 * bone.max()


def test_what_is_masked_says_nothing_and_gets_nothing():
    attenuation, _ = picture()
    mask = np.hypot(*np.mgrid[-1:1:160j, -1:1:160j]) < 0.9
    one, other = attenuation.copy(), attenuation.copy()
    one[~mask], other[~mask] = 0.0, 50.0
    found = STANDARDIZER.bone(one, mask, PITCH_MM)
    np.testing.assert_array_equal(found, STANDARDIZER.bone(other, mask, PITCH_MM))
    assert (found[~mask] == 0).all()
    assert (found[mask] > 0).any()


def test_an_image_without_bone_stays_empty():
    slope = np.broadcast_to(np.linspace(2, 2.2, 160, dtype=np.float32), (160, 160))
    assert STANDARDIZER.bone(slope, EVERYWHERE, PITCH_MM).max() < 0.1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="expected one shape"):
        STANDARDIZER.bone(np.zeros((4, 5), np.float32), np.ones((5, 4), bool), 1.0)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), pitch_mm=st.floats(0.05, 20))
def test_whatever_comes_in_something_finite_comes_out(data, pitch_mm):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
    attenuation = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-2, 20, width=32)))
    mask = data.draw(hnp.arrays(bool, shape))
    found = STANDARDIZER.bone(attenuation, mask, pitch_mm)
    assert found.shape == shape
    assert np.isfinite(found).all()
    assert (found[~mask] == 0).all()


def test_block_means_leave_masked_pixels_out():
    image, mask = np.arange(15, dtype=np.float32).reshape(3, 5), np.ones((3, 5), bool)
    mask[0, 0] = False
    means, known = block_means(image, mask, 2)
    assert means[0, 0] == pytest.approx((1 + 5 + 6) / 3)
    assert known.tolist() == [[True, True, True], [True, True, False]]
