"""From the X-rays of a case folder to `poses.json`: the beads are found, the poses solved and graded, and a report says how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.provenance import sha256
from SparseAnatomyLib.staging import check_result_folder, write_together

from .calibrate_pictures import write_picture
from .calibrate_report import calibration_data, problems_in_words, render_calibration, view_sentences
from .calibration.calibration_file import DISTORTION_FILE, FILE, FOLDER
from .calibration.correspondence import Beads
from .calibration.distortion import Distortion, fit_distortion
from .calibration.distortion_file import read_distortion, write_distortion
from .calibration.fiducials import read_fiducials, write_fiducials
from .calibration.intrinsics import CameraGroup, camera_groups, read_intrinsics
from .calibration.jig_checks import check_jig
from .calibration.placed_beads import PlacedList, hand_file, placed_lists, record_placed_lists
from .calibration.poses import PosedImage, read_poses, write_poses
from .calibration.shots import Shot, poses_by_image, read_shot, view_keys
from .calibration.solve import Solution, find_unknown_beads, solve
from .calibration_config import CaseSettings
from .case import POSES_FILE, XRAYS_FOLDER, check_case_folder
from .reconstruction import Report, silent
from .xrays.dicom import read_radiographs
from .xrays.radiograph import Radiograph, attenuation

FIDUCIALS_FILE = "fiducials.mrk.json"
REPORT_FILE = "calibration.html"
_FOUND = "found in the X-rays"
_BYTES_PER_VIEW = 3_000_000  # of a picture
_READ, _FIND, _SOLVE, _WRITE = 0.02, 0.05, 0.6, 0.8  # where the stages begin


@dataclass(frozen=True)
class CalibrationFiles:
    """What a user brings along beside the X-rays.

    Attributes:
        fiducials: Markups of the jig's beads; `fiducials.mrk.json` of the case by default.
        intrinsics: See `read_intrinsics`; the X-rays' tags by default.
        distortion: Correction of the image intensifier, as `write_distortion` wrote it (.json), or the X-ray of a grid to fit it from.
        known_distance_mm: Longest distance between any two beads, for a jig whose beads nobody measured.
    """

    fiducials: Path | None = None
    intrinsics: Path | None = None
    distortion: Path | None = None
    known_distance_mm: float | None = None


@dataclass(frozen=True)
class CaseCalibration:
    """What came out.

    Attributes:
        paths: `poses`, `report_json`, `report_html`, and `fiducials` where they were found in the X-rays.
        grades: Number of X-rays by grade.
        without_pose: How many of the red ones have no pose.
        warnings: Sentences with remedies.
    """

    paths: dict[str, Path]
    grades: dict[str, int]
    without_pose: int
    warnings: list[str]


def calibrate_case(
    case: Path, files: CalibrationFiles | None = None, report: Report = silent, settings: CaseSettings | None = None
) -> CaseCalibration:
    """Find the poses of a case's X-rays from the beads in them; write `poses.json` and the folder `calibration`.

    X-rays without a pose are left out of `poses.json`; red ones are written, and the reconstruction leaves them out. An `air_intensity`
    that stood there before is kept. Beads placed by hand go before those detected (see `shots`).

    Args:
        case: Case folder with `xrays/`.
        files: What else is known.
        report: Told about the progress.
        settings: Tolerances.

    Raises:
        InputError: A file will not do, or no X-ray has a pose; `poses.json` stays as it was, the report says why.
        ResourceError: The disk is full.
        Cancelled: From `report`.
    """
    case, files, settings = Path(case), files or CalibrationFiles(), settings or CaseSettings()
    report(0.0, "Reading the X-rays")
    _check_folder(case)
    known_beads = _known_beads(case, files)
    if known_beads is not None:
        check_jig(known_beads, settings.calibration.match)  # before the X-rays are looked at, which takes longer
    intrinsics = read_intrinsics(files.intrinsics) if files.intrinsics else None
    radiographs = read_radiographs(case / XRAYS_FOLDER, case)
    check_result_folder(case / FOLDER, _BYTES_PER_VIEW * len(radiographs))
    groups, differing = camera_groups(radiographs, intrinsics, settings)
    distortion = _distortion(files, groups)
    earlier, notes = _earlier_poses(case)
    known = poses_by_image(earlier)
    keys = view_keys(radiographs)
    placed, stale = _placed_by_hand(case / FOLDER, dict(zip(keys, radiographs, strict=True)))
    shots = []
    for number, (radiograph, key) in enumerate(zip(radiographs, keys, strict=True)):
        report(_FIND + (_SOLVE - _FIND) * number / len(radiographs), f"Finding the beads in {radiograph.name}")
        if number in differing:
            shots.append(Shot(radiograph, key, None, problem=differing[number]))
            continue
        entry = known.get((radiograph.image, radiograph.frame))
        shots.append(read_shot(radiograph, key, entry, placed[key].path if key in placed else None, settings.beads))
    report(_SOLVE, "Finding the poses")
    solution = _solved(shots, groups, known_beads, (files.known_distance_mm, distortion, settings))
    report(_WRITE, "Drawing the X-rays")
    origin = {
        "jig": _FOUND if solution.unknown else f"from {(files.fiducials or Path(FIDUCIALS_FILE)).name}",
        "known_distance_mm": files.known_distance_mm if solution.unknown else None,
        "inputs_sha256": _hashes(case, files, shots),
        "notes": notes + stale + _notes(solution, shots, files),
    }
    data = calibration_data(solution, groups, distortion, settings, origin)
    _write_report(case / FOLDER, data, solution, distortion, report)
    return _finish(case, data, solution, known)


def _finish(case: Path, data: dict[str, Any], solution: Solution, known: dict) -> CaseCalibration:
    """Write the poses, if there are any, and the beads, if nobody knew them."""
    posed = _posed_images(solution, known)
    if not posed:
        reasons = problems_in_words([*solution.problems, *(problem for one in solution.shots for problem in one.problems)])
        raise InputError(f"No X-ray of {case.name} could be calibrated. {reasons}", f"Look at {case / FOLDER / REPORT_FILE}.")
    names = [POSES_FILE, *([FIDUCIALS_FILE] if solution.unknown else [])]

    def write(folder: Path) -> None:
        write_poses(folder / POSES_FILE, posed)
        if solution.unknown:
            write_fiducials(folder / FIDUCIALS_FILE, solution.beads)

    write_together(case, names, write)
    paths = {"poses": case / POSES_FILE, "report_json": case / FOLDER / FILE, "report_html": case / FOLDER / REPORT_FILE}
    if solution.unknown:
        paths["fiducials"] = case / FIDUCIALS_FILE
    return CaseCalibration(paths, data["grades"], data["without_pose"], view_sentences(data))


def _check_folder(case: Path) -> None:
    check_case_folder(case)
    if not (case / XRAYS_FOLDER).is_dir():
        raise InputError(f"{case.name or case} has no folder {XRAYS_FOLDER}.", f"Put the X-rays (DICOM) into its folder {XRAYS_FOLDER}.")


def _known_beads(case: Path, files: CalibrationFiles) -> Beads | None:
    """Return the beads of the jig; None where the case has no file of them."""
    if files.fiducials is not None:
        return read_fiducials(files.fiducials)
    path = case / FIDUCIALS_FILE
    return read_fiducials(path) if path.exists() else None


def _distortion(files: CalibrationFiles, groups: Sequence[CameraGroup]) -> Distortion | None:
    if files.distortion is None:
        return None
    if files.distortion.suffix.lower() == ".json":
        distortion = read_distortion(files.distortion)
    else:
        grid = read_radiographs(files.distortion)[0]
        image = attenuation(grid)
        distortion = fit_distortion(image.attenuation, image.mask, grid.name)
    size = groups[0].camera.size_px
    if distortion.size_px != size:
        raise InputError(
            f"{files.distortion.name} is for images of {distortion.size_px[0]} × {distortion.size_px[1]} pixels, the X-rays have "
            f"{size[0]} × {size[1]}.",
            "Use the X-ray of the grid from the same C-arm at the same magnification, neither cropped nor resampled.",
        )
    return distortion


def _earlier_poses(case: Path) -> tuple[list[PosedImage], list[str]]:
    """Return the poses that the case had, and a sentence if they cannot be read."""
    if not (case / POSES_FILE).exists():
        return [], []
    try:
        return read_poses(case / POSES_FILE), []
    except InputError as error:
        return [], [f"The earlier {POSES_FILE} was not used and is replaced: {error.message}"]


def _placed_by_hand(folder: Path, radiographs: Mapping[str, Radiograph]) -> tuple[dict[str, PlacedList], list[str]]:
    """Return the lists of beads placed by hand that count, by key, and a sentence for each that was made for another X-ray.

    They are written down at once: even if no pose is found, they belong to these X-rays.
    """
    lists = placed_lists(folder, {key: radiograph.path for key, radiograph in radiographs.items()})
    if lists:
        record_placed_lists(folder, lists.values())
    stale = [
        f"{radiographs[key].name} has changed since beads were placed in it by hand, so they were not used. Place them again if beads are "
        f"missed, or remove {FOLDER}/{one.path.name}."
        for key, one in lists.items()
        if one.is_stale
    ]
    return {key: one for key, one in lists.items() if not one.is_stale}, stale


def _solved(
    shots: Sequence[Shot],
    groups: Sequence[CameraGroup],
    beads: Beads | None,
    known: tuple[float | None, Distortion | None, CaseSettings],
) -> Solution:
    distance, distortion, settings = known
    if beads is not None:
        return solve(shots, groups, beads, distortion, settings)
    unknown = find_unknown_beads(shots, groups[0], distance, distortion, settings)
    return solve(shots, groups, unknown.beads, distortion, settings, unknown)


def _notes(solution: Solution, shots: Sequence[Shot], files: CalibrationFiles) -> list[str]:
    """Return what the user should know about how the poses came about."""
    notes = []
    if solution.unknown:
        notes.append(
            f"The beads of the jig were found in the X-rays; scale and poses rest on {files.known_distance_mm:g} mm between the two "
            "beads that are furthest apart. Measure another distance to check."
        )
        if any(shot.prior is None for shot in shots):
            notes.append("The X-rays do not tell their directions, so the first one was taken for a frontal view, head up.")
    elif files.known_distance_mm is not None:
        notes.append("The known distance was not used, because the coordinates of the beads are there.")
    return notes


def _hashes(case: Path, files: CalibrationFiles, shots: Sequence[Shot]) -> dict[str, str]:
    """Return the checksums of all inputs: files of the case by their path in it, others by their name."""
    paths = {shot.radiograph.image: shot.radiograph.path for shot in shots}
    paths |= {f"{FOLDER}/{hand_file(shot.key)}": case / FOLDER / hand_file(shot.key) for shot in shots if shot.by_hand}
    extra = [files.fiducials or case / FIDUCIALS_FILE, files.intrinsics, files.distortion]
    paths |= {path.name: path for path in extra if path is not None and path.exists()}
    return {name: sha256(path) for name, path in paths.items()}


def _posed_images(solution: Solution, known: dict) -> list[PosedImage]:
    """Return the entries of `poses.json`."""
    posed = []
    for one in solution.shots:
        if one.calibrated is None or one.calibrated.view is None:
            continue
        image, frame = one.shot.radiograph.image, one.shot.radiograph.frame
        earlier = known.get((image, frame))
        air = earlier.air_intensity if earlier else None
        posed.append(PosedImage(image, one.calibrated.view, frame, air, one.calibrated.hypotheses[0].rms_px, one.grade))
    return posed


def _write_report(folder: Path, data: dict[str, Any], solution: Solution, distortion: Distortion | None, report: Report) -> None:
    """Write the folder `calibration`, all of it or nothing; pictures of an earlier calibration go."""
    pictures = [view["picture"] for view in data["views"]]
    names = [*pictures, FILE, REPORT_FILE, *([DISTORTION_FILE] if distortion is not None else [])]
    old = _earlier_pictures(folder)

    def write(staging: Path) -> None:
        for number, (solved, view) in enumerate(zip(solution.shots, data["views"], strict=True)):
            report(_WRITE + (1 - _WRITE) * number / len(pictures), f"Drawing {view['name']}")
            write_picture(staging / view["picture"], solved, view)
        (staging / FILE).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (staging / REPORT_FILE).write_text(render_calibration(data), encoding="utf-8")
        if distortion is not None:
            write_distortion(staging / DISTORTION_FILE, distortion)

    write_together(folder, names, write, sorted((old - set(pictures)) | ({DISTORTION_FILE} - set(names))))


def _earlier_pictures(folder: Path) -> set[str]:
    """Return the pictures that an earlier calibration left."""
    try:
        views = json.loads((folder / FILE).read_text(encoding="utf-8"))["views"]
        names = {Path(str(view["picture"])).name for view in views}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()
    return {name for name in names if name.endswith(".png")}
