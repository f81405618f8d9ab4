"""voxelize(): radiative Gaussians to a volume, differentiable, one signature over all kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from SparseAnatomyLib.grid import VoxelGrid

from . import _voxelizer_numba
from ._numba_rows import PADDING
from ._projector_reference import symmetric
from .gaussians import Gaussians, kernel_for

TRIANGLE = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)


def voxelize(gaussians: Gaussians, grid: VoxelGrid, kernel: str | None = None) -> Tensor:
    """Sample the field of Gaussians at the voxel centres.

    Args:
        gaussians: In the frame that the grid is stated in, mm.
        grid: Any grid.
        kernel: `numba` (float32, CPU), `warp` (float32, any device) or `reference` (the parameters' own type, every Gaussian into every
            voxel, for tests); None for what suits the device, see `kernel_for`.

    Returns:
        Attenuation per mm, [k, j, i]; differentiable by all parameters of the Gaussians.

    Source: R²-Gaussian, arXiv 2405.20693, section 4.2.3.
    """
    dtype = gaussians.means_mm.dtype
    ijk_from_mm = np.linalg.inv(grid.lps_from_ijk)
    linear, shift = (torch.as_tensor(a, dtype=dtype, device=gaussians.means_mm.device) for a in (ijk_from_mm[:3, :3], ijk_from_mm[:3, 3]))
    means = gaussians.means_mm @ linear.T + shift
    covariances = linear @ symmetric(gaussians.covariances_mm2()) @ linear.T
    precisions = torch.linalg.inv_ex(covariances).inverse  # `inv` would wait for the card, to see whether one has none
    densities = gaussians.densities_per_mm()
    kernel = kernel or kernel_for(gaussians)
    if kernel == "reference":
        return _reference(means, precisions, densities, grid.shape_kji)
    triangles = (torch.stack([matrices[:, i, j] for i, j in TRIANGLE], -1) for matrices in (covariances, precisions))
    field = means, *triangles, densities
    if kernel == "numba":
        return _NumbaVoxelization.apply(*field, grid.shape_kji)
    from . import _voxelizer_warp  # only here: importing Warp takes a second, and it need not be installed

    return _voxelizer_warp.voxelize(*field, grid.shape_kji)


def _reference(means: Tensor, precisions: Tensor, densities: Tensor, shape_kji: tuple[int, int, int]) -> Tensor:
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=means.dtype) for n in shape_kji), indexing="ij")
    offsets = torch.stack([i, j, k], -1)[..., None, :] - means  # [k, j, i, N, 3]
    exponents = torch.einsum("...na,nab,...nb->...n", offsets, precisions, offsets)
    return (densities * torch.exp(-0.5 * exponents)).sum(-1)


class _NumbaVoxelization(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, covariances, precisions, densities, shape_kji):
        ctx.field = [t.detach().contiguous().numpy() for t in (means, covariances, precisions, densities)]
        return torch.from_numpy(_voxelizer_numba.forward(*ctx.field, *shape_kji))[..., : shape_kji[2]]

    @staticmethod
    def backward(ctx, gradient):
        padded = torch.nn.functional.pad(gradient, (0, PADDING)).numpy()
        means, precisions, densities = (torch.from_numpy(g) for g in _voxelizer_numba.backward(*ctx.field, padded))
        return means, None, precisions, densities, None
