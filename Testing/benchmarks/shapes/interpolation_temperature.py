"""Fit the temperature of plain interpolation: `python -m Testing.benchmarks.shapes.interpolation_temperature PREPARED`.

Prints `calibration.INTERPOLATION` as it should be, fitted to half of the structures, and the calibration error on the other half.
"""

from __future__ import annotations

import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np

from ShapeCompletionLib.core.augment import unwarped
from ShapeCompletionLib.core.calibration import INTERPOLATION, NEAR_LOGIT, Temperature, expected_calibration_error, fit_temperature
from ShapeCompletionLib.core.config import EvaluationConfig
from ShapeCompletionLib.core.cube import cube_view
from ShapeCompletionLib.core.evaluate import layouts
from ShapeCompletionLib.core.layouts import outline
from ShapeCompletionLib.core.shapes import TrainingShape, load_shapes
from ShapeCompletionLib.core.surface import evaluate
from SparseAnatomyLib.grid import VoxelGrid

STRUCTURES = ("vertebra", "hippocampus", "pancreas", "abdomen/liver", "abdomen/spleen", "abdomen/stomach")
SHAPES = 4  # of each
SAMPLED = 2_000  # voxels of a completion
CONFIG = EvaluationConfig(offset_step_mm=8.0, keep_empty=False, three_planes=False, voxel_mm=1.5, pixel_mm=1.5)


def samples(shape: TrainingShape) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return logits, distances to the nearest slice in voxels and the truth near interpolated surfaces, for each layout."""
    known, found = unwarped(shape), []
    room = np.full(3, 1.3 * float(shape.extent_mm.max()))
    grid = VoxelGrid.box(np.zeros(3), room, max(CONFIG.voxel_mm, room.max() / 128))
    truth = known.signed_distance(grid.points_lps_mm().reshape(-1, 3)) > 0
    for _, layout in layouts(CONFIG):
        slices = outline(layout, np.zeros(3), room, known.signed_distance, CONFIG.pixel_mm)
        if sum(bool(one.mask.any()) for one in slices) < 2:
            continue
        logits, distance = (field.ravel() for field in evaluate(cube_view(slices, float(room.max())), None, grid))
        near = np.flatnonzero(np.abs(logits) < NEAR_LOGIT)
        chosen = near[np.random.default_rng(0).integers(len(near), size=SAMPLED)]
        found.append((logits[chosen], distance[chosen], truth[chosen]))
    return found


def main(prepared: Path) -> None:
    """Fit and print.

    Args:
        prepared: What `prepare` wrote.
    """
    fitted, held_out = [], []
    for structure in STRUCTURES:
        shapes = load_shapes(prepared / structure, 1)
        for number, place in enumerate(np.linspace(0, len(shapes) - 1, SHAPES).astype(int)):
            (fitted if number % 2 else held_out).extend(samples(shapes[place]))
    temperature = fit_temperature(*(np.concatenate(part) for part in zip(*fitted, strict=True)))
    logits, distance, inside = (np.concatenate(part) for part in zip(*held_out, strict=True))
    print(f"INTERPOLATION = Temperature({', '.join(f'{number:.2f}' for number in astuple(temperature))})")
    for name, one in (("fitted", temperature), ("as in the code", INTERPOLATION), ("none", Temperature(1.0, 0.0))):
        print(f"calibration error, {name}: {expected_calibration_error(one.probability(logits, distance), inside):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
