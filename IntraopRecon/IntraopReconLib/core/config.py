"""Every setting of a reconstruction or a simulation and its default (calibration: `calibration_config`); imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Method = Literal["auto", "splat", "voxel", "ixgs"]
Quality = Literal["preview", "standard", "best"]
Device = Literal["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7"]
Orbit = Literal["arbitrary", "circular"]
RefinePoses = Literal["auto", "on", "off"]
Standardize = Literal["auto", "on", "off"]
Jig = Literal["volume", "belt", "patient"]
SMALLEST_ISLAND_MM3 = 100.0
"""Specks of less than about 5 mm across are noise, not anatomy."""


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
            comparison) or `auto` (whichever explains the withheld views better, or the mean of both where that is too close to tell).
        quality: Effort; `preview` is a matter of a second or two.
        device: Where it is computed: `cuda` is the card with the most free memory, `cuda:1` the second one.
        spacing_mm: Voxel pitch of the result.
        region: Box to reconstruct; None for the cube around what half of the views see whole.
        seed: Same seed, same volume (on the same machine).
        ixgs_iterations: Single-view iterations of the published recipe.
        refine_poses: Whether the views' poses are refined so that their images agree; `auto` for those that a calibration measured, as
            far as it says how exactly, not for poses that are taken as exact.
        standardize: Whether the views become images of bone alone first; `auto` for X-rays, not for computed images of bone (DRRs).
    """

    method: Method = "auto"
    quality: Quality = "standard"
    device: Device = "auto"
    spacing_mm: float = 1.5
    region: Region | None = None
    seed: int = 0
    ixgs_iterations: int = 30_000
    refine_poses: RefinePoses = "auto"
    standardize: Standardize = "auto"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Effort:
    """What a quality spends.

    Attributes:
        coarse_cycles: SART cycles at four times and at twice the final spacing.
        voxel_cycles: SART cycles at the final spacing.
        gaussians: Number of Gaussians.
        splat_steps: Optimizer steps.
        fits: Independent fits of Gaussians, of which the mean is taken.
        polish_cycles: SART cycles on the voxelized Gaussians.
    """

    coarse_cycles: tuple[int, int]
    voxel_cycles: int
    gaussians: int
    splat_steps: int
    fits: int
    polish_cycles: int


EFFORTS: dict[str, Effort] = {
    "preview": Effort(coarse_cycles=(3, 5), voxel_cycles=1, gaussians=8_000, splat_steps=40, fits=1, polish_cycles=1),
    "standard": Effort(coarse_cycles=(4, 8), voxel_cycles=16, gaussians=20_000, splat_steps=200, fits=1, polish_cycles=2),
    "best": Effort(coarse_cycles=(4, 10), voxel_cycles=24, gaussians=20_000, splat_steps=240, fits=2, polish_cycles=2),
}


@dataclass(frozen=True)
class SartSettings:
    """How cycles go.

    Attributes:
        cycles: Number of cycles.
        relaxation: Of the first cycle.
        last_relaxation: Of the last cycle; in between linear.
        tv_mm: Weight of the total variation in mm, relative to the peak of the volume.
        tv_iterations: Denoising steps a cycle.
    """

    cycles: int
    relaxation: float = 1.0
    last_relaxation: float = 0.6
    tv_mm: float = 0.02
    tv_iterations: int = 10


@dataclass(frozen=True)
class FitSettings:
    """How Gaussians are fitted.

    Attributes:
        steps: Number of optimizer steps.
        views_per_step: Views that one step sees.
        coarse_share: Share of the steps on images of half the resolution.
        rates: Adam's first step sizes, in the order of `Gaussians.named()`: mm, log, unit quaternion, log. They are some fifty times
            those of R²-Gaussian, which a start from a coarse volume allows, and which turn thousands of steps into hundreds.
        last_rate: Share of the rates that the last step has.
        betas: Adam's memory.
        sigma_range_mm: Standard deviations are kept within.
    """

    steps: int
    views_per_step: int = 4
    coarse_share: float = 0.55
    rates: tuple[float, float, float, float] = (1.0, 0.1, 0.1, 0.2)
    last_rate: float = 0.1
    betas: tuple[float, float] = (0.8, 0.95)
    sigma_range_mm: tuple[float, float] = (0.5, 8.0)

    @property
    def coarse_steps(self) -> int:
        """Steps on images of half the resolution."""
        return round(self.coarse_share * self.steps)


@dataclass(frozen=True)
class PoseSettings:
    """How poses are refined while a coarse volume is reconstructed.

    Attributes:
        levels: Voxels along the longest edge of the region, and rounds: each a SART cycle, then a step of every view's pose.
        preview_levels: The same for a preview.
        least_spacing_mm: Voxels are never finer: those of the result will do.
        first_cycles: SART cycles before a level's first step.
        binning: Pixels are this many times as wide for the poses as for the volume: what is blurred alike finds together faster.
        relaxation, tv_mm: Of the SART cycles.
        high_pass_mm: What varies more slowly over the image (truncation, scatter) says nothing about the pose; at the isocenter.
        correlation_mm: Residuals are errors of the volume more than noise, alike over about this distance: a square of that edge counts as
            one measurement.
        huber: Residuals above this many robust standard deviations count linearly.
        over_relaxation: A step is this many times what the volume asks for, which still holds the poses before the step.
        most_mm, most_deg: Largest step of a round.
        sigma_mm: Error of a pose along each axis where its calibration does not say; degrees_per_mm: of its rotation beside it.
        least_sigma_mm: A calibration's own estimate knows nothing of what changed after it.
        prior_share: A pose may be off by this many times what is expected without being pulled back; stray_share: one that fits no
            others may be anywhere nearby.
    """

    levels: tuple[tuple[int, int], ...] = ((32, 6), (64, 6), (96, 8))
    preview_levels: tuple[tuple[int, int], ...] = ((32, 6), (64, 3))
    least_spacing_mm: float = 1.5
    first_cycles: int = 3
    binning: int = 2
    relaxation: float = 0.9
    tv_mm: float = 0.04
    high_pass_mm: float = 20.0
    correlation_mm: float = 40.0
    huber: float = 2.0
    over_relaxation: float = 1.8
    most_mm: float = 5.0
    most_deg: float = 2.0
    sigma_mm: float = 1.5
    degrees_per_mm: float = 0.5
    least_sigma_mm: float = 0.3
    prior_share: float = 1.5
    stray_share: float = 20.0


@dataclass(frozen=True)
class IxgsSettings:
    """The published settings.

    Attributes:
        iterations: Single-view iterations.
        first_rates, last_rates: Adam's step sizes in the order of `Gaussians.named()`, means in units of the normalized volume.
        ssim_weight, tv_weight: Weights beside the L1 loss.
        tv_voxels: Edge of the random subvolume whose total variation counts, at the voxel pitch of the result.
        densify_from, densify_every, densify_until_share: When the density is controlled, in iterations and as a share of them.
        gradient_threshold: Mean gradient by the mean, above which a Gaussian is cloned or split, in normalized units.
        split_scale: Widths above are split, below cloned, in normalized units.
        least_density: Fainter Gaussians are removed, in normalized units.
        most_gaussians: No growth beyond.
    """

    iterations: int
    first_rates: tuple[float, float, float, float] = (2e-4, 5e-3, 1e-3, 1e-2)
    last_rates: tuple[float, float, float, float] = (2e-5, 5e-4, 1e-4, 1e-3)
    ssim_weight: float = 0.25
    tv_weight: float = 0.05
    tv_voxels: int = 32
    densify_from: int = 500
    densify_every: int = 100
    densify_until_share: float = 0.5
    gradient_threshold: float = 5e-5
    split_scale: float = 0.1
    least_density: float = 1e-5
    most_gaussians: int = 100_000


@dataclass(frozen=True)
class SimulationConfig:
    """How X-rays are simulated from CT.

    Attributes:
        views: Number of X-rays.
        seed: Same seed, same poses and same noise.
        size_px: Rows and columns of the square detector; its physical size stays the same.
        orbit: `arbitrary` (each pose drawn within the ranges below) or `circular` (no tilt, roll or jitter, one distance, even steps).
        center_lps_mm: Isocenter and center of the imaged region; None for the centroid of the bone.
        radius_mm: What lies further from the center is left out, so that no view is truncated; None keeps the whole anatomy.
        photons_per_pixel: Mean count of an unattenuated pixel; None for no noise. Realistic X-rays draw their own exposure.
        arc_deg: Range of the orbit about the patient's long axis, centered in front of the patient.
        tilt_deg: Largest cranial or caudal angulation.
        roll_deg: Largest rotation of the detector in its own plane.
        jitter_mm: Largest distance of the central ray's target from the isocenter along each axis.
        source_to_isocenter_mm: Smallest and largest distance.
        source_to_detector_mm: SDD.
        detector_mm: Edge of the detector.
        realistic: The whole patient on a table, spectrum, scatter, blur, and what a C-arm stores (`simulation_config.RealisticRanges`); the
            ground truth is bone and metal alone.
        instruments: Whether screws, wires and tools may lie in realistic X-rays.
        beads: Whether balls of steel are in the pictures.
        jig: How they lie: in a volume around the anatomy, on a thin belt around the patient, or stuck on the skin of back and flanks.
    """

    views: int = 25
    seed: int = 0
    size_px: int = 256
    orbit: Orbit = "arbitrary"
    center_lps_mm: tuple[float, float, float] | None = None
    radius_mm: float | None = 92.0
    photons_per_pixel: float | None = 3e4
    arc_deg: float = 200.0
    tilt_deg: float = 30.0
    roll_deg: float = 20.0
    jitter_mm: float = 3.0
    source_to_isocenter_mm: tuple[float, float] = (560.0, 680.0)
    source_to_detector_mm: float = 1020.0
    detector_mm: float = 358.4
    realistic: bool = False
    instruments: bool = False
    beads: bool = False
    jig: Jig = "volume"
