"""What the prior looks at: a cube of voxels along the patient's axes around what is outlined, in units of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.work_device import on_host

from ._interpolate_torch import FieldOnCard
from .interpolate import InterpolationField, interpolation_field
from .refine import CUBE
from .sampling import Slice

_ROOM = 1.25  # cube's edge over that of what is outlined
_REACH = 2.1  # cube's edge over the distance from its center, along an axis, to the farthest of what is outlined
TARGET_LIMIT = 0.125  # in-plane distance, in half edges of the cube, beyond which context targets say no more than inside or outside
_NEAR = 2.0  # in TARGET_LIMITs; half of the context points are nearer to an outline
PRIOR_CUBE = 32  # the implicit network is evaluated on a grid this fine


@dataclass(frozen=True, eq=False)
class CubeView:
    """Slices as the prior sees them.

    Attributes:
        grid: The cube, 64³ voxels along the patient's axes.
        interpolation: The slices' interpolation, evaluated anywhere.
        device: Where that is done, by kernels in numba on the `cpu` and by PyTorch on a card.
    """

    grid: VoxelGrid
    interpolation: InterpolationField
    device: str = "cpu"

    @property
    def voxel_mm(self) -> float:
        """Edge length of the cube's voxels."""
        return float(self.grid.spacing_mm[0])

    @cached_property
    def field_and_distance(self) -> tuple[np.ndarray, np.ndarray]:
        """Interpolated signed distance, positive inside, and distance to the nearest slice, in voxels of the cube, float32 [k, j, i]."""
        if self.device != "cpu":
            field, distance = (on_host(each) for each in self.tensors)
            return field, distance
        field, distance = self.interpolation.on_grid(self.grid)
        return field / np.float32(self.voxel_mm), distance / np.float32(self.voxel_mm)

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """The same on the device."""
        if self.device == "cpu":
            field, distance = self.field_and_distance
            return torch.from_numpy(field), torch.from_numpy(distance)
        field, distance = self.field_on_card.on_grid(self.grid)
        return field / self.voxel_mm, distance / self.voxel_mm

    @cached_property
    def field_on_card(self) -> FieldOnCard:
        """The slices' interpolation on the device."""
        return FieldOnCard(self.interpolation, self.device)

    def normalized(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Return points [..., 3] in half edges of the cube from its center, float32."""
        return ((points_lps_mm - self.grid.center_lps_mm) * (2 / self.grid.extent_mm)).astype(np.float32)

    def lps_mm(self, normalized: np.ndarray) -> np.ndarray:
        """Undo `normalized`."""
        return normalized * (self.grid.extent_mm / 2) + self.grid.center_lps_mm


def cube_view(slices: tuple[Slice, ...], extent_mm: float, device: str = "cpu") -> CubeView:
    """Look at slices.

    Args:
        slices: At least one shows the structure.
        extent_mm: Edge length of the cube; it is larger where what is outlined is.
        device: Where the slices are interpolated.
    """
    inside = np.concatenate([one.points_lps_mm()[one.mask] for one in slices])
    weights = np.concatenate([np.full(int(one.mask.sum()), np.prod(one.pixel_spacing_mm)) for one in slices])
    center = np.average(inside, axis=0, weights=weights)
    edge = max(extent_mm, _ROOM * float(np.ptp(inside, 0).max()), _REACH * float(np.abs(inside - center).max()))
    grid = VoxelGrid.box(center, edge, edge / CUBE)
    return CubeView(grid, interpolation_field(slices, device), device)


def context_points(view: CubeView, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose pixels of the slices for the inner loop, half of them near the outlines.

    Args:
        view: Whose slices and cube.
        count: Number of points.
        rng: Source of all chance.

    Returns:
        Normalized points, float32 [count, 3]; targets, the in-plane signed distance clipped to [-1, 1], float32 [count].
    """
    limit_mm = TARGET_LIMIT * view.grid.extent_mm[0] / 2
    signed_mm = view.interpolation.distances_mm
    near = np.flatnonzero(np.abs(signed_mm) < _NEAR * limit_mm)
    anywhere = rng.integers(len(signed_mm), size=2 * count)
    chosen = np.concatenate([near[rng.integers(len(near), size=count)], anywhere])
    points = view.normalized(view.interpolation.pixel_centers_lps_mm(chosen))
    reachable = np.flatnonzero(np.abs(points).max(1) <= 1)
    half = reachable[reachable < count][: count // 2]
    taken = np.resize(np.concatenate([half, reachable[reachable >= count][: count - len(half)]]), count)
    pixels = chosen[taken]
    targets = np.where(view.interpolation.in_empty_slice(pixels), -1, np.clip(signed_mm[pixels] / limit_mm, -1, 1))
    return points[taken], targets.astype(np.float32)


def prior_points() -> np.ndarray:
    """Return where the implicit network is evaluated, normalized, float32 [32³, 3], i fastest."""
    steps = (np.arange(PRIOR_CUBE, dtype=np.float32) + 0.5) * (2 / PRIOR_CUBE) - 1
    k, j, i = np.meshgrid(steps, steps, steps, indexing="ij")
    return np.stack([i, j, k], -1).reshape(-1, 3)
