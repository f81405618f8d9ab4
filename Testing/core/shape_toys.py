"""A toy anatomy for the completion's tests: two ellipsoids with a process, which no rotation or mirror leaves as it was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ShapeCompletionLib.core.calibration import Temperature
from ShapeCompletionLib.core.config import InrSettings
from ShapeCompletionLib.core.layouts import SliceLayout, outline
from ShapeCompletionLib.core.outer_loop import meta_parameters
from ShapeCompletionLib.core.prior import Prior
from ShapeCompletionLib.core.prior_card import PriorCard
from ShapeCompletionLib.core.refine import RefineNetwork
from ShapeCompletionLib.core.sampling import Context, Slice
from ShapeCompletionLib.core.shapes import TrainingShape
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.grid import VoxelGrid

EXTENT_MM = 64.0  # of a box around the origin that holds every toy
TURNED = Rotation.from_euler("zyx", [35.0, -20.0, 50.0], degrees=True).as_matrix()


@dataclass(frozen=True, eq=False)
class Toy:
    """One member of the family, about the origin.

    Attributes:
        radii_mm: Of the body, [3].
        process_mm: Length of the process.
    """

    radii_mm: np.ndarray = field(default_factory=lambda: np.array([20.0, 13.0, 15.0]))
    process_mm: float = 22.0

    def signed_distance(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Return about the distance to the surface in mm, positive inside, [n], at points [n, 3]; its sign is exact."""
        points = np.asarray(points_lps_mm, float)
        body = _ellipsoid(points, np.zeros(3), self.radii_mm)
        lobe = _ellipsoid(points, 0.45 * self.radii_mm * [1, -1, 1], 0.65 * self.radii_mm)
        process = _capsule(points, np.zeros(3), self.process_mm * np.array([-0.2, 0.9, 0.4]), 4.0)
        return np.maximum(np.maximum(body, lobe), process)

    def training_shape(self, name: str = "toy", patient: str = "toy") -> TrainingShape:
        """Return it as training takes it, on voxels of 1 mm."""
        grid = VoxelGrid.box(np.zeros(3), EXTENT_MM, 1.0)
        return TrainingShape(name, patient, self.on(grid).astype(np.float32), grid)

    def on(self, grid: VoxelGrid) -> np.ndarray:
        """Return the signed distance at a grid's voxels, [k, j, i]."""
        return self.signed_distance(grid.points_lps_mm().reshape(-1, 3)).reshape(grid.shape_kji)

    def slices(self, kind: str = "axial", spacing_mm: float = 8.0, offset_mm: float = 1.0, **changes) -> tuple[Slice, ...]:
        """Return its outlines on a layout."""
        pixel_mm = changes.pop("pixel_mm", 1.0)
        layout = SliceLayout(kind, spacing_mm, offset_mm, **changes)
        return outline(layout, np.zeros(3), np.full(3, EXTENT_MM), self.signed_distance, pixel_mm)

    def context(self, kind: str = "axial", spacing_mm: float = 8.0, voxel_mm: float = 1.0, **changes) -> Context:
        """Return outlines with a grid for the result, whose planes of 1 mm pixels lie on its voxels."""
        return Context(self.slices(kind, spacing_mm, **changes), VoxelGrid.box(np.zeros(3), EXTENT_MM - 1, voxel_mm))


def family(patients: int, shapes_each: int = 1, seed: int = 0) -> list[TrainingShape]:
    """Return toys of several patients, each a little different."""
    rng = np.random.default_rng(seed)
    return [
        varied(rng).training_shape(f"toy_{patient}_{number}", f"patient_{patient}")
        for patient in range(patients)
        for number in range(shapes_each)
    ]


def varied(rng: np.random.Generator) -> Toy:
    """Return a member of the family by chance."""
    return Toy(Toy().radii_mm * np.exp(0.08 * rng.normal(size=3)), 22.0 * float(np.exp(0.08 * rng.normal())))


def ball_slices(radius_mm: float, spacing_mm: float, offset_mm: float = 0.0, pixel_mm: float = 0.5, **changes) -> tuple[Slice, ...]:
    """Return outlines of a ball about the origin."""
    layout = SliceLayout(changes.pop("kind", "axial"), spacing_mm, offset_mm, **changes)
    room = np.full(3, 2 * radius_mm + 4 * spacing_mm)
    return outline(layout, np.zeros(3), room, lambda points: radius_mm - np.linalg.norm(points, axis=-1), pixel_mm)


def moved(one: Slice, rotation: np.ndarray, shift_mm: np.ndarray, scale: float = 1.0) -> Slice:
    """Return a slice after a similarity: scaled and turned about the origin, then shifted."""
    linear = scale * rotation
    origin = transform_points(affine(linear, shift_mm), one.origin_lps_mm)
    return Slice(one.mask, origin, linear @ one.column_step_lps_mm, linear @ one.row_step_lps_mm)


def moved_grid(grid: VoxelGrid, rotation: np.ndarray, shift_mm: np.ndarray, scale: float = 1.0) -> VoxelGrid:
    """Return a grid after a similarity."""
    origin = transform_points(affine(scale * rotation, shift_mm), grid.origin_lps_mm)
    return VoxelGrid(grid.size_ijk, scale * grid.spacing_mm, origin, rotation @ grid.direction)


def toy_prior(**changes) -> Prior:
    """Return a prior that has learned nothing."""
    card = PriorCard("toy", "Toy", "Nothing.", "CC0-1.0", 96.0, "", 0.0, 0, "none")
    inr = {name: value.detach() for name, value in meta_parameters("ridge", InrSettings(), torch.Generator().manual_seed(0)).items()}
    torch.manual_seed(0)
    return replace(Prior(card, inr, RefineNetwork().eval(), Temperature(1.0, 0.1), -np.inf), **changes)


def _ellipsoid(points: np.ndarray, center: np.ndarray, radii: np.ndarray) -> np.ndarray:
    local = points - center
    level = np.linalg.norm(local / radii, axis=-1)
    slope = np.maximum(np.linalg.norm(local / radii**2, axis=-1), 1e-9)
    return np.where(level > 1e-6, (1 - level) * level / slope, radii.min())


def _capsule(points: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    axis = end - start
    along = np.clip((points - start) @ axis / (axis @ axis), 0, 1)
    return radius - np.linalg.norm(points - start - along[..., None] * axis, axis=-1)
