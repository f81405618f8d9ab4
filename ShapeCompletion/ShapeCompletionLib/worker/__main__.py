"""The worker of the module ShapeCompletion: `python -m ShapeCompletionLib.worker` serves `complete`, `warmup` and `ping`."""

from __future__ import annotations

import sys
from pathlib import Path

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.worker import Job, serve


def complete(job: Job) -> dict[str, Path]:
    """Complete label `label` of the file `segmentation` into the folder `out`.

    `prior` is a name, a path or null; `config` as `config_to_json` gives it; `planes` such as ["k:10", "k:18"], found if left out;
    `compressed` tells whether the files are, which takes longer.
    """
    from ShapeCompletionLib.core.config_check import config_from_json
    from ShapeCompletionLib.core.pipeline import complete_file
    from ShapeCompletionLib.core.planes import planes_from_text
    from SparseAnatomyLib.provenance import result_warnings

    segmentation, out = Path(job.text("segmentation")), Path(job.text("out"))
    label, names = job.payload.get("label", 1), job.payload.get("planes")
    if not (isinstance(label, int) and not isinstance(label, bool)):
        raise InputError("The request does not say its label.", "Give the number of the structure as label.")
    if not (names is None or isinstance(names, list)):
        raise InputError("The request does not say its planes.", 'Give them as a list, such as ["k:10", "k:18"].')
    planes = None if names is None else planes_from_text(names)
    config = config_from_json(job.payload.get("config", {}))
    paths = complete_file(segmentation, out, _prior(job), label, config, job.report, planes, bool(job.payload.get("compressed", True)))
    for warning in result_warnings(paths):
        job.warn(warning)
    return paths


def warmup(job: Job) -> dict[str, Path]:
    """Import torch, load the prior `prior` where one is named, and compute once."""
    from ShapeCompletionLib.core.pipeline import warm_up

    warm_up(_prior(job), job.report)
    return {}


def ping(job: Job) -> dict[str, Path]:
    """Answer."""
    return {}


def _prior(job: Job) -> str | None:
    return None if job.payload.get("prior") is None else job.text("prior")


if __name__ == "__main__":
    sys.exit(serve({"complete": complete, "warmup": warmup, "ping": ping}))
