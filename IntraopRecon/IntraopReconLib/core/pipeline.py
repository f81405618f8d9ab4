"""From a case folder to a result folder: what the worker and the commands run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError
from SparseAnatomyLib.failures import is_disk_full, was_interrupted
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.staging import check_result_folder, only_writer

from .case import Case, load_case
from .config import ReconstructionConfig
from .config_check import check_config, voxel_count
from .reconstruct import reconstruct
from .reconstruction import Report
from .result import write_result
from .standardization_config import StandardizationConfig
from .standardized_case import standardized_case

_CHECKPOINT = "checkpoint"
_FINGERPRINT = "inputs.sha256"
_BYTES_PER_VOXEL = 56  # two volumes, the old and the new, and the checkpoint, the last and the next
_BYTES_BESIDES = 50_000_000  # mesh, pictures, report
_STANDARDIZED = 0.15  # of the work, where X-rays are standardized
_KEEPS_CHECKPOINT = (Cancelled, ResourceError, MemoryError)


def reconstruct_case(case: Path, out: Path, config: ReconstructionConfig, report: Report, skipped: Collection[str] = ()) -> dict[str, Path]:
    """Reconstruct a case folder into a result folder.

    While it runs, `out/job.partial` holds its checkpoint. A run that was killed or cancelled leaves it there, and the next run of the
    same X-rays with the same settings goes on from it; any other run throws it away.

    Args:
        case: A case folder.
        out: The result folder; made where needed. A result that is there stays until the new one is complete.
        config: The settings.
        report: Told about the progress; may raise Cancelled.
        skipped: Names of X-rays that the user leaves out.

    Returns:
        The files of the result by name, as `write_result`.

    Raises:
        InputError: The case, the settings or the folder will not do.
        ResourceError: Memory or disk will not do.
        Cancelled: From `report`.
    """
    case, out = Path(case), Path(out)
    check_config(config)
    _check_out(case, out, config)
    report(0.0, "Reading the X-rays")
    standardization = StandardizationConfig(device=config.device)
    loaded = standardized_case(load_case(case, skipped), config.standardize, standardization, _part(report, 0.02, _STANDARDIZED))
    begun = _STANDARDIZED if loaded.standardization.decision.applies else 0.02
    with _checkpoint_folder(out, _fingerprint(loaded, config)) as checkpoint:
        reconstruction = reconstruct(loaded.views, config, _part(report, begun, 0.95), checkpoint)
        report(0.96, "Writing the result")
        paths = write_result(out, reconstruction, loaded)
    report(1.0, "Done")
    return paths


def job_folder(out: Path) -> Path:
    """Return the folder for what a running job leaves beside its result: checkpoint, previews, and the log of an internal error."""
    return Path(out) / "job.partial"


def _check_out(case: Path, out: Path, config: ReconstructionConfig) -> None:
    """Refuse a result folder that cannot take the result, before anything is computed or made."""
    xrays, target = (Path(os.path.realpath(path)) for path in (case / "xrays", out))  # unlike Path.resolve it bears links in a circle
    if target == xrays or xrays in target.parents:
        raise InputError(f"The result folder {out} lies among the X-rays of the case.", "Choose a folder outside xrays.")
    check_result_folder(out, voxel_count(config) * _BYTES_PER_VOXEL + _BYTES_BESIDES)


def _part(report: Report, start: float, end: float) -> Report:
    """Return the report of a step that is the work from `start` to `end`."""

    def report_part(fraction: float, message: str, preview: tuple[np.ndarray, VoxelGrid] | None = None) -> None:
        report(start + (end - start) * fraction, message, preview)

    return report_part


def _fingerprint(case: Case, config: ReconstructionConfig) -> str:
    values = {"inputs": dict(case.input_hashes), "views": [view.name for view in case.views], "config": config.to_json()}
    done = case.standardization
    values["standardized"] = [(one.used, done.chosen.weights_sha256) for one in done.views]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextmanager
def _checkpoint_folder(out: Path, fingerprint: str) -> Iterator[Path]:
    """Give the folder for checkpoints of these inputs; it vanishes when the job is done, or when it may be to blame for a failure."""
    job = job_folder(out)
    is_new = not os.path.exists(out)  # of a path too long for a file system, Path.exists raises an OSError
    with ExitStack() as held:
        try:
            held.enter_context(only_writer(out))
            checkpoint = _prepare(job, fingerprint)
        except OSError as error:
            if is_disk_full(error):
                raise _disk_full(out) from error
            raise InputError(f"{out} cannot be written to: {error.strerror}.", "Choose a result folder that you may write to.") from error
        try:
            yield checkpoint
        except BaseException as error:
            if is_disk_full(error):
                raise _disk_full(out) from error
            if not (isinstance(error, _KEEPS_CHECKPOINT) or was_interrupted(error)):
                shutil.rmtree(out if is_new else job, ignore_errors=True)
            raise
        shutil.rmtree(job, ignore_errors=True)


def _disk_full(out: Path) -> ResourceError:
    remedy = "Free some space or choose a result folder on another disk, then run it again."
    return ResourceError(f"The disk is full while writing to {out}.", remedy)


def _prepare(job: Path, fingerprint: str) -> Path:
    """Make the job's folder, empty unless it is of the same inputs, and return that for checkpoints."""
    mark = job / _FINGERPRINT
    if not (mark.is_file() and mark.read_text(encoding="utf-8", errors="replace") == fingerprint):
        shutil.rmtree(job, ignore_errors=True)
    checkpoint = job / _CHECKPOINT
    checkpoint.mkdir(parents=True, exist_ok=True)
    partial = mark.with_name(f"{_FINGERPRINT}.partial")
    partial.write_text(fingerprint, encoding="utf-8")
    os.replace(partial, mark)
    return checkpoint
