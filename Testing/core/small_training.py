"""A training of a prior that takes a second: settings, toys, and what to expect of its reports."""

from __future__ import annotations

from shape_toys import family

from ShapeCompletionLib.core.config import EvaluationConfig, TrainingConfig
from ShapeCompletionLib.core.train_prior import PriorInfo

TINY = TrainingConfig(extent_mm=72.0, folds=2, inr_steps=3, inr_tasks=2, context_points=96, target_points=96, refine_steps=2)
QUICK = EvaluationConfig(spacings_mm=(12.0,), offset_step_mm=12.0, three_planes=False, voxel_mm=2.0, pixel_mm=2.0)
INFO = PriorInfo("Toy (made up)", "Toys.", "CC0-1.0", "shape-completion train")
SHAPES = family(4)


def quiet(fraction: float, message: str) -> None:
    """Take a report."""
    assert 0 <= fraction <= 1 and message
