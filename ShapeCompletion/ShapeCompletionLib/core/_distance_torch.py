"""The distances within slices on a graphics card: every pixel to every other one along rows, then along columns, all slices at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from SparseAnatomyLib.work_device import on_host

from .sampling import Slice

_BLOCK = 2**26  # pairs of pixels that are looked at together


def signed_distances(slices: Sequence[Slice], device: str) -> list[np.ndarray]:
    """Return the distance of each pixel to the outline of its slice, positive inside, float32 [row, column] in mm; 0 in empty slices.

    Args:
        slices: Of any shapes and spacings.
        device: Where it is computed.
    """
    rows, columns = (max(one.mask.shape[axis] for one in slices) + 2 for axis in (0, 1))  # beyond the images is outside
    masks = np.zeros((len(slices), rows, columns), bool)
    for image, one in zip(masks, slices, strict=True):
        image[1 : one.mask.shape[0] + 1, 1 : one.mask.shape[1] + 1] = one.mask
    pitches = np.array([one.pixel_spacing_mm for one in slices], np.float32)
    on_card, pitch = torch.from_numpy(masks).to(device), torch.from_numpy(pitches).to(device)
    found = on_host(_signed(on_card, pitch))
    cut = [image[1 : one.mask.shape[0] + 1, 1 : one.mask.shape[1] + 1] for image, one in zip(found, slices, strict=True)]
    return [image if one.mask.any() else np.zeros_like(image) for image, one in zip(cut, slices, strict=True)]


def _signed(inside: Tensor, pitch: Tensor) -> Tensor:
    """Return signed distances of masks [n, row, column] with pixel spacings along column and row [n, 2]; outlines run between pixels."""
    half = pitch.amin(1)[:, None, None] / 2
    within, beyond = (torch.maximum(_to_nearest(part, pitch) - half, half / 2) for part in (~inside, inside))
    return torch.where(inside, within, -beyond)


def _to_nearest(wanted: Tensor, pitch: Tensor) -> Tensor:
    """Return the distance of each pixel to the nearest wanted one, infinite where there is none, [n, row, column]."""
    count, rows, columns = wanted.shape
    together = max(_BLOCK // (count * columns * max(rows, columns)), 1)  # rows
    across, along = _squares(columns, pitch[:, 0])[:, None], _squares(rows, pitch[:, 1])[..., None]
    known = torch.where(wanted, 0.0, torch.inf)[:, :, None]
    in_row = torch.cat([(part + across).amin(3) for part in known.split(together, 1)], 1)[:, None]
    return torch.cat([(in_row + part).amin(2) for part in along.split(together, 1)], 1).sqrt()


def _squares(length: int, pitch: Tensor) -> Tensor:
    """Return the squared distances of pixels along a line, [n, length, length]."""
    place = torch.arange(length, device=pitch.device)
    return ((place[:, None] - place) * pitch[:, None, None]).square()
