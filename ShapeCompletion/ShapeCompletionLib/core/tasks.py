"""Training cases: a shape, varied, outlined on some slices, and the truth in the cube that the prior would look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from .augment import WarpedShape, warped
from .config import TrainingConfig
from .cube import CubeView, context_points, cube_view
from .layouts import NORMALS_LPS, SliceLayout, outline, outline_plane
from .outer_loop import Task
from .sampling import Slice
from .shapes import TrainingShape

_PIXELS = 96  # of an outline across the box
_NOISE_KNOTS = 12
_SPACINGS = (1 / 24, 1 / 5)  # between planes, of the box; log-uniform, since each doubling asks for as much


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """Slices as the prior sees them, and the shape that they are of."""

    view: CubeView
    shape: WarpedShape

    def truth(self) -> np.ndarray:
        """Return the signed distance to the surface in voxels of the cube, positive inside, float32 [k, j, i]."""
        points = self.view.grid.points_lps_mm().reshape(-1, 3)
        return (self.shape.signed_distance(points) / self.view.voxel_mm).reshape(self.view.grid.shape_kji)

    def inr_task(self, config: TrainingConfig, rng: np.random.Generator) -> Task:
        """Return points of the slices, and points of the cube with the truth, half of them near the surface."""
        points, targets = context_points(self.view, config.context_points, rng)
        wanted = config.target_points
        anywhere = rng.uniform(-1, 1, (3 * wanted, 3)).astype(np.float32)
        signed_mm = self.shape.signed_distance(self.view.lps_mm(anywhere))
        nearest = np.argsort(np.abs(signed_mm[wanted // 2 :]))[: wanted - wanted // 2] + wanted // 2
        chosen = np.concatenate([np.arange(wanted // 2), nearest])
        occupancy = (signed_mm[chosen] > 0).astype(np.float32)
        return Task(*(torch.from_numpy(array) for array in (points, targets.astype(np.float32), anywhere[chosen], occupancy)))


def random_case(shapes: list[TrainingShape], config: TrainingConfig, rng: np.random.Generator, device: str = "cpu") -> TrainingCase:
    """Return a shape by chance, varied, on slices by chance.

    Args:
        shapes: To choose from.
        config: Of the training.
        rng: Source of all chance.
        device: Where its slices are interpolated.
    """
    while True:
        shape = shapes[rng.integers(len(shapes))]
        room_mm = max(config.extent_mm, 1.35 * float(shape.extent_mm.max()))
        varied = warped(shape, room_mm, config.mirror, rng)
        slices = random_slices(varied, room_mm, rng)
        if any(one.mask.any() for one in slices):
            return TrainingCase(cube_view(slices, config.extent_mm, device), varied)


def random_slices(shape: WarpedShape, room_mm: float, rng: np.random.Generator) -> tuple[Slice, ...]:
    """Outline a shape centered near the origin on slices by chance.

    Of twenty layouts twelve are parallel planes along the patient's axes, two are oblique, four have one to two planes in each of three
    directions, and two cover the shape only in part. Distances between planes are 1/24 to 1/5 of the box. One in five is outlined shakily.

    Args:
        shape: The shape.
        room_mm: Edge length of the box around the origin that is looked at.
        rng: Source of all chance.
    """
    kind, keep_empty = rng.random(), bool(rng.random() < 0.5)
    axis = list(NORMALS_LPS.values())[rng.integers(3)]
    spacing_mm = np.exp(rng.uniform(*np.log(_SPACINGS))) * room_mm
    if kind < 0.6:
        slices = _parallel(axis, spacing_mm, keep_empty, shape, room_mm, rng)
    elif kind < 0.7:
        slices = _parallel(tuple(rng.normal(size=3)), spacing_mm, keep_empty, shape, room_mm, rng)
    elif kind < 0.9:
        slices = _crossing(shape, room_mm, rng)
    else:
        slices = _parallel(axis, min(spacing_mm, room_mm / 9), False, shape, room_mm, rng)
        left_out = int(rng.integers(0, len(slices) // 2 + 1))
        slices = slices[left_out:] if rng.random() < 0.5 else slices[: len(slices) - left_out]
    if rng.random() < 0.2:
        shake = rng.uniform(0.2, 0.8)
        slices = tuple(_shaken(one, shake, rng) for one in slices)
    return slices


def _parallel(normal, spacing_mm, keep_empty, shape, room_mm, rng) -> tuple[Slice, ...]:
    layout = SliceLayout("oblique", spacing_mm, rng.uniform(0, spacing_mm), normal, keep_empty)
    return outline(layout, np.zeros(3), np.full(3, room_mm), shape.signed_distance, room_mm / _PIXELS)


def _crossing(shape: WarpedShape, room_mm: float, rng: np.random.Generator) -> tuple[Slice, ...]:
    """Outline on one plane in each of the three directions, or on one to two, near the middle."""
    several = rng.random() < 0.5
    spread_mm = (0.06 if rng.random() < 0.5 else 0.02) * room_mm
    slices = []
    for normal in NORMALS_LPS.values():
        for _ in range(int(rng.integers(1, 3)) if several else 1):
            height = float(rng.normal(0, spread_mm))
            slices.append(
                outline_plane(np.array(normal), height, np.zeros(3), np.full(3, room_mm), shape.signed_distance, room_mm / _PIXELS)
            )
    return tuple(one for one in slices if one.mask.any())


def _shaken(one: Slice, pixels: float, rng: np.random.Generator) -> Slice:
    """Move the outline by smooth noise of a standard deviation in pixels."""
    if not one.mask.any():
        return one
    signed = ndimage.distance_transform_edt(one.mask) - ndimage.distance_transform_edt(~one.mask)
    knots = rng.normal(size=(_NOISE_KNOTS, _NOISE_KNOTS))
    places = np.meshgrid(*(np.linspace(0, _NOISE_KNOTS - 1, n) for n in one.mask.shape), indexing="ij")
    moved = signed + pixels * ndimage.map_coordinates(knots, places, order=1) > 0
    return Slice(moved, one.origin_lps_mm, one.column_step_lps_mm, one.row_step_lps_mm)
