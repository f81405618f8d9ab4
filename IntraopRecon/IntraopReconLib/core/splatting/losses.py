"""What a reprojection is judged by. Every loss weighs pixels, so that what a mask leaves out never counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

SHARPENING = 50.0
SHARPENING_POWER = 1.4
_SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5


def weighted_mse(projected: Tensor, measured: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean square difference of images [view, row, column]."""
    return (weights * (projected - measured) ** 2).sum() / weights.sum().clamp(min=1e-9)


def sharpened_mse(projected: Tensor, measured: Tensor, weights: Tensor, sharpening: Tensor) -> Tensor:
    """Return the mean square of the weighted difference of images [view, row, column], its frequencies amplified.

    Projection blurs: what a Gaussian gets back of its own error falls with the frequency, so that fine detail is learned last. Amplifying
    the residual much as the ramp filter of filtered backprojection does evens that out, and the same steps go further.

    Args:
        projected, measured, weights: [view, row, column].
        sharpening: Power gain by frequency, as `sharpening_gain` gives it for images of this size.
    """
    spectrum = torch.fft.rfft2(weights.sqrt() * (projected - measured), norm="ortho")
    return (sharpening * (spectrum.real**2 + spectrum.imag**2)).sum() / projected.numel()


def sharpening_gain(rows: int, columns: int, pixel: float) -> Tensor:
    """Return the gain by frequency of `sharpened_mse`, [rows, columns // 2 + 1]: 1 for a flat residual, growing to SHARPENING + 1.

    Args:
        rows, columns: Of the images.
        pixel: Width of their pixels in pixels of the finest images, whose highest frequency the growth is measured by.
    """
    vertical, horizontal = torch.fft.fftfreq(rows)[:, None] / pixel, torch.fft.rfftfreq(columns)[None] / pixel
    gain = 1 + SHARPENING * (2 * torch.hypot(vertical, horizontal)) ** SHARPENING_POWER
    halves = torch.full((columns // 2 + 1,), 2.0)  # the half spectrum stands for the other half too, but for these columns:
    halves[0] = 1.0
    if columns % 2 == 0:
        halves[-1] = 1.0
    return gain * halves


def weighted_l1(projected: Tensor, measured: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean absolute difference of images [view, row, column]."""
    return (weights * (projected - measured).abs()).sum() / weights.sum().clamp(min=1e-9)


def photon_weights(attenuation: Tensor, mask: Tensor) -> Tensor:
    """Return pixel weights by the inverse variance of their noise.

    Photons fall as exp(-attenuation), and the variance of their logarithm is one over their number.

    Args:
        attenuation, mask: [view, row, column].
    """
    return attenuation.neg().exp_().clamp_(max=1.0).mul_(mask)  # in place: these are all images


def ssim(projected: Tensor, measured: Tensor, peak: float, weights: Tensor) -> Tensor:
    """Return the weighted mean structural similarity of images [view, row, column].

    A pixel counts where its whole window does.

    Source: Wang et al., IEEE Transactions on Image Processing 13 (2004) 600: Gaussian window of 11 pixels, K1 = 0.01, K2 = 0.03.
    """
    half = _SSIM_WINDOW_PX // 2
    offsets = torch.arange(_SSIM_WINDOW_PX, dtype=projected.dtype, device=projected.device) - half
    line = torch.exp(-0.5 * (offsets / _SSIM_SIGMA_PX) ** 2)
    line = line / line.sum()

    def smooth(images: Tensor) -> Tensor:
        return conv2d(conv2d(images[:, None], line[None, None, None]), line[None, None, :, None])[:, 0]

    mean_p, mean_m = smooth(projected), smooth(measured)
    var_p, var_m = smooth(projected**2) - mean_p**2, smooth(measured**2) - mean_m**2
    covariance = smooth(projected * measured) - mean_p * mean_m
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = ((2 * mean_p * mean_m + c1) * (2 * covariance + c2)) / ((mean_p**2 + mean_m**2 + c1) * (var_p + var_m + c2))
    full = (avg_pool2d((weights > 0).to(values.dtype)[:, None], _SSIM_WINDOW_PX, stride=1)[:, 0] > 1 - 1e-6).to(values.dtype)
    return (full * values).sum() / full.sum().clamp(min=1e-9)


def total_variation(volume: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbors in a volume [k, j, i]."""
    return volume.diff(dim=0).abs().mean() + volume.diff(dim=1).abs().mean() + volume.diff(dim=2).abs().mean()
