"""What a standardizer is trained for: bone as it is, its edges, and anomalies that pass."""

from __future__ import annotations

from torch import Tensor


def masked_l1(difference: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute difference within the mask; both [n, 1, row, column]."""
    return (difference.abs() * mask).sum() / mask.sum().clamp(min=1)


def fidelity(difference: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of |d| + d² / 2 within the mask: the square keeps dense bone from being taken for the median of all."""
    return masked_l1(difference.abs() + 0.5 * difference.square(), mask)


def gradient_l1(difference: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute difference between neighboring pixels of a difference, both within the mask."""
    total = difference.new_zeros(())
    for axis in (2, 3):
        length = difference.shape[axis] - 1
        both = mask.narrow(axis, 0, length) * mask.narrow(axis, 1, length)
        total = total + masked_l1(difference.diff(dim=axis), both)
    return total


def anomaly_l1(bone: Tensor, ideal: Tensor, mask: Tensor) -> Tensor:
    """Return how far what an anomaly changes is from what it should change, mean absolute difference within the mask.

    It is not taken relative to the anomaly's size: a small one's gradient would then outweigh that of the whole image.

    Args:
        bone: Predicted, pairs of images without and with anomalies, [n, 2, row, column].
        ideal: Of the same shape.
        mask: [n, 1, row, column].
    """
    return masked_l1((bone[:, 1:] - bone[:, :1]) - (ideal[:, 1:] - ideal[:, :1]), mask)


def opinion_loss(opinion: Tensor, ideal: bool) -> Tensor:
    """Return the squared distance of a discriminator's opinion from the truth (least-squares GAN)."""
    return (opinion - float(ideal)).square().mean()
