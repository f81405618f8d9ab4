"""From the points of all X-rays to graded poses: each view alone, then what the views share, then grades and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from IntraopReconLib.core.calibration_config import CalibrationSettings, MatchSettings
from SparseAnatomyLib.geometry import XrayView

from .bundle import Bundle, Observations, bundle_adjust
from .camera import Camera
from .correspondence import BeadPoints, Beads, PoseHypothesis, is_enough, match_view, refine_match
from .jig_checks import NO_POSE_REMEDY, Problem, check_jig, duplicate_of, failure, mirrored_problem, principal_extents
from .poses import GRADES

MIRROR_CHECK_SHARE = 0.8  # views that explain fewer of their points and beads are compared with their mirror image
ADJUSTMENTS = 2


@dataclass(frozen=True, eq=False)
class CalibratedView:
    """One X-ray with its pose, as far as it has one.

    Attributes:
        points: What was detected.
        view: Source and detector; None where no pose was found.
        hypotheses: The pose with its matches and residuals, then its rivals; none where no pose was found.
        grade: One of `GRADES`.
        problems: Why it is not better.
    """

    points: BeadPoints
    view: XrayView | None
    hypotheses: tuple[PoseHypothesis, ...]
    grade: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Poses of all views.

    Attributes:
        camera: Intrinsics, adjusted if that was asked for.
        beads: Coordinates, adjusted if that was asked for.
        views: In the order given.
        problems: What concerns them all.
    """

    camera: Camera
    beads: Beads
    views: tuple[CalibratedView, ...]
    problems: tuple[Problem, ...]


def calibrate_views(views: Sequence[BeadPoints], beads: Beads, camera: Camera, settings: CalibrationSettings | None = None) -> Calibration:
    """Find and grade the poses of X-rays that show known beads.

    Args:
        views: Detected points of each X-ray, with a rough pose where one is known.
        beads: The jig.
        camera: Intrinsics that the views share; they are adjusted within the tolerances of `settings.bundle`.
        settings: Tolerances.

    Returns:
        A pose a view; views without one are red and say why.

    Raises:
        InputError: The jig is of no use: too few beads, all on a line, no millimeters.
    """
    settings = settings or CalibrationSettings()
    thin = check_jig(beads, settings.match)
    rough = settings.bundle.adjusts_all
    first = replace(settings.match, inlier_px=settings.match.inlier_px * (settings.loosened if rough else 1.0))
    found = [match_view(points, beads, camera, first) for points in views]
    if rough and sum(map(bool, found)) >= settings.least_views:
        camera, beads, found = _adjusted(views, beads, camera, found, settings)
    elif rough:  # nothing mends the intrinsics, and loose tolerances alone find a pose for beads of another jig by chance
        found = [match_view(points, beads, camera, settings.match) for points in views]
    repeats = [duplicate_of(views, number, settings) for number in range(len(views))]
    calibrated = []
    for points, hypotheses, repeat in zip(views, found, repeats, strict=True):
        shot = None if repeat is None else views[repeat].name
        calibrated.append(_graded(points, hypotheses, shot, (beads, camera, settings)))
    problems = [thin] if thin else []
    if views and all([problem.remedy for problem in view.problems] == [NO_POSE_REMEDY] for view in calibrated):
        problems.append(
            Problem(
                "The beads of the jig fit none of the X-rays: it may be another phantom.",
                "Choose the coordinates of the jig in the X-rays.",
            )
        )
    return Calibration(camera, beads, tuple(calibrated), tuple(problems))


def _adjusted(
    views: Sequence[BeadPoints], beads: Beads, camera: Camera, found: list[list[PoseHypothesis]], settings: CalibrationSettings
) -> tuple[Camera, Beads, list[list[PoseHypothesis]]]:
    """Adjust what the views share; find poses again with it, within the tolerances of known intrinsics."""
    start_camera, start_beads = camera, beads
    for _ in range(ADJUSTMENTS):
        numbers = [number for number, hypotheses in enumerate(found) if hypotheses]
        if not numbers:
            break
        bundle, seen = matched_bundle([views[n] for n in numbers], [found[n][0] for n in numbers], start_beads, start_camera)
        adjusted = bundle_adjust(bundle, seen, settings.bundle)
        camera, beads = adjusted.camera, replace(beads, position_lps_mm=adjusted.beads_lps_mm)
        poses = dict(zip(numbers, adjusted.poses, strict=True))
        found = [_found_again(views[n], beads, camera, poses.get(n), settings.match) for n in range(len(views))]
    return camera, beads, found


def _found_again(
    points: BeadPoints, beads: Beads, camera: Camera, pose: np.ndarray | None, settings: MatchSettings
) -> list[PoseHypothesis]:
    """Return the pose and its rivals with better intrinsics; the adjusted pose stands if the search finds nothing better."""
    found = match_view(points, beads, camera, settings)
    if pose is None:
        return found
    kept = refine_match(pose, points, beads, camera, settings)
    if is_enough(kept, points, beads, settings) and not any(other.cost <= kept.cost + 1e-6 for other in found):
        return [kept, *found[1:]]
    return found


def matched_bundle(
    views: Sequence[BeadPoints], poses: Sequence[PoseHypothesis], beads: Beads, camera: Camera
) -> tuple[Bundle, Observations]:
    """Return what `bundle_adjust` takes from views with one matched pose each."""
    bead = np.concatenate([pose.matches[:, 0] for pose in poses])
    pixel = np.concatenate([view.pixel[pose.matches[:, 1]] for view, pose in zip(views, poses, strict=True)])
    view = np.repeat(np.arange(len(views)), [len(pose.matches) for pose in poses])
    return Bundle(camera, np.stack([pose.camera_from_lps for pose in poses]), beads.position_lps_mm), Observations(view, bead, pixel)


def _graded(
    points: BeadPoints, hypotheses: list[PoseHypothesis], shot: str | None, known: tuple[Beads, Camera, CalibrationSettings]
) -> CalibratedView:
    """Grade a view and say why; `shot` names an earlier view that shows the same."""
    beads, camera, settings = known
    if not hypotheses:
        return CalibratedView(points, None, (), "red", (failure(points, beads, camera, settings.match),))
    best = hypotheses[0]
    problems, level = _weaknesses(points, hypotheses, beads, settings)
    if len(best.matches) < MIRROR_CHECK_SHARE * min(len(points), len(beads)):
        mirrored = mirrored_problem(points, beads, camera, settings.match, best)
        if mirrored:
            return CalibratedView(points, None, (), "red", (mirrored,))
    if shot is not None:
        problems.append(Problem(f"{points.name} is the same shot as {shot}.", "Leave one of them out; it adds nothing."))
        level = 2
    return CalibratedView(points, camera.view(best.camera_from_lps), tuple(hypotheses), GRADES[min(level, 2)], tuple(problems))


def _weaknesses(
    points: BeadPoints, hypotheses: list[PoseHypothesis], beads: Beads, settings: CalibrationSettings
) -> tuple[list[Problem], int]:
    """Return what weakens a pose, and its grade's number before anything else."""
    best, name = hypotheses[0], points.name
    problems, level = [], 0
    if len(best.matches) < settings.green_beads:
        problems.append(
            Problem(
                f"{name} shows only {len(best.matches)} beads that a pose explains.",
                "Add beads that were missed by hand, or take it again.",
            )
        )
        level = 1
    if best.rms_px > settings.green_rms_px:
        text = f"In {name} the beads lie {best.rms_px:.1f} pixels (RMS) beside where the pose puts them."
        problems.append(Problem(text, "Check the bead coordinates, the source-detector distance and the distortion correction."))
        level = max(level, 2 if best.rms_px > settings.amber_rms_px else 1)
    if len(hypotheses) > 1:
        text = f"{name} fits {len(hypotheses)} different poses nearly equally well."
        problems.append(Problem(text, "Give a rough orbit and tilt, or add beads that were missed by hand."))
        level = max(level, 1)
    extents = principal_extents(beads.position_lps_mm[best.matches[:, 0]])
    if extents[2] < settings.thin_share * extents[0]:
        text = f"The beads seen in {name} lie nearly in one plane, which leaves its pose less certain."
        problems.append(Problem(text, "Prefer beads in a volume."))
        level += 1
    return problems, level
