"""Every setting of a reconstruction and its default: the only place with defaults. Imports no torch, so that a panel can show them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Method = Literal["auto", "splat", "voxel", "ixgs"]
Quality = Literal["preview", "standard", "best"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Region:
    """A box in the patient: what is reconstructed.

    Attributes:
        center_lps_mm: Centre of the box.
        extent_mm: Full edge lengths along the box's own axes.
        direction: The box's axes as columns of a 3×3 matrix, row by row (LPS).
    """

    center_lps_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class ReconstructionConfig:
    """What the user can choose.

    Attributes:
        method: `splat` (Gaussians, then a voxel polish), `voxel` (SART with total variation), `ixgs` (the published recipe, for
            comparison) or `auto` (whichever explains the withheld views better).
        quality: Effort; `preview` is a matter of a second or two.
        device: Where the kernels run.
        spacing_mm: Voxel pitch of the result.
        region: Box to reconstruct; None for the largest cube around what every view sees.
        seed: Same seed, same volume (on the same machine).
        ixgs_iterations: Single-view iterations of the published recipe.
    """

    method: Method = "auto"
    quality: Quality = "standard"
    device: Device = "auto"
    spacing_mm: float = 1.5
    region: Region | None = None
    seed: int = 0
    ixgs_iterations: int = 30_000

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)


