"""What reprojections are judged by: known values, and never what the mask leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from IntraopReconLib.core.splatting import losses

LOSSES = {
    "mse": losses.weighted_mse,
    "l1": losses.weighted_l1,
    "ssim": lambda p, m, w: losses.ssim(p, m, 1.0, w),
}


def _images(count=2, rows=37, columns=30, seed=0):
    return torch.rand((count, rows, columns), generator=torch.Generator().manual_seed(seed))


def _mask():
    mask = torch.ones(2, 37, 30)
    mask[0, :9, 4:20] = 0
    mask[1, 30:] = 0
    return mask


def test_weighted_means_are_those_of_the_pixels_that_count():
    projected, measured, mask = _images(seed=1), _images(seed=2), _mask()
    difference = (projected - measured)[mask > 0]
    assert float(losses.weighted_mse(projected, measured, mask)) == pytest.approx(float((difference**2).mean()), rel=1e-5)
    assert float(losses.weighted_l1(projected, measured, mask)) == pytest.approx(float(difference.abs().mean()), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_garbage_behind_the_mask_changes_neither_value_nor_gradient(name):
    projected, measured, mask = _images(seed=1), _images(seed=2), _mask()
    found = []
    for garbage in (0.0, 1e3):
        image = projected.clone().requires_grad_()
        value = LOSSES[name](image, torch.where(mask > 0, measured, torch.tensor(garbage)), mask)
        value.backward()
        found.append((float(value.detach()), image.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert (found[0][1][mask == 0] == 0).all()
    assert found[0][1].abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_measured_is_no_number_but_nan(name):
    assert np.isfinite(float(LOSSES[name](_images(seed=1), _images(seed=2), torch.zeros(2, 37, 30))))


@pytest.mark.parametrize("peak", [1.0, 3.0])
def test_ssim_is_that_of_scikit_image(peak):
    projected, measured = _images(seed=1), _images(seed=1) + 0.1 * _images(seed=2)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": peak, "full": True}
    maps = [structural_similarity(p.numpy(), m.numpy(), **options)[1] for p, m in zip(projected.double(), measured.double(), strict=True)]
    full = np.stack(maps)[:, 5:-5, 5:-5]
    assert float(losses.ssim(projected.double(), measured.double(), peak, torch.ones(2, 37, 30))) == pytest.approx(full.mean(), abs=1e-6)
    mask = _mask()
    windows = torch.nn.functional.unfold(mask[:, None], 11).reshape(2, 121, *full.shape[1:])
    counts = windows.min(1).values.numpy() > 0
    assert float(losses.ssim(projected.double(), measured.double(), peak, mask)) == pytest.approx(full[counts].mean(), abs=1e-6)


def test_equal_images_have_ssim_one():
    image = _images()
    assert float(losses.ssim(image, image, 1.0, torch.ones_like(image))) == pytest.approx(1, abs=1e-5)


def test_photon_weights_are_the_transmission_and_never_above_one():
    attenuation = torch.tensor([[[0.0, 1.0, -0.2, 3.0]]])
    weights = losses.photon_weights(attenuation, torch.tensor([[[1.0, 1.0, 1.0, 0.0]]]))
    np.testing.assert_allclose(weights.numpy().ravel(), [1, np.exp(-1), 1, 0], rtol=1e-6)


def test_total_variation_of_a_step_and_of_a_ramp():
    step = torch.zeros(4, 6, 8)
    step[:, 3:] = 0.5
    assert float(losses.total_variation(step)) == pytest.approx(0.5 / 5)
    k, j, i = torch.meshgrid(*(torch.arange(n).float() for n in (4, 6, 8)), indexing="ij")
    assert float(losses.total_variation(0.1 * k + 0.2 * j + 0.4 * i)) == pytest.approx(0.7, rel=1e-5)
