"""The worker of the module IntraopRecon: `python -m IntraopReconLib.worker` serves what it has handlers for."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from IntraopReconLib.worker.preparation import calibrate, describe, import_poses, names, preview_standardization, standardize
from IntraopReconLib.worker.results import RESULTS
from SparseAnatomyLib.worker import Job, serve

PREPARATION = {"describe": describe, "calibrate": calibrate, "import_poses": import_poses, "standardize": standardize}
PREPARATION["preview_standardization"] = preview_standardization


def reconstruct(job: Job) -> dict[str, Path]:
    """Reconstruct the case folder `case` into the folder `out` with the settings `config` (see `ReconstructionConfig.to_json`).

    `skipped` holds the names of X-rays that are left out. In the folder `scene`, where one is named, the result is laid ready for a scene.
    """
    from IntraopReconLib.core.config_check import config_from_json
    from IntraopReconLib.core.pipeline import job_folder, reconstruct_case
    from IntraopReconLib.core.scene_files import write_scene_files
    from SparseAnatomyLib.provenance import result_warnings
    from SparseAnatomyLib.volumes import write_volume

    case, out = Path(job.text("case")), Path(job.text("out"))
    job.log_file = job_folder(out) / "log.txt"
    numbers = count(1)

    def report(fraction, message, preview=None):
        job.report(fraction, message)
        if preview is not None:
            path = job_folder(out) / f"preview_{next(numbers):03d}.nrrd"  # a new name each: the host may still read the last one
            write_volume(path, *preview, compressed=False)
            job.preview(path)

    paths = reconstruct_case(case, out, config_from_json(job.payload.get("config", {})), report, names(job, "skipped"))
    for warning in result_warnings(paths):
        job.warn(warning)
    if not job.payload.get("scene"):
        return paths
    job.report(1.0, "Loading the result")
    return {**paths, **write_scene_files(out, Path(job.text("scene")))}


def warmup(job: Job) -> dict[str, Path]:
    """Import torch and compile the kernels, so that the first reconstruction starts at once."""
    job.report(0.0, "Loading the reconstruction")
    from IntraopReconLib.core.pipeline import reconstruct_case  # noqa: F401  (imports torch)
    from IntraopReconLib.core.splatting.projector import prepare

    job.report(0.5, "Preparing the kernels")
    prepare()
    return {}


def ping(job: Job) -> dict[str, Path]:
    """Answer."""
    return {}


if __name__ == "__main__":
    sys.exit(serve({**PREPARATION, **RESULTS, "reconstruct": reconstruct, "warmup": warmup, "ping": ping}))
