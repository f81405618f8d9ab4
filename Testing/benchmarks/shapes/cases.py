"""What every method is given, and what it is held against: a whole shape, slices of it, and the grid on which it is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ShapeCompletionLib.core.augment import unwarped
from ShapeCompletionLib.core.cube import CubeView, cube_view
from ShapeCompletionLib.core.layouts import LAYOUT_KINDS, SliceLayout, outline
from ShapeCompletionLib.core.sampling import Slice
from ShapeCompletionLib.core.shapes import TrainingShape
from ShapeCompletionLib.core.train_prior import patient_folds
from SparseAnatomyLib.grid import VoxelGrid

EXTENT_MM = 128.0
AXES = {"sagittal": 2, "coronal": 1, "axial": 0}  # of an array [k, j, i] along the patient's axes, across the planes


@dataclass(frozen=True, eq=False)
class Case:
    """One shape on one layout.

    Attributes:
        shape: Its name.
        kind: Direction of the planes, of AXES.
        spacing_mm: Between them.
        slices: What is outlined; planes that miss the shape are known to be empty, as in the paper.
        layers: Indices of the grid's layers that the planes lie on.
        grid: Where methods are compared, along the patient's axes.
        truth: bool [k, j, i].
    """

    shape: str
    kind: str
    spacing_mm: float
    slices: tuple[Slice, ...]
    layers: tuple[int, ...]
    grid: VoxelGrid
    truth: np.ndarray

    @property
    def layout(self) -> str:
        """Such as "sagittal 8 mm"."""
        return f"{self.kind} {self.spacing_mm:g} mm"

    @cached_property
    def view(self) -> CubeView:
        """The slices in the cube that all networks look at."""
        return cube_view(self.slices, EXTENT_MM)

    @property
    def sparse_labels(self) -> np.ndarray:
        """The truth on the planes and nothing between them, as one draws it in a label volume, uint8 [k, j, i]."""
        labels = np.zeros(self.truth.shape, np.uint8)
        where = [slice(None)] * 3
        where[AXES[self.kind]] = list(self.layers)
        labels[tuple(where)] = self.truth[tuple(where)]
        return labels


def make_case(shape: TrainingShape, kind: str, spacing_mm: float, first: int, voxel_mm: float = 1.0) -> Case:
    """Lay parallel planes through the layers of a grid around a shape.

    Args:
        shape: Known whole.
        kind: Direction of the planes, of AXES.
        spacing_mm: Between them, a multiple of the voxels.
        first: Layer of the first plane.
        voxel_mm: Of the grid.

    Raises:
        ValueError: Another direction, or planes that lie between layers.
    """
    if kind not in AXES or kind not in LAYOUT_KINDS:
        raise ValueError(f"kind: expected one of {', '.join(AXES)}, got {kind}.")
    step = spacing_mm / voxel_mm
    if step != round(step):
        raise ValueError(f"spacing_mm: expected a multiple of {voxel_mm} mm, got {spacing_mm}.")
    known = unwarped(shape)
    room = np.full(3, np.ceil(max(EXTENT_MM, 1.3 * float(shape.extent_mm.max())) / voxel_mm) * voxel_mm)
    grid = VoxelGrid.box(np.zeros(3), room, voxel_mm)
    height = float(grid.origin_lps_mm[2 - AXES[kind]]) + first % round(step) * voxel_mm
    slices = outline(SliceLayout(kind, spacing_mm, height, keep_empty=True), np.zeros(3), room, known.signed_distance, voxel_mm)
    truth = known.signed_distance(grid.points_lps_mm().reshape(-1, 3)).reshape(grid.shape_kji) > 0
    layers = tuple(range(first % round(step), grid.shape_kji[AXES[kind]], round(step)))
    return Case(shape.name, kind, spacing_mm, slices, layers, grid, truth)


def held_out_fold(shapes: Sequence[TrainingShape], folds: int, seed: int) -> tuple[list[TrainingShape], list[TrainingShape]]:
    """Return the shapes to train on and those of the fold with the most patients, which nothing is trained on.

    Args:
        shapes: All.
        folds: Parts that the patients are split into.
        seed: Of the split.
    """
    held_out = max(patient_folds(list(shapes), folds, seed), key=len)
    return [one for one in shapes if one.patient not in held_out], [one for one in shapes if one.patient in held_out]
