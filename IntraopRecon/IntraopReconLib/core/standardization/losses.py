"""What a standardizer is trained for: bone as it is, its edges, and anomalies that pass."""

from __future__ import annotations

from torch import Tensor

LEAST_CONTRAST = 0.05  # in attenuation: what changes less is no anomaly


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


def anomaly_error(bone: Tensor, ideal: Tensor, mask: Tensor) -> Tensor:
    """Return how far what anomalies change is from what they should change, where they should: squared, relative, mean over the pixels.

    1 where they are erased. Squares ask for the right contrast in the mean, where absolute differences would let it shrink to the median;
    each pixel's is taken relative to what it should change, so that a faint fracture counts as much as the screw beside it. Elsewhere the
    loss on the images themselves sees to it that nothing changes.

    Args:
        bone: Predicted, pairs of images without and with anomalies, [n, 2, row, column].
        ideal: Of the same shape.
        mask: [n, 1, row, column].
    """
    should, does = ((each[:, 1:] - each[:, :1]) * mask for each in (ideal, bone))
    where = (should.abs() > LEAST_CONTRAST).to(should.dtype)
    return masked_l1((does - should).square() / should.square().clamp(min=LEAST_CONTRAST**2), where)


def opinion_loss(opinion: Tensor, ideal: bool) -> Tensor:
    """Return the squared distance of a discriminator's opinion from the truth (least-squares GAN)."""
    return (opinion - float(ideal)).square().mean()
