"""From the beads of all X-rays of a case to graded poses: for a known jig, and for one whose beads nobody measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from IntraopReconLib.core.calibration_config import BundleSettings, CalibrationSettings, CaseSettings, MatchSettings
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine, transform_points

from .calibrate import CalibratedView, Calibration, calibrate_views
from .camera import Camera
from .correspondence import BeadPoints, Beads, match_view
from .distortion import Distortion
from .intrinsics import CameraGroup
from .jig_checks import LEAST_EXTENT_MM, MIRRORED_REMEDY, MOST_EXTENT_MM, Problem, zoom_problem
from .poses import GRADES
from .self_calibrate import SelfCalibration, self_calibrate
from .shots import Shot

MIRRORED = Problem(
    "The X-rays and the list of the beads are mirror images of each other.",
    "Export the X-rays as seen from the source, not from the detector; or correct the list, if one of its coordinates has the wrong sign.",
)
NO_PROBLEM = Problem("", "")
LEAST_COMPARED = 4  # fewer views do not tell which of them is the misfit
FRONTAL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # camera from LPS: source in front, head up


@dataclass(frozen=True, eq=False)
class SolvedShot:
    """An X-ray with its pose, as far as it has one.

    Attributes:
        shot: The X-ray.
        camera: What it was taken with, adjusted if the intrinsics were rough; None for an X-ray that was not looked at.
        calibrated: Pose, matches and grade; None for an X-ray that was not looked at.
        problems: Why the grade is not better.
    """

    shot: Shot
    camera: Camera | None
    calibrated: CalibratedView | None
    problems: tuple[Problem, ...]

    @property
    def grade(self) -> str:
        """One of `GRADES`."""
        return self.calibrated.grade if self.calibrated else "red"


@dataclass(frozen=True, eq=False)
class Solution:
    """All X-rays of a case.

    Attributes:
        shots: In the order of the X-rays.
        beads: The jig, LPS mm.
        unknown: How the beads were found, where nobody knew them.
        problems: What concerns all X-rays.
    """

    shots: tuple[SolvedShot, ...]
    beads: Beads
    unknown: SelfCalibration | None
    problems: tuple[Problem, ...]


def solve(
    shots: Sequence[Shot],
    groups: Sequence[CameraGroup],
    beads: Beads,
    distortion: Distortion | None,
    settings: CaseSettings,
    unknown: SelfCalibration | None = None,
) -> Solution:
    """Find the poses of X-rays that show known beads, camera by camera.

    Args:
        shots: All X-rays.
        groups: Which of them share a camera; an X-ray of none has no pose.
        beads: The jig.
        distortion: Correction of the image intensifier.
        settings: Tolerances.
        unknown: How the beads were found in the X-rays of the first camera, where nobody knew them; its intrinsics are kept.

    Raises:
        InputError: The jig is of no use.
    """
    solved = [SolvedShot(shot, None, None, (shot.problem,) if shot.problem else ()) for shot in shots]
    problems: dict[str, Problem] = {}
    for group in groups:
        numbers = [number for number in group.numbers if shots[number].image is not None]
        camera = group.camera
        if unknown is not None:
            share = group.camera.source_to_detector_mm / groups[0].camera.source_to_detector_mm
            camera = replace(unknown.camera, source_to_detector_mm=share * unknown.camera.source_to_detector_mm)
        adjusted = settings.calibration
        if not group.measured and unknown is None:
            adjusted = replace(adjusted, bundle=rough_bundle(adjusted.bundle, camera, settings))
        points = [_with_trusted_prior(shots[n].points(distortion), beads, camera, adjusted.match, adjusted.loosened) for n in numbers]
        calibration = _without_misfits(points, beads, camera, adjusted, settings)
        problems |= {problem.message: problem for problem in calibration.problems}
        for number, view in zip(numbers, calibration.views, strict=True):
            solved[number] = SolvedShot(shots[number], calibration.camera, view, view.problems)
    searched = [one for one in solved if one.calibrated]
    if len(searched) > 1 and all(problem.remedy == MIRRORED_REMEDY for one in searched for problem in one.problems or [NO_PROBLEM]):
        problems[MIRRORED.message] = MIRRORED
    return Solution(tuple(solved), beads, unknown, tuple(problems.values()))


def _without_misfits(
    points: Sequence[BeadPoints], beads: Beads, camera: Camera, adjusted: CalibrationSettings, settings: CaseSettings
) -> Calibration:
    """Calibrate views; those that fit far worse than the others are graded lower, and left out where a zoom explains it."""
    calibration = calibrate_views(points, beads, camera, adjusted)
    rms = np.array([view.hypotheses[0].rms_px if view.view else np.nan for view in calibration.views])
    if np.isfinite(rms).sum() < LEAST_COMPARED:
        return calibration
    usual = float(np.nanmedian(rms))
    suspects = np.flatnonzero(rms > max(settings.misfit_ratio * usual, settings.misfit_px))
    half = {number: zoom_problem(points[number], beads, calibration.camera, adjusted.match, rms[number] / 2) for number in suspects}
    zoomed = {number: problem for number, problem in half.items() if problem}
    others = [number for number in range(len(points)) if number not in zoomed]
    if zoomed:  # they have drawn what all views share
        calibration = calibrate_views([points[number] for number in others], beads, camera, adjusted)
    views = {number: CalibratedView(points[number], None, (), "red", (problem,)) for number, problem in zoomed.items()}
    for number, view in zip(others, calibration.views, strict=True):
        views[number] = _doubted(view, usual) if number in suspects and view.view else view
    return replace(calibration, views=tuple(views[number] for number in range(len(points))))


def _doubted(view: CalibratedView, usual_px: float) -> CalibratedView:
    """Return a view graded at most amber, because others fit far better."""
    text = f"{view.points.name} fits far worse than the other X-rays ({view.hypotheses[0].rms_px:.2f} against {usual_px:.2f} pixels RMS)."
    problem = Problem(text, "Look at its picture: check that the rings are beads, and that the image is neither cropped nor zoomed.")
    return replace(view, grade=max(view.grade, "amber", key=GRADES.index), problems=(*view.problems, problem))


def rough_bundle(bundle: BundleSettings, camera: Camera, settings: CaseSettings) -> BundleSettings:
    """Return the settings that adjust intrinsics which were stated but not measured."""
    shift = settings.principal_point_share * camera.half_diagonal_px
    return replace(bundle, focal_tolerance=settings.focal_tolerance, principal_point_tolerance_px=shift)


def _with_trusted_prior(points: BeadPoints, beads: Beads, camera: Camera, match: MatchSettings, loosened: float) -> BeadPoints:
    """Return points without their prior if the beads contradict it: the jig may be described in another frame than the patient."""
    if points.camera_from_lps is None:
        return points
    match = replace(match, inlier_px=match.inlier_px * loosened)
    free = replace(points, camera_from_lps=None)
    found, found_free = match_view(points, beads, camera, match), match_view(free, beads, camera, match)
    agrees = bool(found) and (not found_free or found[0].cost <= found_free[0].cost + match.rival_cost)
    return points if agrees else free


def find_unknown_beads(
    shots: Sequence[Shot], group: CameraGroup, known_distance_mm: float | None, distortion: Distortion | None, settings: CaseSettings
) -> SelfCalibration:
    """Find the beads of a jig that nobody measured from X-rays of one camera.

    Args:
        shots: All X-rays.
        group: Those of one camera.
        known_distance_mm: Longest distance between any two beads of the jig.
        distortion: Correction of the image intensifier.
        settings: Tolerances.

    Returns:
        Beads and poses in mm. Where no X-ray tells its direction, the first one is taken for a frontal view.

    Raises:
        InputError: No distance is known, too few X-rays show enough beads, nothing explains them, or the mirror image does as well.
    """
    if known_distance_mm is None:
        raise InputError(
            "The case has no fiducials.mrk.json, so nothing tells where the beads of the jig are.",
            "Put the file of the jig into the case; or measure the distance between the two beads that are furthest apart, in mm, and "
            "give it with --known-distance: then the beads are found from the X-rays.",
        )
    if not LEAST_EXTENT_MM <= known_distance_mm <= MOST_EXTENT_MM:
        raise InputError(
            f"A known distance of {known_distance_mm:g} mm is no distance between two beads of a jig.", "Give --known-distance in mm."
        )
    points = [shots[number].points(distortion) for number in group.numbers if shots[number].image is not None]
    found = _self_calibrated(points, group.camera, settings)
    if not found.is_sure:
        raise InputError(
            "The beads cannot be found with certainty: their mirror image explains the X-rays nearly as well "
            f"({found.mirrored_rms_px:.2f} against {found.rms_px:.2f} pixels).",
            "Add X-rays of the jig from 10 to 30 degrees further to the side or tilted, or give its fiducials.mrk.json.",
        )
    usual = float(np.median([len(one) for one in points if len(one) >= settings.unknown.match.least_beads]))
    if len(found.beads) < settings.found_share * usual:
        raise InputError(
            f"The beads cannot be found with certainty: of about {usual:.0f} in each X-ray only {len(found.beads)} could be located.",
            "Add X-rays of the jig between those that are there, 5 to 15 degrees apart, or give its fiducials.mrk.json.",
        )
    distances = np.linalg.norm(found.beads.position_lps_mm[:, None] - found.beads.position_lps_mm, axis=-1)
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    scaled = found.scaled(int(first), int(second), known_distance_mm)
    _check_scale(scaled, known_distance_mm, settings)
    return scaled


def _check_scale(found: SelfCalibration, known_mm: float, settings: CaseSettings) -> None:
    """Raise an InputError if the known distance puts the jig behind the detector or on top of the source."""
    centroid = found.beads.position_lps_mm.mean(0)
    depths = np.array([transform_points(pose.camera_from_lps, centroid)[2] for pose in found.poses if pose])
    nearest, furthest = (share * found.camera.source_to_detector_mm for share in settings.unknown.match.depth_range)
    if nearest < depths.min() and depths.max() < furthest:
        return
    low, high = nearest / depths.min() * known_mm, furthest / depths.max() * known_mm
    place = "behind the detector" if depths.max() >= furthest else "at the X-ray source"
    raise InputError(
        f"With {known_mm:g} mm between the two beads that are furthest apart, the jig would lie {place}.",
        f"Measure that distance again: between {low:.0f} and {high:.0f} mm is possible at this source-detector distance.",
    )


def _self_calibrated(points: Sequence[BeadPoints], camera: Camera, settings: CaseSettings) -> SelfCalibration:
    """Find beads and poses with the rough poses if all have one and the beads agree with them, otherwise without."""
    if all(one.camera_from_lps is not None for one in points):
        try:
            found = self_calibrate(points, camera, settings.unknown)
            if found.is_sure:
                return found
        except InputError:
            pass  # the angles may be those of another frame, or never change: the beads alone decide
    found = self_calibrate([replace(one, camera_from_lps=None) for one in points], camera, settings.unknown)
    return _frontal(found)


def _frontal(found: SelfCalibration) -> SelfCalibration:
    """Return the solution turned so that its first view is a frontal one."""
    first = next(pose for pose in found.poses if pose)
    lps_from_now = affine(FRONTAL.T @ first.camera_from_lps[:3, :3], np.zeros(3))
    now_from_lps = np.linalg.inv(lps_from_now)
    poses = tuple(pose and replace(pose, camera_from_lps=pose.camera_from_lps @ now_from_lps) for pose in found.poses)
    return replace(
        found, beads=replace(found.beads, position_lps_mm=transform_points(lps_from_now, found.beads.position_lps_mm)), poses=poses
    )
