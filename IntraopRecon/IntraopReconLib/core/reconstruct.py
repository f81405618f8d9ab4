"""reconstruct(): from measured views to a volume, the whole way top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import psnr_db, ssim

from .acquisition import Acquisition, prepare
from .checkpoint import Checkpoint
from .config import EFFORTS, Effort, FitSettings, IxgsSettings, ReconstructionConfig, SartSettings
from .config_check import check_config, check_voxel_count
from .coverage import default_region
from .device import choose_device
from .grading import graded
from .outside import enlarged, region_alone
from .pose_refinement import is_asked, with_refined_poses
from .reconstruction import CurvePoint, Reconstruction, RefinedPose, Report, ViewFit, silent
from .run_device import RunDevice
from .splatting.fit import FitState, projection_rmse
from .splatting.initialise import at_random, fit_density, from_volume
from .splatting.losses import photon_weights
from .splatting.projector import Cameras
from .voxels.projection import ViewOnGrid
from .voxels.resampling import mean_volume, resample
from .voxels.sart import SartState, residual_rmse
from .xrays.radiograph import MeasuredView

IXGS_GAUSSIANS = 50_000
CHECKPOINT_SECONDS = 2.0
POSES_SHARE = 0.3  # of the whole work is their refinement, where it is asked for
WITHHELD_SHARE = 0.8  # of the last stage's work is done before the withheld views are given back
FIRST_LOOK_SHARE = 0.4  # of the splats' steps on coarse images are done before `auto` compares them with voxels;
HOPELESS = 1.4  # unless their error is this many times that of voxels, it lets them go on to
DECISION_SHARE = 0.8  # of those steps, and decides then
DECISION_CYCLES = 3  # of voxels at the final spacing are done for that
UNDECIDED = 0.95, 1.1  # where the splats' error is between so many times that of voxels, either may turn out better, by 2 dB and more
DECIDED, MADE = 0.47, 0.9  # of the progress
POLISH_TV_MM = 0.03
LEAST_SIGMA_VOXELS, LARGEST_SIGMA_VOXELS = 0.5, 5.0


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
        ResourceError: The device is not to be had, or there are more voxels than any memory will hold.
        Cancelled: From `report`.
    """
    check_config(config)
    run = _Run(views, config, report, Checkpoint(checkpoint))
    if config.method == "ixgs":
        return run.finish(run.ixgs(), "ixgs")
    coarse = run.coarse()
    methods = run.decide(coarse) if config.method == "auto" else (config.method,)
    volume = mean_volume(run.splat(coarse) if method == "splat" else run.voxel(coarse) for method in run.in_turn(methods))
    return run.finish(volume, "+".join(methods))


@dataclasses.dataclass(frozen=True, eq=False)
class _SartWork:
    """A series of SART cycles: its name, images, grid and settings, and where its progress begins and how far it reaches."""

    stage: str
    acquisition: Acquisition
    grid: VoxelGrid
    settings: SartSettings
    span: tuple[float, float]


class _Run:
    """One reconstruction under way: its data, its clock and what it has found out so far."""

    def __init__(self, views: Sequence[MeasuredView], config: ReconstructionConfig, report: Report, checkpoint: Checkpoint) -> None:
        self.views, self.config, self.checkpoint = views, config, checkpoint
        self.tell, self.told, self.span = report, 0.0, (0.0, 1.0)
        self.effort: Effort = EFFORTS[config.quality]
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.curve: list[CurvePoint] = []
        self.candidates: dict[str, float] = {}
        self.warnings: list[str] = []
        self.withheld_fits: dict[int, tuple[float, float]] = {}
        self.fits: dict[int, FitState] = {}
        self.judged: set[int] = set()  # seeds of fits that were judged in this process
        self.sart_states: dict[str, SartState] = {}
        sigma_range = (LEAST_SIGMA_VOXELS * config.spacing_mm, LARGEST_SIGMA_VOXELS * config.spacing_mm)
        self.fit_settings = FitSettings(self.effort.splat_steps, sigma_range_mm=sigma_range)
        self.device = RunDevice(choose_device(config.device, lambda message: self.report(0.0, message)))
        self.device.prepare(lambda message: self.report(0.0, message))
        self.report(0.0, "Preparing the X-rays")
        region = config.region or default_region([view.geometry for view in views])
        measured = prepare(views, region, config.seed)
        self.poses: list[RefinedPose] = []
        if is_asked(config.refine_poses, views):
            with self.stage("poses"):
                measured, self.poses, found = with_refined_poses(measured, views, config, self.report_poses, checkpoint)
            self.warnings += found
            self.span = POSES_SHARE, 1.0
        finest = measured.binned(measured.binning_for(config.spacing_mm))
        self.result_grid = finest.lps_grid(config.spacing_mm)
        check_voxel_count(math.prod(self.result_grid.size_ijk), config.spacing_mm)
        with self.stage("outside"):
            self.acquisition, self.kept, found = region_alone(finest, config, lambda f: self.report(0.03 * f, "Looking beyond the region"))
        self.warnings += found
        self.grid = self.acquisition.grid(config.spacing_mm)

    def report(self, fraction: float, message: str, preview: tuple[np.ndarray, VoxelGrid] | None = None) -> None:
        """Tell how far the run is, never less than before: `auto` works ahead on the method that it then leaves."""
        first, last = self.span
        self.told = max(self.told, first + (last - first) * fraction)
        self.tell(self.told, message, preview)

    def report_poses(self, share: float) -> None:
        """Tell how far the refinement of the poses is."""
        self.report(POSES_SHARE * share, "Refining the poses")

    def in_turn(self, methods: Sequence[str]) -> Iterator[str]:
        """Yield the methods one by one, each with its share of the progress from the decision to the finished volume."""
        (first, last), share = self.span, 1 / len(methods)
        for number, method in enumerate(methods):
            begin = DECIDED * (1 - share) + (MADE - DECIDED) * number * share
            self.span = tuple(first + (last - first) * fraction for fraction in (begin, begin + share))
            yield method
        self.span = first, last

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

    def once(self, name: str, measure: Callable[[], list[float]]) -> list[float]:
        """Measure something and keep it: a run that goes on from beyond this point cannot measure it any more."""
        saved = self.checkpoint.load(name)
        if not saved:
            saved = {"values": np.array(measure())}
            self.checkpoint.save(name, saved.copy)
        return saved["values"].tolist()

    def judge_withheld(self, stage: str, make_volume: Callable[[], np.ndarray]) -> None:
        """Hold a volume against the withheld views, just before they are given back."""

        def measure() -> list[float]:
            volume = make_volume()
            withheld = self.acquisition.withheld
            compared = zip(self.projected(volume, withheld), withheld, strict=True)
            fits = [number for image, index in compared for number in self.compare(image, index)]
            return [residual_rmse(self.acquisition, self.acquisition.withheld, self.grid, volume), *fits]

        rmse, *fits = self.once(f"{stage}-withheld", measure)
        self.judge(stage.rstrip("0123456789"), rmse)
        self.withheld_fits = dict(zip(self.acquisition.withheld.tolist(), zip(fits[::2], fits[1::2], strict=True), strict=True))

    def decide(self, coarse: tuple[np.ndarray, VoxelGrid]) -> tuple[str, ...]:
        """Return the method that explains the withheld views better early on, both judged on images of half the resolution.

        Where that is too close to tell, it is both. Where no view could be withheld, it is voxels, which need the least luck.
        """
        if not len(self.acquisition.withheld):
            return ("voxel",)
        self.splat_coarsely(coarse, self.config.seed, FIRST_LOOK_SHARE)
        cycles = min(DECISION_CYCLES, self.last_withheld_cycle)
        volume = self.voxels(coarse, self.acquisition.training, cycles)
        half, withheld = self.acquisition.binned(2), self.acquisition.withheld
        (rmse,) = self.once("voxel-decision", lambda: [residual_rmse(half, withheld, self.grid, volume)])
        self.candidates["voxel"] = self.judge("voxels", rmse)
        if self.candidates["splat"] < HOPELESS * rmse:
            self.splat_coarsely(coarse, self.config.seed)
        low, high = UNDECIDED
        if low * rmse < self.candidates["splat"] < high * rmse:
            return "splat", "voxel"
        best = min(self.candidates, key=self.candidates.__getitem__)
        if best == "splat":
            self.sart_states.clear()  # five volumes
        return (best,)

    def coarse(self) -> tuple[np.ndarray, VoxelGrid]:
        """Reconstruct coarse voxels at four times, then at twice the spacing; show both."""
        volume, previous = None, None
        for level, (factor, cycles) in enumerate(zip((4, 2), self.effort.coarse_cycles, strict=True)):
            grid = self.acquisition.grid(self.config.spacing_mm * factor)
            binned = self.acquisition.binned(self.acquisition.binning_for(self.config.spacing_mm * factor))
            start = partial(np.zeros, grid.shape_kji) if volume is None else partial(resample, volume, previous, grid)
            work = _SartWork(f"coarse{factor}", binned, grid, SartSettings(cycles), (0.03 + 0.07 * level, 0.07))
            volume, previous = self.sart(work, start, self.acquisition.training, cycles), grid
            self.judge("coarse voxels", residual_rmse(binned, self.acquisition.withheld, grid, volume))
            self.report(0.1 + 0.07 * level, "Coarse volume", (volume, self.lps(grid)))
        self.sart_states.clear()
        return volume, previous

    def sart(self, work: _SartWork, start: Callable[[], np.ndarray], indices: np.ndarray, until: int) -> np.ndarray:
        """Run SART cycles up to `until` with progress and checkpoints, from where this work stands or, if it is new, from `start`."""
        state = self.sart_states.get(work.stage)
        if state is None:
            saved = self.checkpoint.load(work.stage)
            state = SartState.from_arrays(saved) if saved else SartState.of(start())
            self.sart_states[work.stage] = state

        def after_cycle(now: SartState) -> None:
            self.checkpoint.save(work.stage, now.arrays, CHECKPOINT_SECONDS)
            begin, length = work.span
            self.report(begin + length * now.cycle / work.settings.cycles, f"Refining the volume to {work.grid.spacing_mm[0]:g} mm")

        with self.stage(work.stage):
            self.device.run_sart(work.acquisition, indices, work.grid, state, work.settings, self.config.seed, after_cycle, until)
        return state.volume

    @property
    def last_withheld_cycle(self) -> int:
        """The voxel cycle after which the withheld views are given back."""
        return max(1, round(WITHHELD_SHARE * self.effort.voxel_cycles))

    def voxels(self, coarse: tuple[np.ndarray, VoxelGrid], indices: np.ndarray, until: int) -> np.ndarray:
        """Run the voxel method's cycles at the final spacing up to `until`."""
        begin = DECIDED if self.config.method == "auto" else 0.24  # coarse Gaussians were fitted before
        work = _SartWork("voxel", self.acquisition, self.grid, SartSettings(self.effort.voxel_cycles), (begin, MADE - begin))
        return self.sart(work, lambda: resample(*coarse, self.grid), indices, until)

    def voxel(self, coarse: tuple[np.ndarray, VoxelGrid]) -> np.ndarray:
        """Reconstruct voxels at the final spacing."""
        volume = self.voxels(coarse, self.acquisition.training, self.last_withheld_cycle)
        self.judge_withheld("voxel", lambda: volume)
        return self.voxels(coarse, self.acquisition.used, self.effort.voxel_cycles)

    def splat_coarsely(self, coarse: tuple[np.ndarray, VoxelGrid], seed: int, share: float = DECISION_SHARE) -> FitState:
        """Fit Gaussians to images of half the resolution for a share of those steps, and judge them there as the coarse voxels were."""
        settings = self.fit_settings
        half, training, withheld = self.acquisition.binned(2), self.acquisition.training, self.acquisition.withheld
        saved = self.checkpoint.load(f"splat{seed}")
        if seed in self.fits:
            state = self.fits[seed]
        elif saved:
            state = FitState.from_arrays(saved, settings)
        else:
            volume, grid = coarse
            if not volume.max() > 0:
                raise InputError(
                    "The X-rays show nothing within the region of interest.", "Move or enlarge the region, or check the poses."
                )
            gaussians = from_volume(volume, grid, self.effort.gaussians, np.random.default_rng(seed))
            images, mask = (torch.from_numpy(a[training]) for a in (half.attenuation, half.weights))
            fit_density(gaussians, Cameras.of(half.geometries)[training], images, photon_weights(images, mask))
            state = FitState.of(gaussians, settings)
        self.fits[seed] = state
        steps = round(share * settings.coarse_steps)
        if state.step < steps or seed not in self.judged:
            self.fit(state, training, steps, seed)
            (rmse,) = self.once(f"coarse{seed}-{steps}-withheld", lambda: [projection_rmse(half, withheld, state.gaussians)])
            self.judged.add(seed)
            error = self.judge("coarse splats", rmse)
            if seed == self.config.seed:
                self.candidates["splat"] = error
        return state

    def fit(self, state: FitState, indices: np.ndarray, until: int, seed: int) -> None:
        """Fit Gaussians with progress and checkpoints."""
        settings = self.fit_settings
        number = seed - self.config.seed

        def after_step(now: FitState) -> None:
            self.checkpoint.save(f"splat{seed}", now.arrays, CHECKPOINT_SECONDS)
            self.report(0.24 + 0.5 * (number + now.step / settings.steps) / self.effort.fits, "Fitting the bone to the X-rays")

        with self.stage("splat"):
            self.device.fit(self.acquisition, indices, state, settings, seed, until, after_step)

    def splat(self, coarse: tuple[np.ndarray, VoxelGrid]) -> np.ndarray:
        """Fit Gaussians to images of full resolution, voxelize and polish them.

        Several fits from different random starts make different errors, which their mean lessens.
        """
        volume = mean_volume(self.splatted(coarse, seed) for seed in range(self.config.seed, self.config.seed + self.effort.fits))
        with self.stage("polish"):
            volume = self.device.smooth(volume, self.grid)
        settings = SartSettings(self.effort.polish_cycles, relaxation=0.5, last_relaxation=0.5, tv_mm=POLISH_TV_MM)
        work = _SartWork("polish", self.acquisition, self.grid, settings, (0.75, 0.15))
        polished = self.sart(work, lambda: volume, self.acquisition.used, settings.cycles)
        del self.sart_states["polish"]
        return polished

    def splatted(self, coarse: tuple[np.ndarray, VoxelGrid], seed: int) -> np.ndarray:
        """Fit Gaussians to images of full resolution and voxelize them."""
        state = self.splat_coarsely(coarse, seed)
        self.fit(state, self.acquisition.training, round(WITHHELD_SHARE * self.effort.splat_steps), seed)
        self.judge_withheld(f"splats{seed}", lambda: self.voxelized(state))
        self.fit(state, self.acquisition.used, self.effort.splat_steps, seed)
        volume, done = self.voxelized(state), (seed - self.config.seed + 1) / self.effort.fits
        self.report(0.24 + 0.5 * done, "Fitting the bone to the X-rays", (volume, self.lps(self.grid)))
        return volume

    def voxelized(self, state: FitState) -> np.ndarray:
        """Return the field of the Gaussians on the final grid."""
        with self.stage("voxelize"):
            return self.device.voxelize(state.gaussians, self.grid)

    def ixgs(self) -> np.ndarray:
        """Run the published recipe."""
        settings = IxgsSettings(self.config.ixgs_iterations)
        gaussians = at_random(self.acquisition.extent_mm, IXGS_GAUSSIANS, np.random.default_rng(self.config.seed))

        def after_step(now: FitState) -> None:
            self.report(0.03 + 0.87 * now.step / settings.iterations, f"Fitting the bone by the published recipe, step {now.step}")

        with self.stage("ixgs"):
            fitted = self.device.fit_ixgs(self.acquisition, gaussians, self.config.spacing_mm, settings, self.config.seed, after_step)
            volume = self.device.voxelize(fitted, self.grid)
        self.judge_withheld("ixgs", lambda: volume)
        return volume

    def lps(self, grid: VoxelGrid) -> VoxelGrid:
        """Return a grid of the box's frame in LPS."""
        return self.acquisition.lps_grid(float(grid.spacing_mm[0]))

    def finish(self, volume: np.ndarray, method: str) -> Reconstruction:
        """Project the volume into all views, see what they constrain, and grade."""
        self.report(0.92, "Checking the volume against the X-rays")
        self.sart_states.clear()
        if not self.candidates:
            self.candidates[method] = self.curve[-1].withheld_rmse
        with self.stage("coverage"):
            covered = np.ascontiguousarray(self.device.coverage(self.acquisition, self.grid)[self.kept])
        with self.stage("reprojection"):
            reprojections, fits = self.reproject(volume)
        grade, found = graded(self.acquisition, covered, self.curve[-1].withheld_rmse)
        self.report(1.0, "Done")
        return Reconstruction(
            grid=self.result_grid,
            attenuation_per_mm=np.ascontiguousarray(volume[self.kept]),
            coverage=covered,
            method=method,
            reprojections=reprojections,
            fits=fits,
            candidates=self.candidates,
            curve=self.curve,
            seconds=self.seconds,
            grade=grade,
            warnings=self.warnings + found + self.device.failures,
            config=self.config,
            poses=self.poses,
            device=self.device.sentence,
        )

    def reproject(self, volume: np.ndarray) -> tuple[list[np.ndarray], list[ViewFit]]:
        """Project the volume into every view and compare; what lies beyond the region is taken from the measured side."""
        reprojections, fits = [], []
        images = self.projected(volume, range(len(self.views)))
        for index, (view, projected) in enumerate(zip(self.views, images, strict=True)):
            psnr, similarity = self.compare(projected, index)
            if index in self.withheld_fits:
                psnr, similarity = self.withheld_fits[index]
            fits.append(ViewFit(view.name, index in self.withheld_fits, psnr, similarity))
            factor = round(self.acquisition.geometries[index].pixel_pitch_mm[0] / view.geometry.pixel_pitch_mm[0])
            reprojections.append(enlarged(projected, factor, view.attenuation.shape))
        return reprojections, fits

    def projected(self, volume: np.ndarray, indices: Sequence[int]) -> list[np.ndarray]:
        """Return a volume's projections into some views."""
        return self.device.project(volume, [ViewOnGrid.of(self.acquisition.geometries[index], self.grid) for index in indices])

    def compare(self, projected: np.ndarray, index: int) -> tuple[float, float]:
        """Return a projection's PSNR in dB and SSIM against the measured image."""
        measured, mask = self.acquisition.attenuation[index], self.acquisition.weights[index] > 0
        peak = float(measured[mask].max(initial=1e-6))
        similarity = ssim(projected, measured, peak, mask) if min(mask.shape) >= 11 else float("nan")
        return psnr_db(projected, measured, peak, mask), similarity
