"""Beads and poses together, from several X-rays of the same unknown beads: up to similarity, with the scale from one known distance.

The points of one view, laid on a plane, are a first guess of the beads. It is matched loosely with a second view, adjusted, and grows view
by view; what explains most points in the end is kept. The mirrored solution (relief and rotations reversed) is fitted too: how much worse
it is tells how sure the signs are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from IntraopReconLib.core.calibration_config import BundleSettings, SelfCalibrationSettings
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine, transform_points

from .bundle import bundle_adjust
from .calibrate import matched_bundle
from .camera import Camera, rotation_matrix
from .correspondence import BeadPoints, Beads, PoseHypothesis, match_view, refine_match

LEAST_VIEWS = 3
ROUNDS = 3  # of adjustment and new matching whenever a view has joined
SURE_RATIO = 2.0  # of the RMS of the mirrored solution to that of the solution
LEAST_SIGHTINGS = 3  # views in which a bead must be seen


@dataclass(frozen=True, eq=False)
class SelfCalibration:
    """Beads and poses that explain the points of several views.

    Attributes:
        camera: Shared intrinsics, adjusted within their tolerances.
        beads: [B, 3] mm if the scale is known; the frame is that of the first solved view's prior, centered on the beads.
        poses: One a view with its matches and residuals; None for a view that nothing explains.
        mirrored_rms_px: RMS of the mirrored solution on the same matches.
    """

    camera: Camera
    beads: Beads
    poses: tuple[PoseHypothesis | None, ...]
    mirrored_rms_px: float

    @property
    def rms_px(self) -> float:
        """Root mean square of the lengths of all residuals."""
        return _rms([pose for pose in self.poses if pose])

    @property
    def explained(self) -> int:
        """Number of points that are beads."""
        return sum(len(pose.matches) for pose in self.poses if pose)

    @property
    def is_sure(self) -> bool:
        """Whether the mirrored solution fits clearly worse; otherwise relief and the signs of the rotations may be reversed."""
        return self.mirrored_rms_px > SURE_RATIO * self.rms_px

    def scaled(self, first: int, second: int, distance_mm: float) -> SelfCalibration:
        """Return the solution in which two beads have a known distance."""
        factor = distance_mm / float(np.linalg.norm(np.subtract(*self.beads.position_lps_mm[[first, second]])))
        poses = tuple(
            pose and replace(pose, camera_from_lps=affine(pose.camera_from_lps[:3, :3], factor * pose.camera_from_lps[:3, 3]))
            for pose in self.poses
        )
        return replace(self, beads=replace(self.beads, position_lps_mm=factor * self.beads.position_lps_mm), poses=poses)


def self_calibrate(views: Sequence[BeadPoints], camera: Camera, settings: SelfCalibrationSettings | None = None) -> SelfCalibration:
    """Find the beads and the poses of views that show the same unknown beads.

    Args:
        views: Detected points; with rough poses in one frame (only the rotations count) or without.
        camera: Rough intrinsics.
        settings: Tolerances.

    Returns:
        What explains most points.

    Raises:
        InputError: Fewer than three views, or no arrangement of beads explains most of their points.
    """
    settings = settings or SelfCalibrationSettings()
    usable = [points for points in views if len(points) >= settings.match.least_beads]
    if len(usable) < LEAST_VIEWS:
        raise InputError(
            f"Only {len(usable)} X-rays show at least {settings.match.least_beads} beads, but unknown beads need {LEAST_VIEWS}.",
            "Add X-rays of the jig from other directions, 10 to 30 degrees apart, or give the bead coordinates.",
        )
    best: SelfCalibration | None = None
    enough = settings.good_share * sum(map(len, views))
    for seed in _seeds(views, camera, settings)[: settings.seeds]:
        grown = _grown(views, camera, seed, settings)
        if grown and (best is None or (grown.explained, -grown.rms_px) > (best.explained, -best.rms_px)):
            best = grown
        if best and best.explained >= enough:
            break
    if best is None or best.explained < settings.least_share * sum(map(len, views)):
        raise InputError(
            f"No arrangement of beads explains what the {len(views)} X-rays show.",
            "Check that all show the same jig; add X-rays between them, or give the bead coordinates.",
        )
    return best


@dataclass(frozen=True, eq=False)
class _Growth:
    """A solution on its way: beads, camera, and the views that have joined."""

    camera: Camera
    beads: Beads
    poses: dict[int, PoseHypothesis]


def _seeds(views: Sequence[BeadPoints], camera: Camera, settings: SelfCalibrationSettings) -> list[_Growth]:
    """Return first guesses from a flat jig and two views, the most convincing first."""
    first = max(range(len(views)), key=lambda number: len(views[number]))
    radius = settings.seed_share * camera.half_diagonal_px
    loose = replace(settings.match, inlier_px=radius, search_share=settings.seed_share, prior_deg=settings.prior_deg)
    loose = replace(loose, rival_cost=np.inf, rival_deg=6.0, hypotheses=4, most_triplets=12)
    seeds = []
    for tilts in product(settings.plane_tilts_deg, repeat=2):
        beads = _flat(views[first], camera, np.deg2rad(tilts), settings.depth_share)
        start = _identity(views[first], beads)
        for number, points in enumerate(views):
            if number != first and len(points) >= settings.match.least_beads:
                found = match_view(_relative(points, views[first]), beads, camera, loose)
                seeds += [(pose.cost, _Growth(camera, beads, {first: start, number: pose})) for pose in found]
    return [growth for _, growth in sorted(seeds, key=lambda seed: seed[0])]


def _flat(points: BeadPoints, camera: Camera, tilts_rad: np.ndarray, depth_share: float) -> Beads:
    """Return the points of a view laid on a plane, in camera coordinates."""
    rays = camera.rays(points.pixel)
    middle = rays.mean(0) * depth_share * camera.source_to_detector_mm
    normal = rotation_matrix(np.array([*tilts_rad, 0.0]))[:, 2]
    return Beads(rays * ((middle @ normal) / (rays @ normal))[:, None], points.kind)


def _identity(points: BeadPoints, beads: Beads) -> PoseHypothesis:
    number = np.arange(len(points))
    return PoseHypothesis(np.eye(4), np.stack([number, number], 1), np.zeros((len(points), 2)), 0.0)


def _relative(points: BeadPoints, first: BeadPoints) -> BeadPoints:
    """Return points whose prior maps from the first view's camera; without priors, one that only bounds the rotation."""
    if points.camera_from_lps is None or first.camera_from_lps is None:
        return replace(points, camera_from_lps=np.eye(4))
    return replace(points, camera_from_lps=affine(points.camera_from_lps[:3, :3] @ first.camera_from_lps[:3, :3].T, np.zeros(3)))


def _grown(views: Sequence[BeadPoints], camera: Camera, seed: _Growth, settings: SelfCalibrationSettings) -> SelfCalibration | None:
    """Add view after view to a first guess; return the solution, or None if it explains fewer than three views."""
    first = next(iter(seed.poses))
    relative = [_relative(points, views[first]) for points in views]
    coarse = settings.grow_share * camera.half_diagonal_px
    growth = seed
    for share in (2.0, 1.0):
        growth = _settled(relative, growth, share * coarse, settings, free=False)
    tried = set(growth.poses)  # a view that joined and was dropped again would join again for ever
    while len(tried) < len(views):
        wide = replace(settings.match, inlier_px=2 * coarse, search_share=2 * settings.grow_share, prior_deg=settings.prior_deg)
        waiting = [number for number in range(len(views)) if number not in tried]
        found = {number: match_view(relative[number], growth.beads, growth.camera, wide) for number in waiting}
        found = {number: hypotheses[0] for number, hypotheses in found.items() if hypotheses}
        if not found:
            break
        number = min(found, key=lambda key: found[key].cost)
        tried.add(number)
        growth = replace(growth, poses=growth.poses | {number: found[number]})
        growth = _settled(relative, growth, coarse, settings, free=len(growth.poses) > LEAST_VIEWS)
    for radius in (coarse / 2, settings.match.inlier_px, settings.match.inlier_px):
        growth = _settled(relative, growth, max(radius, settings.match.inlier_px), settings, free=True)
    if len(growth.poses) < LEAST_VIEWS:
        return None
    return _finished(views, _pruned(growth), first, settings)


def _settled(views: Sequence[BeadPoints], growth: _Growth, radius_px: float, settings: SelfCalibrationSettings, free: bool) -> _Growth:
    """Adjust and match again until nothing changes; `free` lets the camera move too."""
    match = replace(settings.match, inlier_px=radius_px, search_share=0.0)
    for _ in range(ROUNDS):
        growth = _adjusted(views, growth, _bundle_settings(settings, radius_px, free))
        matched = partial(refine_match, beads=growth.beads, camera=growth.camera, settings=match)
        poses = {number: matched(pose.camera_from_lps, views[number]) for number, pose in growth.poses.items()}
        growth = replace(growth, poses={number: pose for number, pose in poses.items() if len(pose.matches) >= match.least_beads})
    return growth


def _bundle_settings(settings: SelfCalibrationSettings, radius_px: float, free: bool) -> BundleSettings:
    return BundleSettings(
        noise_px=settings.match.inlier_px / 4,
        focal_tolerance=settings.focal_tolerance * free,
        principal_point_tolerance_px=settings.principal_point_tolerance_px * free,
        radial_tolerance=settings.radial_tolerance * free,
        bead_tolerance_mm=settings.relief_mm,
        loss_scale=max(4.0, 2 * radius_px / settings.match.inlier_px),
    )


def _adjusted(views: Sequence[BeadPoints], growth: _Growth, settings: BundleSettings) -> _Growth:
    numbers = sorted(growth.poses)
    bundle, seen = matched_bundle([views[n] for n in numbers], [growth.poses[n] for n in numbers], growth.beads, growth.camera)
    adjusted = bundle_adjust(bundle, seen, settings)
    residual = adjusted.residual_px(seen)
    poses = {
        number: replace(growth.poses[number], camera_from_lps=adjusted.poses[k], residual_px=residual[seen.view == k])
        for k, number in enumerate(numbers)
    }
    return _Growth(adjusted.camera, replace(growth.beads, position_lps_mm=adjusted.beads_lps_mm), poses)


def _pruned(growth: _Growth) -> _Growth:
    """Return the solution without beads that too few views show."""
    sightings = np.bincount(np.concatenate([pose.matches[:, 0] for pose in growth.poses.values()]), minlength=len(growth.beads))
    kept = sightings >= LEAST_SIGHTINGS
    renumbered = np.cumsum(kept) - 1
    poses = {}
    for number, pose in growth.poses.items():
        of_kept = kept[pose.matches[:, 0]]
        matches = np.stack([renumbered[pose.matches[of_kept, 0]], pose.matches[of_kept, 1]], 1)
        poses[number] = replace(pose, matches=matches, residual_px=pose.residual_px[of_kept])
    return _Growth(growth.camera, Beads(growth.beads.position_lps_mm[kept], growth.beads.kind[kept]), poses)


def _finished(views: Sequence[BeadPoints], growth: _Growth, first: int, settings: SelfCalibrationSettings) -> SelfCalibration:
    """Adjust once more, compare with the mirrored solution and take the better, and give it its frame."""
    last = _bundle_settings(settings, settings.match.inlier_px, free=True)
    growth = _adjusted(views, growth, last)
    mirrored = _adjusted(views, _mirrored(growth, first), last)
    if views[first].camera_from_lps is None and _rms(mirrored.poses.values()) < _rms(growth.poses.values()):
        growth, mirrored = mirrored, growth
    prior = np.eye(3) if views[first].camera_from_lps is None else views[first].camera_from_lps[:3, :3]
    centroid = growth.beads.position_lps_mm.mean(0)
    turn = affine(prior.T @ growth.poses[first].camera_from_lps[:3, :3], np.zeros(3))
    world_from_now = turn @ affine(np.eye(3), -centroid)
    poses = {n: replace(pose, camera_from_lps=pose.camera_from_lps @ np.linalg.inv(world_from_now)) for n, pose in growth.poses.items()}
    beads = replace(growth.beads, position_lps_mm=transform_points(world_from_now, growth.beads.position_lps_mm))
    return SelfCalibration(growth.camera, beads, tuple(poses.get(n) for n in range(len(views))), _rms(mirrored.poses.values()))


def _mirrored(growth: _Growth, first: int) -> _Growth:
    """Return the solution with relief and rotations reversed, which parallel rays could not tell from it."""
    flip = np.diag([1.0, 1.0, -1.0])
    first_from_world = growth.poses[first].camera_from_lps
    local = transform_points(first_from_world, growth.beads.position_lps_mm)
    middle = local.mean(0)
    poses = {}
    for number, pose in growth.poses.items():
        relative = pose.camera_from_lps @ np.linalg.inv(first_from_world)
        turned = flip @ relative[:3, :3] @ flip
        poses[number] = replace(pose, camera_from_lps=affine(turned, transform_points(relative, middle) - turned @ middle))
    return _Growth(growth.camera, replace(growth.beads, position_lps_mm=middle + (local - middle) @ flip), poses)


def _rms(poses: Sequence[PoseHypothesis]) -> float:
    squares = np.concatenate([(pose.residual_px**2).sum(1) for pose in poses])
    return float(np.sqrt(squares.mean()))
