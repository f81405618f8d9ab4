"""Radiative Gaussians: what is optimized, and the physical quantities it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

MASS_PER_PEAK = (2 * math.pi) ** 1.5


@dataclass
class Gaussians:
    """N anisotropic Gaussians of attenuation, by the unconstrained parameters that the optimizer moves.

    The field is sum_n density_n · exp(-½ (x - mean_n)ᵀ covariance_n⁻¹ (x - mean_n)), in 1/mm (R²-Gaussian, arXiv 2405.20693, eq. 4).

    Attributes:
        means_mm: Centres, [N, 3].
        log_scales: Logarithm of the standard deviations along the own axes in mm, [N, 3].
        quaternions: Own axes as (w, x, y, z), of any length above zero, [N, 4].
        log_densities: Logarithm of the central attenuation per mm, [N].
    """

    means_mm: Tensor
    log_scales: Tensor
    quaternions: Tensor
    log_densities: Tensor

    def __len__(self) -> int:
        return self.means_mm.shape[0]

    def named(self) -> dict[str, Tensor]:
        """Return the parameters by name, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: str | torch.device) -> Gaussians:
        """Return the same on a device, without their history."""
        return Gaussians(**{name: value.detach().to(device) for name, value in self.named().items()})

    def covariances_mm2(self) -> Tensor:
        """Return the upper triangles (xx, xy, xz, yy, yz, zz) of the covariances, [N, 6]."""
        x, y, z = rotation_rows(self.quaternions)
        variances = torch.exp(2 * self.log_scales)
        return torch.stack([(p * q * variances).sum(-1) for p, q in ((x, x), (x, y), (x, z), (y, y), (y, z), (z, z))], -1)

    def masses_mm2(self) -> Tensor:
        """Return the integrals of the Gaussians over space, [N]: (2π)^1.5 · density · product of the standard deviations."""
        return MASS_PER_PEAK * torch.exp(self.log_densities + self.log_scales.sum(-1))

    def densities_per_mm(self) -> Tensor:
        """Return the central attenuations, [N]."""
        return torch.exp(self.log_densities)


def rotation_rows(quaternions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three rows of the rotation matrices of quaternions (w, x, y, z) [N, 4], each [N, 3]."""
    w, x, y, z = (quaternions / quaternions.norm(dim=-1, keepdim=True)).unbind(-1)
    return (
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    )


def kernel_for(gaussians: Gaussians) -> str:
    """Return the kernel that projects and voxelizes Gaussians where they are: `numba` on the CPU, `warp` on a GPU."""
    return "numba" if gaussians.means_mm.device.type == "cpu" else "warp"
