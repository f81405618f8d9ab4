"""What a completion consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import TriangleMesh


@dataclass(frozen=True, eq=False)
class NextSlice:
    """The plane that would tell most if it were outlined next.

    Attributes:
        center_lps_mm: Center of the shape's cross-section in it, [3].
        normal_lps: Unit normal, [3].
        extent_mm: Edge length of a square about the center that covers the cross-section.
        gain: Expected number of wrong voxels near the plane, as a volume in mm³.
    """

    center_lps_mm: np.ndarray
    normal_lps: np.ndarray
    extent_mm: float
    gain: float


@dataclass(frozen=True, eq=False)
class Completion:
    """A whole shape and how sure it is.

    Attributes:
        grid: Where the voxels lie.
        probability: Calibrated probability that a voxel is inside, float32 [k, j, i]; observed slices are exact.
        mesh: The surface at probability 0.5.
        confidence: Probability that the true surface passes within 1 mm, one per point of the mesh, float32 [n].
        method: What made it, `inr` or `interpolate`.
        reason: One sentence why, for `auto`.
        prior: Name of the prior; None where none was used.
        agreement: Dice coefficient with the interpolation, in [0, 1].
        evidence: How well the prior explains the slices, in nats per context point above a poor fit; None without a prior.
        next_slice: None where nothing is left to learn.
        warnings: Sentences for the clinician.
        seconds: Wall time by stage.
        device: Where it was computed, and why, in one sentence.
    """

    grid: VoxelGrid
    probability: np.ndarray
    mesh: TriangleMesh
    confidence: np.ndarray
    method: str
    reason: str
    prior: str | None
    agreement: float
    evidence: float | None
    next_slice: NextSlice | None
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    device: str = ""

    @property
    def shape(self) -> np.ndarray:
        """Inside the structure, bool [k, j, i]."""
        return self.probability > 0.5
