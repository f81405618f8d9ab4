"""Which methods the shape benchmarks compare, and how; nothing here is slow to import."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "ours"
DEFAULT = ("interpolation", "ITK contours", "auto-decoder", "pre-trained", "MAML", OURS)
METHODS = (*DEFAULT, "first-order MAML", "Meta-SGD")


@dataclass(frozen=True)
class Settings:
    """How accuracy is measured.

    Attributes:
        budget_s: Processor seconds that each learning method is trained for.
        folds: Parts that the vertebra patients are split into; the one with the most patients is held out.
        seed: Of the split and of all training.
        most_steps: Where convergence is given up.
        most_shapes: Held-out shapes, at most.
        transfer_shapes: Of each anatomy that a prior never saw, at most.
        voxel_mm: Of the grid on which methods are compared.
    """

    budget_s: float = 120.0
    folds: int = 4
    seed: int = 0
    most_steps: int = 300
    most_shapes: int = 6
    transfer_shapes: int = 2
    voxel_mm: float = 1.0
