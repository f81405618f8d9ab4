"""What the tests of the splatting and of the voxel projector share: Gaussians, asymmetric views, kernels to hold to the reference."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec

import gsplat_stand_in
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.projector import Cameras, project
from IntraopReconLib.core.splatting.voxelizer import voxelize
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid


@dataclass(frozen=True)
class Backend:
    """Kernels on a device; takes Gaussians of the CPU, and gives images, volumes and gradients there."""

    kernel: str
    device: str

    def project(self, gaussians: Gaussians, cameras: Cameras, **options) -> torch.Tensor:
        with gsplat_stand_in.in_place() if self.kernel == "gsplat" and self.device == "cpu" else nullcontext():
            return project(self._there(gaussians), cameras, self.kernel, **options).cpu()

    def voxelize(self, gaussians: Gaussians, grid: VoxelGrid) -> torch.Tensor:
        return voxelize(self._there(gaussians), grid, self.kernel).cpu()

    def _there(self, gaussians: Gaussians) -> Gaussians:
        return Gaussians(*(p.to(self.device) for p in gaussians.named().values()))


NEEDS_WARP = pytest.mark.skipif(find_spec("warp") is None, reason="needs warp-lang")
NEEDS_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card, its driver, and a PyTorch for it")
NUMBA = pytest.param(Backend("numba", "cpu"), id="numba")
WARP = [
    pytest.param(Backend("warp", "cpu"), marks=NEEDS_WARP, id="warp"),
    pytest.param(Backend("warp", "cuda"), marks=[NEEDS_WARP, NEEDS_CARD, pytest.mark.gpu], id="cuda"),
]
NEEDS_GSPLAT = pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat, and a CUDA toolkit to compile it")
GSPLAT = [
    pytest.param(Backend("gsplat", "cpu"), marks=NEEDS_WARP, id="gsplat's stand-in"),
    pytest.param(Backend("gsplat", "cuda"), marks=[NEEDS_WARP, NEEDS_CARD, NEEDS_GSPLAT, pytest.mark.gpu], id="gsplat"),
]
ON_WARP = pytest.mark.parametrize("backend", WARP)
ON_ALL = pytest.mark.parametrize("backend", [NUMBA, *WARP])
ON_PROJECTORS = pytest.mark.parametrize("backend", [NUMBA, *WARP, *GSPLAT])
ON_POSED_PROJECTORS = pytest.mark.parametrize("backend", [*WARP, *GSPLAT])

ROTATIONS_DEG = ((0, 0, 0), (25, -40, 65), (-110, 15, 20), (10, 100, -35))  # among them one for each dominant axis


def oblique_view(degrees=ROTATIONS_DEG[1], size_px=(71, 47)) -> XrayView:
    """Return a C-arm view with everything asymmetric that a detector can have: size, pitches, principal point, skew to the beam, pose."""
    rotation = Rotation.from_euler("zyx", degrees, degrees=True).as_matrix()
    width, height = size_px
    source, origin, column, row = (
        rotation @ np.array(v, float)
        for v in ([5.0, -600.0, 10.0], [-1.1 * width, 420.0, 1.5 * height], [2.4, 0.1, 0.05], [0.0, -0.1, -3.1])
    )
    return XrayView(source, origin, column, row, size_px)


def random_gaussians(count: int, seed=0, sigma_mm=(1.5, 4.0), reach_mm=30.0, dtype=torch.float64) -> Gaussians:
    """Return anisotropic Gaussians of all orientations around the isocenter."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    low, high = np.log(sigma_mm)
    means = (uniform(count, 3) * 2 - 1) * reach_mm
    quaternions = torch.randn((count, 4), generator=generator, dtype=torch.float64)
    parameters = means, low + uniform(count, 3) * (high - low), quaternions, uniform(count) - 4
    return Gaussians(*(p.to(dtype) for p in parameters))


def one_gaussian(mean_mm, sigmas_mm=(3.0, 3.0, 3.0), quaternion=(1.0, 0.0, 0.0, 0.0), density_per_mm=0.02, dtype=torch.float64):
    """Return a single Gaussian."""
    mean, scales, rotation = (torch.tensor([list(map(float, v))], dtype=dtype) for v in (mean_mm, np.log(sigmas_mm), quaternion))
    return Gaussians(mean, scales, rotation, torch.full((1,), float(np.log(density_per_mm)), dtype=dtype))


def converted(gaussians: Gaussians, dtype: torch.dtype, requires_grad=False) -> Gaussians:
    """Return a copy of another type, detached, that collects gradients where asked to."""
    return Gaussians(*(p.detach().clone().to(dtype).requires_grad_(requires_grad) for p in gaussians.named().values()))


def moved(gaussians: Gaussians, b_from_a: np.ndarray) -> Gaussians:
    """Return Gaussians that a rigid motion [4, 4] has carried along."""
    rotation = Rotation.from_matrix(b_from_a[:3, :3])
    own_axes = Rotation.from_quat(gaussians.quaternions.numpy(), scalar_first=True)
    means = gaussians.means_mm.numpy() @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    quaternions = (rotation * own_axes).as_quat(scalar_first=True)
    return Gaussians(torch.from_numpy(means), gaussians.log_scales, torch.from_numpy(quaternions), gaussians.log_densities)
