"""A small residual network over the interpolation: it looks at a cube of 64³ voxels in the patient's orientation and corrects the logit.

Most of the work is done at half the resolution: neighboring voxels are folded into channels at the entry and unfolded at the exit (the
three-dimensional pixel shuffle), so that a cube takes a few GFLOP.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

CUBE = 64  # voxels along each edge of what the network looks at
FOLD = 2
FIELD_LIMIT = 6.0  # voxels; farther from the outline the interpolated distance says nothing more
LOGITS_PER_VOXEL = 1.5
WIDTHS = (24, 48, 72, 88)
_PRIOR_LIMIT = 8.0
_FAR = 16.0  # voxels from the nearest slice; beyond, one is as far as another


def fold(volume: Tensor) -> Tensor:
    """Turn blocks of 2³ voxels into channels: [b, c, k, j, i] to [b, 8·c, k/2, j/2, i/2]."""
    b, c, k, j, i = volume.shape
    blocks = volume.reshape(b, c, k // FOLD, FOLD, j // FOLD, FOLD, i // FOLD, FOLD)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * FOLD**3, k // FOLD, j // FOLD, i // FOLD)


def unfold(volume: Tensor) -> Tensor:
    """Undo `fold`."""
    b, c, k, j, i = volume.shape
    blocks = volume.reshape(b, c // FOLD**3, FOLD, FOLD, FOLD, k, j, i)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // FOLD**3, k * FOLD, j * FOLD, i * FOLD)


class _Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.silu(self.first(functional.silu(self.norm(x)))))


class RefineNetwork(nn.Module):
    """A small U-Net of residual blocks; fresh, it corrects nothing.

    Args:
        widths: Channels at 32³, 16³, 8³ and 4³ voxels.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.entry = nn.Conv3d(2 * FOLD**3 + 1, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.encode = nn.ModuleList(_Residual(width) for width in widths)
        self.decode = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairs)
        self.exit = nn.Conv3d(widths[0], FOLD**3, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    def forward(self, field: Tensor, distance: Tensor, prior_logits: Tensor) -> Tensor:
        """Return the correction for `refined_logits`.

        Args:
            field: Interpolated signed distance in voxels, [b, 1, 64, 64, 64].
            distance: Distance to the nearest slice in voxels, the same shape.
            prior_logits: Logits of the implicit network over the same cube, [b, 1, n, n, n].

        Returns:
            The same shape as the field.
        """
        half = [n // FOLD for n in field.shape[2:]]
        prior = functional.interpolate(prior_logits, half, mode="trilinear", align_corners=False).clamp(-_PRIOR_LIMIT, _PRIOR_LIMIT)
        near = field.clamp(-FIELD_LIMIT, FIELD_LIMIT)
        x = torch.cat([fold(near) / 3, fold(distance.clamp(max=_FAR)) / 4, prior / 4], 1)
        x = self.encode[0](self.entry(x))
        passed = []
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            passed.append(x)
            x = encode(down(x))
        for up, decode, skip in zip(reversed(self.up), reversed(self.decode), reversed(passed), strict=True):
            x = decode(skip + functional.interpolate(up(x), scale_factor=2, mode="trilinear", align_corners=False))
        return unfold(self.exit(functional.silu(x)))


def refined_logits(field: Tensor, distance: Tensor, correction: Tensor) -> Tensor:
    """Return the logit of being inside; on the slices themselves it is that of the interpolation, whatever the correction.

    Args:
        field: Interpolated signed distance in voxels.
        distance: Distance to the nearest slice in voxels, the same shape.
        correction: Of a `RefineNetwork`, the same shape.
    """
    return LOGITS_PER_VOXEL * field.clamp(-FIELD_LIMIT, FIELD_LIMIT) + distance.clamp(max=1) * correction
