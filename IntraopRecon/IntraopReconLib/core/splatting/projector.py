"""project(): radiative Gaussians to X-ray images, differentiable, one signature over all kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from IntraopReconLib.core.voxels.kernels import CPU, CardVoxels
from IntraopReconLib.core.voxels.projection import ViewOnGrid
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from . import _projector_numba, _projector_reference
from ._numba_rows import PADDING
from .gaussians import Gaussians, kernel_for
from .voxelizer import voxelize


@dataclass(frozen=True, eq=False)
class Cameras:
    """The views that one call projects into, as arrays; all have the same size.

    Attributes:
        matrices: [view, 3, 4], mm to homogeneous pixels; the third component is the depth in mm.
        sources_mm: [view, 3].
        size_px: (columns, rows).
    """

    matrices: np.ndarray
    sources_mm: np.ndarray
    size_px: tuple[int, int]

    @classmethod
    def of(cls, views: Sequence[XrayView]) -> Cameras:
        """Collect views of one size.

        Raises:
            ValueError: The sizes differ.
        """
        sizes = {view.size_px for view in views}
        if len(sizes) != 1:
            raise ValueError(f"views: expected views of one size, got {sorted(sizes)}.")
        return cls(np.stack([v.projection_matrix for v in views]), np.stack([v.source_lps_mm for v in views]), sizes.pop())

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, index) -> Cameras:
        return Cameras(self.matrices[index], self.sources_mm[index], self.size_px)


def project(gaussians: Gaussians, cameras: Cameras, kernel: str | None = None, motions: Tensor | None = None) -> Tensor:
    """Project Gaussians into views.

    Args:
        gaussians: In the frame of the cameras, mm; on the CPU or, for `warp`, on any device, for `gsplat`, on a card.
        cameras: The views.
        kernel: `numba` (float32, CPU), `warp` (float32, any device), `gsplat` (float32, a card on which `probe_gsplat` found it to work)
            or `reference` (the parameters' own type, for tests); None for what suits the device, see `kernel_for`.
        motions: Rigid motions that carry the views along first, [view, 4, 4], if their gradient is asked for; not for `numba`.

    Returns:
        Attenuation line integrals, [view, row, column]; differentiable by all parameters of the Gaussians and by the motions.

    Raises:
        ValueError: Motions for `numba`.

    Source: R²-Gaussian, arXiv 2405.20693, section 4.2.
    """
    field = (gaussians.means_mm, gaussians.covariances_mm2(), gaussians.masses_mm2())
    kernel = kernel or kernel_for(gaussians)
    if kernel == "numba":
        if motions is not None:
            raise ValueError("motions: the kernel numba has no gradient by the views' poses; take warp or reference.")
        return _NumbaProjection.apply(*field, cameras)
    dtype = torch.float64 if kernel in ("warp", "gsplat") else gaussians.means_mm.dtype
    matrices, sources = (torch.as_tensor(a, dtype=dtype, device=gaussians.means_mm.device) for a in (cameras.matrices, cameras.sources_mm))
    if motions is not None:
        matrices = matrices @ torch.linalg.inv(motions.to(dtype))
        sources = (motions[:, :3, :3].to(dtype) @ sources[:, :, None])[:, :, 0] + motions[:, :3, 3].to(dtype)
    if kernel == "reference":
        return _projector_reference.project(*field, matrices, sources, cameras.size_px)
    if kernel == "gsplat":
        from . import _projector_gsplat  # only here, as it needs Warp too

        return _projector_gsplat.project(*field, matrices, sources, cameras.size_px)
    from . import _projector_warp  # only here: importing Warp takes a second, and it need not be installed

    return _projector_warp.project(*field, matrices, sources, cameras.size_px)


class _NumbaProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, covariances, masses, cameras):
        matrices, sources = cameras.matrices.astype(np.float32), cameras.sources_mm.astype(np.float32)
        determinants = np.abs(np.linalg.det(cameras.matrices[:, :, :3])).astype(np.float32)
        field = [tensor.detach().numpy() for tensor in (means, covariances, masses)]
        prints = _projector_numba.footprints(*field, matrices, sources, determinants)
        columns, rows = cameras.size_px
        ctx.kept = (prints, *field, matrices, sources)
        return torch.from_numpy(_projector_numba.forward(prints, rows, columns))[:, :, :columns]

    @staticmethod
    def backward(ctx, gradient):
        padded = torch.nn.functional.pad(gradient, (0, PADDING)).numpy()
        return *(torch.from_numpy(g) for g in _projector_numba.backward(ctx.kept[0], padded, *ctx.kept[1:])), None


def prepare(device: str = "cpu", kernel: str | None = None) -> None:
    """Compile, or load from the cache, all kernels of splatting for a device, and those of voxels, on a tiny scene; `kernel` projects."""
    view = XrayView([0, -600, 0], [-7, 420, 7], [1.0, 0, 0], [0, 0, -1.0], (16, 16))
    grid = VoxelGrid.box(np.zeros(3), 16.0, 2.0)
    tensors = torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1, 4), torch.zeros(1)
    gaussians = Gaussians(*(tensor.to(device).requires_grad_() for tensor in tensors))
    (project(gaussians, Cameras.of([view]), kernel).sum() + voxelize(gaussians, grid).sum()).backward()
    for kernels in [CPU] if device == "cpu" else [CPU, CardVoxels(device)]:  # a few voxels are computed on the CPU in any case
        volume, on_grid = kernels.put(np.ones(grid.shape_kji, np.float32)), ViewOnGrid.of(view, grid)
        kernels.add_backprojection(volume, kernels.project(volume, on_grid)[0], on_grid)
        kernels.denoise(volume, 0.1, kernels.put(np.zeros((3, *volume.shape), np.float32)), 1)
