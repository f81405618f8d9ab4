"""The sharpened loss: the plain one where nothing is sharpened, more for finer detail, and nothing for what the mask leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from IntraopReconLib.core.splatting import losses


def _images(count=2, rows=37, columns=30, seed=0):
    return torch.rand((count, rows, columns), generator=torch.Generator().manual_seed(seed))


def test_garbage_behind_the_mask_changes_neither_value_nor_gradient():
    mask, gain, found = torch.ones(2, 37, 30), losses.sharpening_gain(37, 30, 1), []
    mask[0, :9, 4:20] = 0
    for garbage in (0.0, 1e3):
        image = _images(seed=1).requires_grad_()
        value = losses.sharpened_mse(image, torch.where(mask > 0, _images(seed=2), torch.tensor(garbage)), mask, gain)
        value.backward()
        found.append((float(value.detach()), image.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert (found[0][1][mask == 0] == 0).all()


@pytest.mark.parametrize("columns", [30, 31])
def test_without_sharpening_the_spectrum_holds_the_mean_square(columns, monkeypatch):
    monkeypatch.setattr(losses, "SHARPENING", 0.0)
    projected, measured, weights = (_images(columns=columns, seed=seed) for seed in (1, 2, 3))
    got = losses.sharpened_mse(projected, measured, weights, losses.sharpening_gain(37, columns, 1))
    assert float(got) == pytest.approx(float((weights * (projected - measured) ** 2).mean()), rel=1e-5)


def test_sharpening_grows_with_the_frequency_and_leaves_flat_residuals():
    gain = losses.sharpening_gain(32, 32, 1)
    flat, waves = torch.ones(1, 32, 32), torch.cos(2 * torch.pi * torch.arange(32) / 8).expand(1, 32, 32)
    ones, zeros = torch.ones(1, 32, 32), torch.zeros(1, 32, 32)
    assert float(losses.sharpened_mse(0.3 * flat, zeros, ones, gain)) == pytest.approx(0.09, rel=1e-5)
    expected = 0.5 * (1 + losses.SHARPENING * 0.25**losses.SHARPENING_POWER)
    assert float(losses.sharpened_mse(waves, zeros, ones, gain)) == pytest.approx(expected, rel=1e-4)


def test_binned_pixels_are_sharpened_at_the_same_frequency_per_mm():
    fine, coarse = losses.sharpening_gain(32, 32, 1), losses.sharpening_gain(16, 16, 2)
    np.testing.assert_allclose(coarse[:8, :8].numpy(), fine[:8, :8].numpy(), rtol=1e-6)
