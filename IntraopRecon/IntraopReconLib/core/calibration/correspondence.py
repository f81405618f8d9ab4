"""Which point of an X-ray is which bead, and from where it was taken: unknown matching, missing and false beads, a rough prior or none.

Triplets of points are tried against all ordered triplets of beads; the poses that bring most beads near a point are refined with points and
beads assigned one to one. All that nearly explain as much are reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from IntraopReconLib.core.calibration_config import MatchSettings
from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.frames import affine, transform_points

from ._pose_numba import refined, search
from .camera import Camera, rotation_angle_deg

SLENDER_SHARE = 0.25  # of the triplets of points, those of the least area, are not tried
PRIOR_MARGIN_DEG = 2.0  # a pose from three points is this uncertain
ROUNDS = (2.0, 1.0, 0.5)  # of assignment and refinement, in search radii, before those at the final radius


@dataclass(frozen=True, eq=False)
class Beads:
    """Radio-opaque beads of a jig.

    Attributes:
        position_lps_mm: [B, 3].
        kind: Size class [B], from 1; 0 for unknown, which matches any.
    """

    position_lps_mm: np.ndarray
    kind: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "position_lps_mm", check_array("position_lps_mm", self.position_lps_mm, (None, 3)))
        object.__setattr__(self, "kind", _kinds(self.kind, len(self)))

    def __len__(self) -> int:
        return len(self.position_lps_mm)


@dataclass(frozen=True, eq=False)
class BeadPoints:
    """What was detected in one X-ray.

    Attributes:
        name: What the user calls the view.
        pixel: (column, row) [P, 2].
        kind: Size class [P], from 1; 0 for unknown, which matches any.
        camera_from_lps: Rough pose [4, 4], of which the rotation is used; None if nothing is known.
    """

    name: str
    pixel: np.ndarray
    kind: np.ndarray | None = None
    camera_from_lps: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel", check_array("pixel", np.reshape(self.pixel, (-1, 2)), (None, 2)))
        object.__setattr__(self, "kind", _kinds(self.kind, len(self)))

    def __len__(self) -> int:
        return len(self.pixel)


@dataclass(frozen=True, eq=False)
class PoseHypothesis:
    """A pose and what it explains.

    Attributes:
        camera_from_lps: [4, 4] rigid, z towards the detector.
        matches: Pairs (bead, point) [n, 2].
        residual_px: Projected bead minus point [n, 2].
        cost: Sum over all beads of the squared distance to the matched point, at most 1 each, in units of the inlier distance.
    """

    camera_from_lps: np.ndarray
    matches: np.ndarray
    residual_px: np.ndarray
    cost: float

    @property
    def rms_px(self) -> float:
        """Root mean square of the residuals' lengths; 0 where nothing is matched."""
        return float(np.sqrt((self.residual_px**2).sum(1).mean())) if len(self.residual_px) else 0.0


def match_view(points: BeadPoints, beads: Beads, camera: Camera, settings: MatchSettings | None = None) -> list[PoseHypothesis]:
    """Find the poses that explain the points of one X-ray.

    Args:
        points: Detections, false ones among them.
        beads: Where the beads are; some may be missing in the X-ray.
        camera: Intrinsics.
        settings: Tolerances.

    Returns:
        The best pose first, then its rivals; none where nothing explains enough beads.
    """
    settings = settings or MatchSettings()
    if len(points) < max(3, settings.least_beads) or len(beads) < max(3, settings.least_beads):
        return []
    centroid = beads.position_lps_mm.mean(0)
    centered = np.ascontiguousarray(beads.position_lps_mm - centroid)
    plane = np.ascontiguousarray(camera.rays(points.pixel)[:, :2])
    rotation, angle = np.eye(3), 180.0
    if points.camera_from_lps is not None:
        rotation, angle = np.ascontiguousarray(points.camera_from_lps[:3, :3], float), settings.prior_deg + PRIOR_MARGIN_DEG
    radius = settings.search_share * camera.half_diagonal_px / float(camera.focal_px.mean())
    nearest, furthest = (share * camera.source_to_detector_mm for share in settings.depth_range)
    least_cos = np.cos(np.deg2rad(min(angle, 180.0))) - 1e-9
    gates = (rotation, least_cos, nearest, furthest, radius, settings.least_beads, settings.missed_chance)
    triplets = _triplets(points.pixel, settings.most_triplets)
    poses, costs, _, _ = search(centered, plane, (beads.kind, points.kind), triplets, gates, settings.hypotheses)
    found = []
    for pose in poses[np.isfinite(costs)]:
        hypothesis = refine_match(pose_matrix(pose, centroid), points, beads, camera, settings)
        turned = 0.0 if points.camera_from_lps is None else rotation_angle_deg(hypothesis.camera_from_lps[:3, :3], rotation)
        if turned <= angle and is_enough(hypothesis, points, beads, settings):
            found.append(hypothesis)
    return _distinct(found, settings)


def refine_match(
    camera_from_lps: np.ndarray, points: BeadPoints, beads: Beads, camera: Camera, settings: MatchSettings | None = None
) -> PoseHypothesis:
    """Refine a pose: assign beads and points one to one, minimize the robust reprojection error, again with a smaller radius.

    Args:
        camera_from_lps: Start [4, 4].
        points: Detections.
        beads: Where the beads are.
        camera: Intrinsics.
        settings: Tolerances.
    """
    settings = settings or MatchSettings()
    centroid = beads.position_lps_mm.mean(0)
    pose = np.ascontiguousarray(np.column_stack([camera_from_lps[:3, :3], transform_points(camera_from_lps, centroid)]))
    ideal, focal = camera.undistorted_px(points.pixel), camera.focal_px
    plane = (ideal - camera.principal_point_px) / focal
    coarse = settings.search_share * camera.half_diagonal_px
    radii = [max(share * coarse, settings.inlier_px) for share in ROUNDS] + [settings.inlier_px] * 2
    for radius in radii:
        matches, _ = assign(project(pose_matrix(pose, centroid), beads, camera), points, beads, radius)
        if len(matches) < 4:
            break
        scale = max(radius / 4, settings.inlier_px) / float(focal.mean())
        pose = refined(pose, beads.position_lps_mm[matches[:, 0]] - centroid, np.ascontiguousarray(plane[matches[:, 1]]), scale)
    final = pose_matrix(pose, centroid)
    seen = project(final, beads, camera)
    matches, cost = assign(seen, points, beads, settings.inlier_px)
    return PoseHypothesis(final, matches, seen[matches[:, 0]] - points.pixel[matches[:, 1]], cost)


def project(camera_from_lps: np.ndarray, beads: Beads, camera: Camera) -> np.ndarray:
    """Return where beads appear in the image, distortion included, (column, row) [B, 2]; NaN behind the source."""
    local = transform_points(camera_from_lps, beads.position_lps_mm)
    depth = np.where(local[:, 2:] > 0, local[:, 2:], np.nan)
    return camera.distorted_px(camera.principal_point_px + camera.focal_px * local[:, :2] / depth)


def assign(seen_px: np.ndarray, points: BeadPoints, beads: Beads, radius_px: float) -> tuple[np.ndarray, float]:
    """Assign projected beads [B, 2] and points one to one.

    Returns:
        Pairs (bead, point) [n, 2] nearer than the radius, with the least sum of squares; that sum in squared radii with 1 for each bead
        left alone.
    """
    squares = ((seen_px[:, None] - points.pixel[None]) ** 2).sum(-1) / radius_px**2
    differ = (beads.kind[:, None] != points.kind[None]) & (beads.kind[:, None] > 0) & (points.kind[None] > 0)
    squares = np.where(differ | ~(squares < 1), 1.0, squares)
    rows, columns = linear_sum_assignment(squares)
    near = squares[rows, columns] < 1
    return np.stack([rows[near], columns[near]], 1), float(squares[rows, columns][near].sum() + len(beads) - near.sum())


def is_enough(hypothesis: PoseHypothesis, points: BeadPoints, beads: Beads, settings: MatchSettings) -> bool:
    """Return whether a pose explains so many beads that it cannot well be chance."""
    share = settings.least_share * min(len(points), len(beads))
    return len(hypothesis.matches) >= max(settings.least_beads, share)


def pose_matrix(pose: np.ndarray, centroid_lps_mm: np.ndarray) -> np.ndarray:
    """Return a pose [4, 4] from one [3, 4] that holds for coordinates about a centroid."""
    return affine(pose[:, :3], pose[:, 3] - pose[:, :3] @ centroid_lps_mm)


def _kinds(kind: np.ndarray | None, count: int) -> np.ndarray:
    return np.zeros(count, np.int64) if kind is None else check_array("kind", kind, (count,), np.int64)


def _triplets(pixel: np.ndarray, most: int) -> np.ndarray:
    """Return triplets of points [N, 3], the slender ones left out, in an order that is random but always the same."""
    rng = np.random.default_rng(0)
    count = len(pixel)
    few = count <= 40
    triplets = np.array(list(combinations(range(count), 3))) if few else np.argsort(rng.random((20 * most, count)), axis=1)[:, :3]
    a, b, c = (pixel[triplets[:, n]] for n in range(3))
    u, v = b - a, c - a
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    wide = np.flatnonzero(area >= np.quantile(area, SLENDER_SHARE))
    return np.ascontiguousarray(triplets[rng.permutation(wide)[:most]], np.int64)


def _distinct(found: list[PoseHypothesis], settings: MatchSettings) -> list[PoseHypothesis]:
    """Return the best and its rivals: other poses that cost little more."""
    kept: list[PoseHypothesis] = []
    for hypothesis in sorted(found, key=lambda one: one.cost):
        differs = all(
            rotation_angle_deg(hypothesis.camera_from_lps[:3, :3], other.camera_from_lps[:3, :3]) > settings.rival_deg for other in kept
        )
        if differs and (not kept or hypothesis.cost - kept[0].cost <= settings.rival_cost):
            kept.append(hypothesis)
    return kept
