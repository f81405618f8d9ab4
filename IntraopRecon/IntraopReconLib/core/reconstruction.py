"""What a reconstruction gives: the volume, what is known about it, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .config import ReconstructionConfig


class Report(Protocol):
    """How the core tells its caller where it is.

    Args:
        fraction: Share of the work that is done, 0 to 1.
        message: One short sentence for the progress bar.
        preview: An intermediate volume [k, j, i] with its grid, now and then.

    Raises:
        Cancelled: The user has asked to stop.
    """

    def __call__(self, fraction: float, message: str, preview: tuple[np.ndarray, VoxelGrid] | None = None) -> None:
        """Take note."""


def silent(fraction: float, message: str, preview: tuple[np.ndarray, VoxelGrid] | None = None) -> None:
    """Report nothing: for scripts and tests."""


@dataclass(frozen=True)
class ViewFit:
    """How well the volume explains one view.

    Attributes:
        name: The view's name.
        withheld: Whether the view was kept out until the last steps, to judge the volume; its figures are from before it entered.
        psnr_db: Of the reprojection against the measured attenuation, inside the mask; peak = the view's measured maximum.
        ssim: Of the same.
    """

    name: str
    withheld: bool
    psnr_db: float
    ssim: float


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """What the refinement made of one view's pose.

    Attributes:
        name: The view's name.
        geometry: Refined source and detector, LPS.
        shift_mm: How far it was moved, at the center of the region.
        turn_deg: And how far turned.
        unexplained: Share of the image (root mean square, slow variation left out) that the other X-rays do not explain at this pose.
        left_out: Whether the view takes no part, as it contradicts the others.
    """

    name: str
    geometry: XrayView
    shift_mm: float
    turn_deg: float
    unexplained: float
    left_out: bool


@dataclass(frozen=True)
class CurvePoint:
    """One point of the convergence curve: seconds since the start, the stage's name, root mean square error on the withheld views."""

    seconds: float
    stage: str
    withheld_rmse: float


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A bone volume with what is known about it.

    Attributes:
        grid: Where the voxels lie.
        attenuation_per_mm: float32 [k, j, i].
        coverage: float32 [k, j, i]; 0 where no ray of two different directions passes (unknown, not air), 1 where all views see the voxel
            from well-spread directions.
        method: What made the volume: `splat`, `voxel`, `ixgs`, or `splat+voxel`, the mean of two.
        reprojections: The volume projected into every view, float32 [row, column] each, in the order of the views.
        fits: One per view, in the same order.
        candidates: Withheld-view root mean square error of each method that was tried.
        curve: Convergence.
        seconds: Wall seconds by stage.
        grade: `good` or `poor`; `poor` comes with a warning that says why.
        warnings: Sentences for the user.
        config: The settings used.
        poses: One per view in the same order if the poses were refined, none if not.
        device: Where it was computed, and why; a sentence.
    """

    grid: VoxelGrid
    attenuation_per_mm: np.ndarray
    coverage: np.ndarray
    method: str
    reprojections: list[np.ndarray]
    fits: list[ViewFit]
    candidates: dict[str, float]
    curve: list[CurvePoint]
    seconds: dict[str, float]
    grade: str
    warnings: list[str]
    config: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    poses: list[RefinedPose] = field(default_factory=list)
    device: str = ""
