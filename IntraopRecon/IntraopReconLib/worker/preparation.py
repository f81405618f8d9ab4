"""What the worker does before a reconstruction: it takes X-rays in, describes them, and finds or reads their poses."""

from __future__ import annotations

from pathlib import Path

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.worker import Job


def describe(job: Job) -> dict[str, Path]:
    """Describe the X-rays of `sources` (files and folders) in the new folder `out`; a case for them is made in `cases` where needed."""
    from IntraopReconLib.core.collect import collect_case
    from IntraopReconLib.core.describe import describe_case

    case, warnings = collect_case([Path(name) for name in names(job, "sources")], Path(job.text("cases")), _part(job, 0.0, 0.5))
    for warning in warnings:
        job.warn(warning)
    return {"case": case, **describe_case(case, Path(job.text("out")), _part(job, 0.5, 1.0))}


def calibrate(job: Job) -> dict[str, Path]:
    """Calibrate the case folder `case`.

    `fiducials`, `intrinsics`, `distortion` (paths) and `known_distance_mm` may come along; `jig` holds points (x, y, z, label) in LPS mm
    instead of fiducials, and `beads` what was placed by hand (see `core.calibrate_edits`).
    """
    from IntraopReconLib.core.calibrate_case import CalibrationFiles, calibrate_case
    from IntraopReconLib.core.calibrate_edits import place_beads, write_jig

    case = Path(job.text("case"))
    paths = {name: Path(job.text(name)) for name in ("fiducials", "intrinsics", "distortion") if job.payload.get(name) is not None}
    distance, jig, beads = job.payload.get("known_distance_mm"), job.payload.get("jig"), job.payload.get("beads", {})
    if isinstance(distance, bool) or not isinstance(distance, int | float | None):
        raise InputError("The known distance is not a number.", "Give it in mm.")
    if not (isinstance(beads, dict) and isinstance(jig, list | None)):
        raise InputError("The request's beads are none.", "Give them by X-ray, and those of the jig as a list of points.")
    if jig is not None:
        paths["fiducials"] = write_jig(case, jig)
    place_beads(case, beads)
    found = calibrate_case(case, CalibrationFiles(**paths, known_distance_mm=distance), lambda done, what, _=None: job.report(done, what))
    for warning in found.warnings:
        job.warn(warning)
    return found.paths


def import_poses(job: Job) -> dict[str, Path]:
    """Take the poses of `files` for the case folder `case`; `coordinate_system`, `unit` and `rows_up` say what the files do not."""
    from IntraopReconLib.core.calibration_config import PoseFileSettings
    from IntraopReconLib.core.pose_exchange import import_into_case

    case, settings = Path(job.text("case")), {}
    for name in ("coordinate_system", "unit", "rows_up"):
        if name in job.payload:
            settings[name] = job.payload[name]
    job.report(0.0, "Reading the poses")
    _, warnings = import_into_case(case, [Path(name) for name in names(job, "files")], PoseFileSettings(**settings))
    for warning in warnings:
        job.warn(warning)
    return {"poses": case / "poses.json"}


def standardize(job: Job) -> dict[str, Path]:
    """Standardize the case folder `case` into the new folder `out`; `method` may say by what, `device` where (see `standardize_case`)."""
    from IntraopReconLib.core.standardize_case import standardize_case

    method, device = (job.payload.get(name, "auto") for name in ("method", "device"))
    done = standardize_case(Path(job.text("case")), Path(job.text("out")), method, _part(job, 0.0, 1.0), device=device)
    for warning in done.warnings:
        job.warn(warning)
    return done.paths


def preview_standardization(job: Job) -> dict[str, Path]:
    """Show in the new folder `out` what a standardization makes of the case folder `case`.

    `standardize` is auto, on or off; `skipped` holds the names of X-rays that are left out.
    """
    from IntraopReconLib.core.standardize_preview import preview_standardization

    asked, skipped = job.text("standardize"), names(job, "skipped")
    return preview_standardization(Path(job.text("case")), Path(job.text("out")), asked, skipped, _part(job, 0.0, 1.0))


def names(job: Job, field: str) -> list[str]:
    """Return a list of texts of the payload, empty where it is missing.

    Raises:
        InputError: It is something else.
    """
    values = job.payload.get(field, [])
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise InputError(f"The request does not say its {field}.", f"Give a list of names as {field}.")
    return values


def _part(job: Job, start: float, end: float):
    """Return the report of a step that is the work from `start` to `end`."""
    return lambda fraction, message, _=None: job.report(start + (end - start) * fraction, message)
