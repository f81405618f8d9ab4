"""The worker of the module IntraopRecon: `python -m IntraopReconLib.worker` serves `reconstruct`, `calibrate`, `warmup` and `ping`."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from SparseAnatomyLib.worker import Job, serve


def reconstruct(job: Job) -> dict[str, Path]:
    """Reconstruct the case folder `case` into the folder `out` with the settings `config` (see `ReconstructionConfig.to_json`).

    `skipped` holds the names of X-rays that are left out.
    """
    from IntraopReconLib.core.config_check import config_from_json
    from IntraopReconLib.core.pipeline import job_folder, reconstruct_case
    from SparseAnatomyLib.provenance import result_warnings
    from SparseAnatomyLib.volumes import write_volume

    case, out = Path(job.text("case")), Path(job.text("out"))
    job.log_file = job_folder(out) / "log.txt"
    numbers = count(1)

    def report(fraction, message, preview=None):
        job.report(fraction, message)
        if preview is not None:
            path = job_folder(out) / f"preview_{next(numbers):03d}.nrrd"  # a new name each: the host may still read the last one
            write_volume(path, *preview)
            job.preview(path)

    paths = reconstruct_case(case, out, config_from_json(job.payload.get("config", {})), report, _names(job, "skipped"))
    for warning in result_warnings(paths):
        job.warn(warning)
    return paths


def calibrate(job: Job) -> dict[str, Path]:
    """Calibrate the case folder `case`; `fiducials`, `intrinsics`, `distortion` (paths) and `known_distance_mm` may come along."""
    from IntraopReconLib.core.calibrate_case import CalibrationFiles, calibrate_case
    from SparseAnatomyLib.errors import InputError

    case = Path(job.text("case"))
    paths = {name: Path(job.text(name)) for name in ("fiducials", "intrinsics", "distortion") if job.payload.get(name) is not None}
    distance = job.payload.get("known_distance_mm")
    if isinstance(distance, bool) or not isinstance(distance, int | float | None):
        raise InputError("The known distance is not a number.", "Give it in mm.")
    found = calibrate_case(case, CalibrationFiles(**paths, known_distance_mm=distance), lambda done, what, _=None: job.report(done, what))
    for warning in found.warnings:
        job.warn(warning)
    return found.paths


def warmup(job: Job) -> dict[str, Path]:
    """Import torch and compile the kernels, so that the first reconstruction starts at once."""
    job.report(0.0, "Loading the reconstruction")
    from IntraopReconLib.core.pipeline import reconstruct_case  # noqa: F401  (imports torch)
    from IntraopReconLib.core.splatting.projector import warm_up

    job.report(0.5, "Preparing the kernels")
    warm_up()
    return {}


def ping(job: Job) -> dict[str, Path]:
    """Answer."""
    return {}


def _names(job: Job, name: str) -> list[str]:
    from SparseAnatomyLib.errors import InputError

    values = job.payload.get(name, [])
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise InputError(f"The request does not say its {name}.", f"Give a list of names as {name}.")
    return values


if __name__ == "__main__":
    sys.exit(serve({"reconstruct": reconstruct, "calibrate": calibrate, "warmup": warmup, "ping": ping}))
