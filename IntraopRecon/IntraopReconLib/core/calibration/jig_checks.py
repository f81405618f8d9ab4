"""What can be wrong with a jig or with the points of an X-ray, as sentences that name the view and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from IntraopReconLib.core.calibration_config import BundleSettings, CalibrationSettings, MatchSettings
from SparseAnatomyLib.errors import InputError

from .bundle import Bundle, Observations, bundle_adjust
from .camera import Camera
from .correspondence import BeadPoints, Beads, PoseHypothesis, is_enough, match_view, refine_match

LEAST_EXTENT_MM = 3.0  # a jig below is none
MOST_EXTENT_MM = 3000.0
COLLINEAR_SHARE = 0.02  # RMS across the line beside RMS along it
COPLANAR_SHARE = 0.02
BETTER_COST = 1.5  # beads that the mirrored image must explain more
ZOOMS = (1.0, 2.0, 0.5, 1.5, 0.7)
ZOOM_NOTICED = 0.1
SHIFT_NOTICED = 0.1  # of the half diagonal
MOST_SHIFT = 2.0  # beyond, no crop explains it: the jig is another one
NO_POSE_REMEDY = "Check that the bead coordinates belong to this jig and that the points are its beads; take the X-ray again."
MIRRORED_REMEDY = "Export it unmirrored, as seen from the source, or reverse its columns."
UNIT_FACTORS = {"centimeters": 10.0, "inches": 25.4}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a view, and what to do.

    Attributes:
        message: A sentence that names the view.
        remedy: What mends it.
    """

    message: str
    remedy: str


def check_jig(beads: Beads, settings: MatchSettings) -> Problem | None:
    """Check the bead coordinates of a jig.

    Returns:
        What weakens every pose from it: beads that lie in one plane; None if nothing does.

    Raises:
        InputError: Too few beads, two at one place, all on a line, or coordinates that are no millimeters.
    """
    if len(beads) < settings.least_beads:
        message = f"The jig has {len(beads)} beads, but a pose needs at least {settings.least_beads}."
        raise InputError(message, "Use a jig with more beads, or complete its list of coordinates.")
    extent = float(np.ptp(beads.position_lps_mm, axis=0).max())
    if extent < LEAST_EXTENT_MM:
        message = f"The bead coordinates reach over {extent:.3g} mm only: they look like meters, not millimeters."
        raise InputError(message, "Give them in millimeters (LPS).")
    if extent > MOST_EXTENT_MM:
        message = f"The bead coordinates reach over {extent / 1000:.3g} m: they are no millimeters."
        raise InputError(message, "Give them in millimeters (LPS).")
    distances = np.linalg.norm(beads.position_lps_mm[:, None] - beads.position_lps_mm, axis=-1)
    pairs = np.argwhere(np.triu(distances < 1e-3 * extent, 1))
    if len(pairs):
        raise InputError(f"Beads {pairs[0][0] + 1} and {pairs[0][1] + 1} of the jig lie at one place.", "Remove one of them.")
    largest, middle, least = principal_extents(beads.position_lps_mm)
    if middle < COLLINEAR_SHARE * largest:
        raise InputError(
            "All beads of the jig lie on one line, which leaves the rotation about it open.", "Use a jig with beads in a volume."
        )
    if least < COPLANAR_SHARE * largest:
        return Problem("All beads of the jig lie in one plane: two poses may look alike.", "Prefer a jig with beads in a volume.")
    return None


def principal_extents(points_mm: np.ndarray) -> np.ndarray:
    """Return the RMS extents of points [n, 3] along their principal axes, largest first, [3]."""
    extents = np.zeros(3)
    values = np.linalg.svd(points_mm - points_mm.mean(0), compute_uv=False) / np.sqrt(len(points_mm))
    extents[: len(values)] = values
    return extents


def duplicate_of(views: Sequence[BeadPoints], number: int, settings: CalibrationSettings) -> int | None:
    """Return the first earlier view whose points lie where those of a view lie, if there is one."""
    points = views[number].pixel
    for earlier in range(number):
        others = views[earlier].pixel
        fewer, more = sorted((len(points), len(others)))
        if fewer < settings.match.least_beads or fewer < 0.8 * more:
            continue
        squares = ((points[:, None] - others[None]) ** 2).sum(-1)
        rows, columns = linear_sum_assignment(squares)
        nearest = np.sort(squares[rows, columns])[: int(np.ceil(0.8 * fewer))]
        if np.sqrt(nearest.mean()) < settings.duplicate_px:
            return earlier
    return None


def mirrored_problem(
    points: BeadPoints, beads: Beads, camera: Camera, settings: MatchSettings, best: PoseHypothesis | None
) -> Problem | None:
    """Return a problem if the image with its columns reversed explains clearly more beads than the image does."""
    pixel = np.array([camera.size_px[0] - 1, 0]) + points.pixel * [-1, 1]
    found = match_view(replace(points, pixel=pixel), beads, camera.mirrored(), settings)
    if not found or (best is not None and found[0].cost > best.cost - BETTER_COST):
        return None
    return Problem(
        f"{points.name} is mirrored: with its columns reversed it shows {len(found[0].matches)} beads of the jig, "
        f"as it is {len(best.matches) if best else 'none'}.",
        MIRRORED_REMEDY,
    )


def failure(points: BeadPoints, beads: Beads, camera: Camera, settings: MatchSettings) -> Problem:
    """Say why no pose explains the points of a view."""
    if len(points) < settings.least_beads:
        return Problem(
            f"{points.name} shows {len(points)} beads, but a pose needs at least {settings.least_beads}.",
            "Take it again with the whole jig in the field of view, or add the beads by hand.",
        )
    reasons = (mirrored_problem(points, beads, camera, settings, None), _unit_problem(points, beads, camera, settings))
    reason = next((one for one in reasons if one), None) or zoom_problem(points, beads, camera, settings)
    return reason or Problem(
        f"No pose explains the {len(points)} points found in {points.name}.",
        NO_POSE_REMEDY,
    )


def _unit_problem(points: BeadPoints, beads: Beads, camera: Camera, settings: MatchSettings) -> Problem | None:
    """Return a problem if the beads would fit in another unit."""
    for unit, factor in UNIT_FACTORS.items():
        if match_view(points, replace(beads, position_lps_mm=factor * beads.position_lps_mm), camera, settings):
            return Problem(f"The beads fit {points.name} only if their coordinates are {unit}.", "Give them in millimeters (LPS).")
    return None


def zoom_problem(points: BeadPoints, beads: Beads, camera: Camera, settings: MatchSettings, most_rms_px: float = np.inf) -> Problem | None:
    """Return a problem if the beads fit, to an RMS, with another focal length or principal point."""
    loose = replace(settings, inlier_px=6 * settings.inlier_px, search_share=2 * settings.search_share)
    free = BundleSettings(focal_tolerance=1.0, principal_point_tolerance_px=camera.half_diagonal_px)
    for zoom in ZOOMS:
        zoomed = replace(camera, source_to_detector_mm=zoom * camera.source_to_detector_mm)
        for found in match_view(points, beads, zoomed, loose)[:1]:
            bead, point = found.matches.T
            seen = Observations(np.zeros(len(bead), int), bead, points.pixel[point])
            fitted = bundle_adjust(Bundle(zoomed, found.camera_from_lps[None], beads.position_lps_mm), seen, free)
            again = refine_match(fitted.poses[0], points, beads, fitted.camera, settings)
            ratio = fitted.camera.source_to_detector_mm / camera.source_to_detector_mm
            shift = np.linalg.norm(np.subtract(fitted.camera.principal_point_px, camera.principal_point_px)) / camera.half_diagonal_px
            noticed = abs(ratio - 1) > ZOOM_NOTICED or shift > SHIFT_NOTICED
            fits = len(again.matches) >= 8 and is_enough(again, points, beads, settings) and again.rms_px <= most_rms_px
            if noticed and shift <= MOST_SHIFT and fits:
                return Problem(
                    f"{points.name} looks cropped or zoomed: its beads fit a pixel pitch of {camera.pixel_pitch_mm[0] / ratio:.3g} mm "
                    f"instead of {camera.pixel_pitch_mm[0]:.3g} mm and a center moved by {shift * camera.half_diagonal_px:.0f} pixels.",
                    "Export the whole image as it was taken, with its own pixel pitch and source-detector distance.",
                )
    return None
