"""reconstruct(): from measured views to a volume, the whole way top to bottom."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import psnr_db, ssim

from .acquisition import prepare
from .checkpoint import Checkpoint
from .config import EFFORTS, Effort, ReconstructionConfig
from .coverage import coverage, default_region
from .outside import enlarged, without_outside
from .reconstruction import CurvePoint, Reconstruction, Report, ViewFit, silent
from .splatting.fit import FitSettings, FitState, fit, projection_rmse
from .splatting.initialise import at_random, fit_density, from_volume
from .splatting.ixgs import IxgsSettings, fit_ixgs
from .splatting.losses import photon_weights
from .splatting.projector import Cameras
from .splatting.voxelizer import voxelize
from .voxels.projection import ViewOnGrid, project_volume
from .voxels.resampling import resample
from .voxels.sart import SartSettings, SartState, residual_rmse, run_sart
from .xrays.radiograph import MeasuredView

POOR_BELOW_VIEWS = 10
POOR_BELOW_COVERAGE = 0.35
POOR_ABOVE_RESIDUAL = 0.35  # of the spread of the withheld images
IXGS_GAUSSIANS = 50_000
CHECKPOINT_SECONDS = 2.0
LAST_VOXEL_SHARE = 2 / 3  # of the voxel cycles are done before the withheld views are given back


def reconstruct(
    views: Sequence[MeasuredView], config: ReconstructionConfig, report: Report = silent, checkpoint: Path | None = None
) -> Reconstruction:
    """Reconstruct a volume from X-rays with known poses.

    A coarse voxel volume comes first and is shown at once. From it, Gaussians are fitted (`splat`), or finer voxels (`voxel`); `auto` lets
    two withheld views decide which, while images are still coarse. At the end, the withheld views are given back and the voxels polished.

    Args:
        views: At least two X-rays of the same patient.
        config: The settings.
        report: Told about the progress; may raise Cancelled.
        checkpoint: An existing folder to save progress in and to go on from; it must belong to these views and settings.

    Returns:
        The volume on the grid of the region, and all that is known about it.

    Raises:
        InputError: Views or region will not do; the message says which and why.
        Cancelled: From `report`.
    """
    run = _Run(views, config, report, Checkpoint(checkpoint))
    if config.method == "ixgs":
        volume, method = run.ixgs(), "ixgs"
    else:
        coarse = run.coarse()
        state = None if config.method == "voxel" else run.splat_coarsely(coarse)
        method = config.method if config.method != "auto" else min(run.candidates, key=run.candidates.__getitem__)
        volume = run.splat_finely(state) if method == "splat" else run.voxel(coarse)
    return run.finish(volume, method)


class _Run:
    """One reconstruction under way: its data, its clock and what it has found out so far."""

    def __init__(self, views: Sequence[MeasuredView], config: ReconstructionConfig, report: Report, checkpoint: Checkpoint) -> None:
        self.views, self.config, self.report, self.checkpoint = views, config, report, checkpoint
        self.effort: Effort = EFFORTS[config.quality]
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.curve: list[CurvePoint] = []
        self.candidates: dict[str, float] = {}
        self.warnings: list[str] = []
        report(0.0, "Preparing the X-rays")
        region = config.region or default_region([view.geometry for view in views])
        measured = prepare(views, region, config.seed)
        finest = measured.binned(measured.binning_for(config.spacing_mm))
        with self.stage("outside"):
            self.acquisition, share = without_outside(finest, config.seed, lambda f: report(0.03 * f, "Looking beyond the region"))
        if share is not None and share > 0.25:
            self.warnings.append(
                f"{share:.0%} of what the X-rays show lies beyond the region of interest; a larger region is more accurate."
            )
        self.grid = self.acquisition.grid(config.spacing_mm)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the wall seconds of a stage."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def judge(self, stage: str, rmse: float) -> float:
        """Add a point to the curve."""
        self.curve.append(CurvePoint(time.perf_counter() - self.started, stage, rmse))
        return rmse

    def once(self, name: str, measure: Callable[[], float]) -> float:
        """Measure something and keep it: a run that goes on from beyond this point cannot measure it any more."""
        saved = self.checkpoint.load(name)
        if not saved:
            saved = {"value": np.array(measure())}
            self.checkpoint.save(name, saved)
        return float(saved["value"])

    def coarse(self) -> tuple[np.ndarray, VoxelGrid]:
        """Reconstruct coarse voxels at four times, then at twice the spacing; show both."""
        volume, previous = None, None
        for level, (factor, cycles) in enumerate(zip((4, 2), self.effort.coarse_cycles, strict=True)):
            grid = self.acquisition.grid(self.config.spacing_mm * factor)
            binned = self.acquisition.binned(self.acquisition.binning_for(self.config.spacing_mm * factor))
            start = np.zeros(grid.shape_kji, np.float32) if volume is None else resample(volume, previous, grid)
            volume, previous = self.sart(f"coarse{factor}", binned, grid, start, SartSettings(cycles), (0.03 + 0.07 * level, 0.07)), grid
            rmse = self.judge("coarse voxels", residual_rmse(binned, self.acquisition.withheld, grid, volume))
            self.report(0.1 + 0.07 * level, "Coarse volume", (volume, self.lps(grid)))
        self.candidates["voxel"] = rmse
        return volume, previous

    def sart(self, stage, acquisition, grid, start, settings, span, withheld_until=None) -> np.ndarray:
        """Run a series of SART cycles with progress and checkpoints; from cycle `withheld_until` on, with all views."""
        saved = self.checkpoint.load(stage)
        state = SartState(**{**saved, "momentum": float(saved["momentum"]), "cycle": int(saved["cycle"])}) if saved else SartState.of(start)

        def after_cycle(now: SartState) -> None:
            arrays = {field.name: np.asarray(getattr(now, field.name)) for field in dataclasses.fields(now)}
            self.checkpoint.save(stage, arrays, CHECKPOINT_SECONDS)
            self.report(span[0] + span[1] * now.cycle / settings.cycles, f"Voxels at {grid.spacing_mm[0]:g} mm")

        with self.stage(stage):
            arguments = (grid, state, settings, self.config.seed, after_cycle)
            run_sart(acquisition, acquisition.training, *arguments, until=withheld_until)
            if withheld_until is not None:
                rmse = self.once(f"{stage}-withheld", lambda: residual_rmse(acquisition, acquisition.withheld, grid, state.volume))
                self.judge(stage, rmse)
                run_sart(acquisition, np.arange(len(self.views)), *arguments)
        return state.volume

    def splat_coarsely(self, coarse: tuple[np.ndarray, VoxelGrid]) -> FitState:
        """Fit Gaussians to images of half the resolution, and judge them there as the coarse voxels were."""
        settings = FitSettings(self.effort.splat_steps)
        saved = self.checkpoint.load("splat")
        if saved:
            state = FitState.from_arrays(saved, settings)
        else:
            volume, grid = coarse
            if not volume.max() > 0:
                raise InputError(
                    "The X-rays show nothing within the region of interest.", "Move or enlarge the region, or check the poses."
                )
            gaussians = from_volume(volume, grid, self.effort.gaussians, np.random.default_rng(self.config.seed))
            half, training = self.acquisition.binned(2), self.acquisition.training
            images, mask = (torch.from_numpy(a[training]) for a in (half.attenuation, half.weights))
            fit_density(gaussians, Cameras.of(half.geometries)[training], images, photon_weights(images, mask))
            state = FitState.of(gaussians, settings)
        self.fit(state, settings, settings.coarse_steps)
        half, withheld = self.acquisition.binned(2), self.acquisition.withheld
        rmse = self.once("splat-withheld", lambda: projection_rmse(half, withheld, state.gaussians))
        self.candidates["splat"] = self.judge("coarse splats", rmse)
        return state

    def fit(self, state: FitState, settings: FitSettings, until: int) -> None:
        """Fit Gaussians with progress and checkpoints."""

        def after_step(now: FitState) -> None:
            self.checkpoint.save("splat", now.arrays(), CHECKPOINT_SECONDS)
            self.report(0.24 + 0.5 * now.step / settings.steps, "Gaussians")

        with self.stage("splat"):
            fit(self.acquisition, self.acquisition.training, state, settings, self.config.seed, until, after_step)

    def splat_finely(self, state: FitState) -> np.ndarray:
        """Fit the Gaussians to images of full resolution, voxelize and polish them."""
        settings = FitSettings(self.effort.splat_steps)
        self.fit(state, settings, settings.steps)
        with self.stage("voxelize"), torch.no_grad():
            volume = voxelize(state.gaussians, self.grid).numpy()
        self.judge("splats", residual_rmse(self.acquisition, self.acquisition.withheld, self.grid, volume))
        self.report(0.75, "Gaussians", (volume, self.lps(self.grid)))
        polish = SartSettings(self.effort.polish_cycles, relaxation=0.5, last_relaxation=0.3)
        return self.sart("polish", self.acquisition, self.grid, volume, polish, (0.75, 0.15), 0)

    def voxel(self, coarse: tuple[np.ndarray, VoxelGrid]) -> np.ndarray:
        """Reconstruct voxels at the final spacing."""
        start = resample(*coarse, self.grid)
        settings = SartSettings(self.effort.voxel_cycles)
        begin = 0.52 if self.config.method == "auto" else 0.3  # Gaussians were fitted before
        span, withheld_until = (begin, 0.9 - begin), round(LAST_VOXEL_SHARE * settings.cycles)
        return self.sart("voxel", self.acquisition, self.grid, start, settings, span, withheld_until)

    def ixgs(self) -> np.ndarray:
        """Run the published recipe."""
        settings = IxgsSettings(self.config.ixgs_iterations)
        gaussians = at_random(self.acquisition.extent_mm, IXGS_GAUSSIANS, np.random.default_rng(self.config.seed))

        def after_step(now: FitState) -> None:
            self.report(0.03 + 0.87 * now.step / settings.iterations, f"Published recipe, iteration {now.step}")

        with self.stage("ixgs"):
            arguments = (gaussians, self.config.spacing_mm, settings, self.config.seed, after_step)
            fitted = fit_ixgs(self.acquisition, self.acquisition.training, *arguments)
            with torch.no_grad():
                volume = voxelize(fitted, self.grid).numpy()
        self.candidates["ixgs"] = self.judge("ixgs", residual_rmse(self.acquisition, self.acquisition.withheld, self.grid, volume))
        return volume

    def lps(self, grid: VoxelGrid) -> VoxelGrid:
        """Return a grid of the box's frame in LPS."""
        return self.acquisition.lps_grid(float(grid.spacing_mm[0]))

    def finish(self, volume: np.ndarray, method: str) -> Reconstruction:
        """Project the volume into all views, see what they constrain, and grade."""
        self.report(0.92, "Checking the volume against the X-rays")
        with self.stage("coverage"):
            covered = coverage(self.acquisition, self.grid)
        with self.stage("reprojection"):
            reprojections, fits = self.reproject(volume)
        grade = self.grade(covered, fits)
        self.report(1.0, "Done")
        return Reconstruction(
            grid=self.lps(self.grid),
            attenuation_per_mm=volume,
            coverage=covered,
            method=method,
            reprojections=reprojections,
            fits=fits,
            candidates=self.candidates,
            curve=self.curve,
            seconds=self.seconds,
            grade=grade,
            warnings=self.warnings,
            config=self.config,
        )

    def reproject(self, volume: np.ndarray) -> tuple[list[np.ndarray], list[ViewFit]]:
        """Project the volume into every view and compare; what lies beyond the region is taken from the measured side."""
        reprojections, fits = [], []
        for index, view in enumerate(self.views):
            geometry, measured = self.acquisition.geometries[index], self.acquisition.attenuation[index]
            mask = self.acquisition.weights[index] > 0
            projected, _ = project_volume(volume, ViewOnGrid.of(geometry, self.grid))
            peak = float(measured[mask].max(initial=1e-6))
            similarity = ssim(projected, measured, peak, mask) if min(mask.shape) >= 11 else float("nan")
            fits.append(ViewFit(view.name, index in self.acquisition.withheld, psnr_db(projected, measured, peak, mask), similarity))
            factor = max(1, round(view.geometry.pixel_pitch_mm[0] ** -1 * geometry.pixel_pitch_mm[0]))
            reprojections.append(enlarged(projected, factor, view.attenuation.shape))
        return reprojections, fits

    def grade(self, covered: np.ndarray, fits: list[ViewFit]) -> str:
        """Return `good` or `poor`, with a warning that says why it is poor."""
        found = []
        if len(self.views) < POOR_BELOW_VIEWS:
            found.append(
                f"Only {len(self.views)} X-rays: details of this volume cannot be trusted. Take {POOR_BELOW_VIEWS} or more, better 25."
            )
        if float(covered.mean()) < POOR_BELOW_COVERAGE:
            found.append("The X-rays come from too similar directions or see too little of the region. Add views from other sides.")
        withheld = self.acquisition.withheld
        if len(withheld):
            images, weights = self.acquisition.attenuation[withheld], self.acquisition.weights[withheld] > 0
            if self.curve[-1].withheld_rmse > POOR_ABOVE_RESIDUAL * float(images[weights].std()):
                found.append(
                    "The volume does not explain the X-rays that were withheld to judge it. Check the poses and that nobody moved."
                )
        self.warnings.extend(found)
        return "poor" if found else "good"
