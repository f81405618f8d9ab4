"""Poses refined while a coarse volume is reconstructed: every view is moved, again and again, to where its image fits what the others show.

A round is a SART cycle on all views at their present poses, and then a Gauss–Newton step of every view's pose on the volume, held back
by what its calibration knows. The volume sharpens as the poses agree, and finer ones take over. Images cannot tell where all views lie
together nor how far away: the calibration, and with it the fiducials, holds that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .acquisition import Acquisition
from .checkpoint import Checkpoint
from .config import PoseSettings, ReconstructionConfig, RefinePoses, SartSettings
from .outside import without_outside
from .pose_findings import FAR_OFF, alone, find_motion, sentences
from .pose_registration import ViewImage, motion, pose_step, step_of
from .reconstruction import RefinedPose
from .voxels.motion import values_and_slopes
from .voxels.resampling import resample
from .voxels.sart import SartState, run_sart
from .xrays.radiograph import MeasuredView

STAGE = "poses"
CHECKPOINT_SECONDS = 2.0
PIXELS_A_VOXEL = 1.2  # finer voxels than the pixels show nothing more
LEAST_OUTSIDE = 0.15  # of all attenuation: while poses are wrong, a tenth seems to lie beyond the region that does not
FIRST_MARGIN = 2.0  # edge of the first box over that of the region: only better poses allow to take the outside from the images
LEAST_VIEWS = 6  # fewer agree with each other at many poses
LEAST_PIXELS = 12  # along an image's edge, for the poses
MISFIT_DEVIATIONS, MISFIT_RATIO = 6.0, 2.5  # a view that much less explained than the median (robust deviations, times) fights the others
FAR_DEVIATIONS = 5.0  # corrections that many times the median from the middle come from blunders, and do not hold the gauge
JUDGED_FROM = 3  # rounds: before, no volume is worth fighting


def is_asked(choice: RefinePoses, views: Sequence[MeasuredView]) -> bool:
    """Return whether the poses of these views are to be refined: `auto` where a calibration says how exact they are."""
    return choice == "on" or (choice == "auto" and any(view.pose_sigma_mm is not None for view in views))


def with_refined_poses(
    measured: Acquisition,
    views: Sequence[MeasuredView],
    config: ReconstructionConfig,
    told: Callable[[float], None],
    checkpoint: Checkpoint,
) -> tuple[Acquisition, list[RefinedPose], list[str]]:
    """Refine the poses of an acquisition and say what that showed.

    Args:
        measured: The views at their calibrated poses.
        views: The same, as they were given, in the order of the shots.
        config: The settings of the reconstruction.
        told: Told the share of the work that is done; may raise Cancelled.
        checkpoint: Where to go on from.

    Returns:
        The acquisition with refined poses, without the views that contradict the others; every view's pose; sentences for the user.
    """
    if len(views) < LEAST_VIEWS:
        return measured, [], [f"The poses were not refined: that takes {LEAST_VIEWS} X-rays, and there are {len(views)}."]
    settings = PoseSettings()
    if config.quality == "preview":
        settings = dataclasses.replace(settings, levels=settings.preview_levels)
    stated = [settings.sigma_mm if view.pose_sigma_mm is None else view.pose_sigma_mm for view in views]
    sigma_mm = np.maximum(stated, settings.least_sigma_mm)
    finest = measured.binned(measured.binning_for(config.spacing_mm))
    settings = dataclasses.replace(settings, least_spacing_mm=config.spacing_mm)
    state = refine_poses(finest, sigma_mm, settings, config.seed, told, checkpoint)
    beams = np.array([geometry.lps_from_camera[:3, 2] for geometry in measured.geometries])
    moved = find_motion(state.corrections, beams, ~(state.left_out | alone(state.corrections, sigma_mm)))
    apart = np.zeros(len(views), bool)
    if moved is not None:
        apart[moved.views] = True
        hold_gauge(state, measured, apart)
    corrections = state.corrections
    own = corrections.copy()  # what is left of the corrections when the patient's motion is taken away
    if moved is not None:
        own[apart] -= corrections[apart].mean(0)
    found = sentences([view.name for view in views], own, sigma_mm, state.left_out, moved)
    refined = dataclasses.replace(measured, geometries=moved_geometries(measured, state.motions))
    lps = measured.lps_from_box
    poses = [
        RefinedPose(
            name=view.name,
            geometry=view.geometry.transformed(lps @ rigid @ np.linalg.inv(lps)),
            shift_mm=float(np.linalg.norm(correction[3:])),
            turn_deg=float(np.rad2deg(np.linalg.norm(correction[:3]))),
            unexplained=float(unexplained),
            left_out=bool(out),
        )
        for view, rigid, correction, unexplained, out in zip(
            views, state.motions, corrections, state.unexplained, state.left_out, strict=True
        )
    ]
    return refined.without(np.flatnonzero(state.left_out), config.seed), poses, found


@dataclass
class PoseState:
    """Where a refinement stands.

    Attributes:
        motions: What carries each calibrated view to its present place, in the frame of the box, [view, 4, 4].
        left_out: Which views take no part in the volume, bool [view].
        level_motions, level_left_out: What they were when the present level began.
        unexplained: Share of each image that the volume does not explain, [view].
        sart: The volume.
        grid: Of the volume; None before the first round.
        rounds: Rounds done.
    """

    motions: np.ndarray
    left_out: np.ndarray
    level_motions: np.ndarray
    level_left_out: np.ndarray
    unexplained: np.ndarray
    sart: SartState | None = None
    grid: VoxelGrid | None = None
    rounds: int = 0

    @classmethod
    def of(cls, views: int) -> PoseState:
        """Start from the calibrated poses."""
        still = np.tile(np.eye(4), (views, 1, 1))
        return cls(still, np.zeros(views, bool), still.copy(), np.zeros(views, bool), np.ones(views))

    @property
    def corrections(self) -> np.ndarray:
        """Rotation vectors (radians) and shifts (mm) about the center of the box, [view, 6]."""
        return np.array([step_of(rigid) for rigid in self.motions])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything but the grid as arrays, for a checkpoint."""
        names = ("motions", "left_out", "level_motions", "level_left_out", "unexplained", "rounds")
        return {name: np.asarray(getattr(self, name)) for name in names} | {
            f"sart.{name}": value for name, value in self.sart.arrays().items()
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> PoseState:
        """Go on from what `arrays` gave; the grid is the caller's."""
        sart = {name.removeprefix("sart."): value for name, value in arrays.items() if name.startswith("sart.")}
        own = (arrays[name] for name in ("motions", "left_out", "level_motions", "level_left_out", "unexplained"))
        return cls(*own, SartState.from_arrays(sart), None, int(arrays["rounds"]))


def refine_poses(
    acquisition: Acquisition,
    sigma_mm: np.ndarray,
    settings: PoseSettings,
    seed: int,
    after_step: Callable[[float], None],
    checkpoint: Checkpoint,
) -> PoseState:
    """Refine the poses of all views together.

    Args:
        acquisition: All views at their calibrated poses; those withheld elsewhere take part.
        sigma_mm: Expected error of each calibrated pose at the isocenter along each axis, [view].
        settings: How.
        seed: Draws the order of the views.
        after_step: Told the share of the work that is done, several times a second; may raise Cancelled.
        checkpoint: Where to go on from.

    Returns:
        The motions of the views, and which of them fit no others.
    """
    levels = [level for level, (_, rounds) in enumerate(settings.levels) for _ in range(rounds)]
    saved = checkpoint.load(STAGE)
    state = PoseState.from_arrays(saved) if saved else PoseState.of(len(acquisition.geometries))
    sigma_rad = np.deg2rad(settings.degrees_per_mm) * sigma_mm
    sigma = np.stack([sigma_rad] * 3 + [sigma_mm] * 3, 1)
    level = None
    while state.rounds < len(levels):
        if level is None or level.number != levels[state.rounds]:
            if level is not None or not state.rounds:
                state.level_motions, state.level_left_out = state.motions.copy(), state.left_out.copy()
            inside = _inside(acquisition, state, seed, after_step) if levels[state.rounds] else acquisition
            level = _Level.of(inside, levels[state.rounds], settings)
        _to_grid(state, level.grid)

        def told(share: float) -> None:
            after_step((state.rounds + share) / len(levels))

        level.update_volume(state, settings, seed, told)
        level.update_poses(state, sigma, settings, told)
        hold_gauge(state, acquisition)
        state.rounds += 1
        if state.rounds >= JUDGED_FROM:
            judge_views(state)
        checkpoint.save(STAGE, state.arrays, CHECKPOINT_SECONDS)
    return state


@dataclass(frozen=True, eq=False)
class _Level:
    """One resolution: its number, its grid, the images for the volume and those for the poses."""

    number: int
    grid: VoxelGrid
    for_volume: Acquisition
    for_poses: Acquisition

    @classmethod
    def of(cls, acquisition: Acquisition, number: int, settings: PoseSettings) -> _Level:
        longest = float(acquisition.extent_mm.max())
        finest = max(settings.least_spacing_mm, PIXELS_A_VOXEL * acquisition.pixel_at_center_mm)
        spacing = max(longest / settings.levels[number][0], finest)
        for_volume = acquisition.binned(acquisition.binning_for(spacing))
        enough = min(for_volume.attenuation.shape[1:]) >= LEAST_PIXELS * settings.binning
        grid = acquisition.grid(spacing, FIRST_MARGIN if number == 0 else 1.0)
        return cls(number, grid, for_volume, for_volume.binned(settings.binning if enough else 1))

    def update_volume(self, state: PoseState, settings: PoseSettings, seed: int, told: Callable[[float], None]) -> None:
        """Run SART cycles on the views at their present poses."""
        cycles = 1 if state.sart.cycle else settings.first_cycles
        until = state.sart.cycle + cycles
        sart = SartSettings(until, settings.relaxation, settings.relaxation, settings.tv_mm)
        present = dataclasses.replace(self.for_volume, geometries=moved_geometries(self.for_volume, state.motions))
        arguments = (np.flatnonzero(~state.left_out), self.grid, state.sart, sart, seed)
        run_sart(present, *arguments, lambda now: told(0.5 * (1 - (until - now.cycle) / cycles)))

    def update_poses(self, state: PoseState, sigma: np.ndarray, settings: PoseSettings, told: Callable[[float], None]) -> None:
        """Move every view a step."""
        field = values_and_slopes(state.sart.volume)
        images = self.for_poses
        for index, geometry in enumerate(images.geometries):
            rigid = state.motions[index]
            view = ViewImage(geometry.transformed(rigid), images.attenuation[index], images.weights[index])
            correction = step_of(rigid)
            strays = state.left_out[index] or np.linalg.norm(correction[3:]) > FAR_OFF * sigma[index, -1]
            free = settings.stray_share if strays else settings.prior_share
            step, state.unexplained[index] = pose_step(field, self.grid, view, correction, free * sigma[index], settings)
            state.motions[index] = motion(step) @ rigid
            told(0.5 + 0.5 * (index + 1) / len(images.geometries))


def _inside(acquisition: Acquisition, state: PoseState, seed: int, after_step: Callable[[float], None]) -> Acquisition:
    """Return the images without the anatomy beyond the region, as the poses at the level's beginning show it."""
    present = dataclasses.replace(acquisition, geometries=moved_geometries(acquisition, state.level_motions))
    present = present.without(np.flatnonzero(state.level_left_out), seed)
    cleaned, share = without_outside(present, seed, lambda done: after_step(0.0))
    return dataclasses.replace(acquisition, attenuation=cleaned.attenuation) if share > LEAST_OUTSIDE else acquisition


def moved_geometries(acquisition: Acquisition, motions: np.ndarray) -> list[XrayView]:
    """Return the views carried along by rigid motions [view, 4, 4] in the frame of the box."""
    return [geometry.transformed(rigid) for geometry, rigid in zip(acquisition.geometries, motions, strict=True)]


def _to_grid(state: PoseState, grid: VoxelGrid) -> None:
    """Bring the volume onto a grid, unless it is there."""
    if state.sart is None:
        state.sart = SartState.of(np.zeros(grid.shape_kji))
    elif state.grid is not None and state.grid is not grid:
        state.sart = SartState.of(resample(state.sart.volume, state.grid, grid))
    state.grid = grid


def hold_gauge(state: PoseState, acquisition: Acquisition, moved: np.ndarray | None = None) -> None:
    """Take from all views the motion that they share, and the distance: images see neither, the calibration is right on average.

    Args:
        state: Changed in place.
        acquisition: The views at their calibrated poses.
        moved: Views that a motion of the patient concerns: coordinates are those of the others, bool [view].
    """
    candidates = ~state.left_out if moved is None else ~(state.left_out | moved)
    shifts = state.corrections[:, 3:]
    distances = np.linalg.norm(shifts - np.median(shifts[candidates], axis=0), axis=1)
    counts = candidates & (distances <= FAR_DEVIATIONS * float(np.median(distances[candidates])))
    beams = np.array([geometry.lps_from_camera[:3, 2] for geometry in acquisition.geometries])
    along = float(np.mean((shifts[counts] * beams[counts]).sum(1)))
    for index, beam in enumerate(beams):
        state.motions[index, :3, 3] -= along * beam
    back = np.linalg.inv(motion(state.corrections[counts].mean(0)))
    state.motions = back @ state.motions


def judge_views(state: PoseState) -> None:
    """Leave out the views that the volume explains far less than the others, and take in again those that it explains by now."""
    used = state.unexplained[~state.left_out]
    median = float(np.median(used))
    spread = 1.4826 * float(np.median(np.abs(used - median)))
    state.left_out = state.unexplained > max(median + MISFIT_DEVIATIONS * spread, MISFIT_RATIO * median)
