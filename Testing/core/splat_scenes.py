"""Gaussians and asymmetric views that the tests of the splatting and of the voxel projector share."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.splatting.gaussians import Gaussians
from SparseAnatomyLib.geometry import XrayView

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
