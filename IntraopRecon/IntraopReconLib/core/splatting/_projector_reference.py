"""The projector written to be read: plain torch, every Gaussian into every pixel, no cutoff. Tests hold the kernels against it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def symmetric(triangle: Tensor) -> Tensor:
    """Return the matrices [N, 3, 3] of upper triangles (xx, xy, xz, yy, yz, zz) [N, 6]."""
    xx, xy, xz, yy, yz, zz = triangle.unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(-1, 3, 3)


def project(means: Tensor, covariances: Tensor, masses: Tensor, matrices: Tensor, sources: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Project Gaussians into views by rectified elliptical weighted averaging.

    A Gaussian of mass m (its integral over space) at depth z and distance r from the source covers the detector as a Gaussian of covariance
    S = J C Jᵀ, J the Jacobian of the pixel by the point. Its line integrals sum up to m times the magnification of areas,
    |det P₃ₓ₃| r / z³ pixels per mm²; hence the amplitude m · magnification / (2π √|S|). This equals R²-Gaussian's rectified density
    √(2π |Σ̃| / |Σ̂|) ρ (arXiv 2405.20693, eq. 7), which is √(2π / d₀ᵀ C⁻¹ d₀) ρ for the unit vector d₀ from the source to the mean.

    Args:
        means: [N, 3] mm.
        covariances: [N, 6] mm², upper triangles.
        masses: [N] mm².
        matrices: [view, 3, 4], mm to homogeneous pixels (column, row); the third component is the depth in mm.
        sources: [view, 3] mm.
        size_px: (columns, rows).

    Returns:
        Attenuation line integrals, [view, row, column].
    """
    columns, rows = (torch.arange(n, dtype=means.dtype) for n in size_px)
    return torch.stack(
        [_project_one(means, covariances, masses, matrix, source, columns, rows) for matrix, source in zip(matrices, sources, strict=True)]
    )


def _project_one(means, covariances, masses, matrix, source, columns, rows) -> Tensor:
    homogeneous = means @ matrix[:, :3].T + matrix[:, 3]  # [N, 3]
    depth = homogeneous[:, 2]
    centers = homogeneous[:, :2] / depth[:, None]  # [N, 2]
    jacobians = (matrix[:2, :3] - centers[:, :, None] * matrix[2, :3]) / depth[:, None, None]  # [N, 2, 3]
    footprints = jacobians @ symmetric(covariances) @ jacobians.transpose(1, 2)  # [N, 2, 2]
    distance = (means - source).norm(dim=1)
    magnification = torch.linalg.det(matrix[:, :3]).abs() * distance / depth**3
    amplitudes = masses * magnification / (2 * math.pi * torch.linalg.det(footprints).sqrt())
    conics = torch.linalg.inv(footprints)
    dx = columns[None] - centers[:, :1]  # [N, column]
    dy = rows[None] - centers[:, 1:]  # [N, row]
    exponents = (
        conics[:, 0, 0, None, None] * dx[:, None, :] ** 2
        + 2 * conics[:, 0, 1, None, None] * dx[:, None, :] * dy[:, :, None]
        + conics[:, 1, 1, None, None] * dy[:, :, None] ** 2
    )
    return (amplitudes[:, None, None] * torch.exp(-0.5 * exponents)).sum(0)


def exact_line_integrals(means: Tensor, covariances: Tensor, masses: Tensor, source: Tensor, pixels_mm: Tensor) -> Tensor:
    """Integrate Gaussians exactly along the rays to pixels: the oracle that the affine approximation is held against.

    Args:
        means, covariances, masses: As for `project`.
        source: [3] mm.
        pixels_mm: [..., 3] mm.

    Returns:
        Line integrals, [...].
    """
    precisions = torch.linalg.inv(symmetric(covariances))
    peaks = masses * torch.linalg.det(precisions).sqrt() / (2 * math.pi) ** 1.5
    directions = torch.nn.functional.normalize(pixels_mm - source, dim=-1)  # [..., 3]
    offsets = source - means  # [N, 3]
    dd = torch.einsum("...a,nab,...b->...n", directions, precisions, directions)
    dw = torch.einsum("...a,nab,nb->...n", directions, precisions, offsets)
    ww = torch.einsum("na,nab,nb->n", offsets, precisions, offsets)
    return (peaks * torch.sqrt(2 * math.pi / dd) * torch.exp(-0.5 * (ww - dw**2 / dd))).sum(-1)
