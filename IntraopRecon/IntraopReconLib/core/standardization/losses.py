"""What a standardizer is trained for: bone as it is, its edges, and anomalies that pass."""

from __future__ import annotations

from torch import Tensor

LEAST_ANOMALY = 2e-5  # mean square over the image: an attenuation of .02 on a twentieth of it


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
    """Return how far what anomalies change is from what they should change: squared, relative to the latter, mean over the pairs.

    1 where they are erased. Squares ask for the right contrast in the mean, where absolute differences would let it shrink to the median;
    of a pair whose anomalies hardly show, the error is taken relative to the least contrast that counts.

    Args:
        bone: Predicted, pairs of images without and with anomalies, [n, 2, row, column].
        ideal: Of the same shape.
        mask: [n, 1, row, column].
    """
    should, does = ((each[:, 1:] - each[:, :1]) * mask for each in (ideal, bone))
    error, size = ((each.square()).mean((1, 2, 3)) for each in (does - should, should))
    return (error / (size + LEAST_ANOMALY)).mean()


def opinion_loss(opinion: Tensor, ideal: bool) -> Tensor:
    """Return the squared distance of a discriminator's opinion from the truth (least-squares GAN)."""
    return (opinion - float(ideal)).square().mean()
