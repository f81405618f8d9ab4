"""From a segmentation file to a result folder: what the worker and the commands run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.context_check import check_context
from ShapeCompletionLib.core.layouts import SliceLayout, outline
from ShapeCompletionLib.core.planes import Plane
from ShapeCompletionLib.core.prior_card import priors_folder
from ShapeCompletionLib.core.result import FILES, check_not_foreign, write_completion
from ShapeCompletionLib.core.sampling import MAX_VOXELS, Context, context_from_labels
from ShapeCompletionLib.core.segmentation_file import read_segmentation
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.provenance import sha256
from SparseAnatomyLib.staging import check_result_folder
from SparseAnatomyLib.volume_files import voxel_file

if TYPE_CHECKING:
    from ShapeCompletionLib.core.prior import Prior

Report = Callable[[float, str], None]
_NEEDED_BYTES = MAX_VOXELS * 3 // 2  # of a large result, compressed
_MOST_CACHED = 4
_priors: dict[tuple[Path, int, int], Prior] = {}  # by file, its time of change and that of its card: a worker loads each once


def complete_file(
    segmentation: Path,
    out: Path,
    prior_name: str | None,
    label: int,
    config: CompletionConfig,
    report: Report,
    planes: Sequence[Plane] | None = None,
    compressed: bool = True,
) -> dict[str, Path]:
    """Complete the structure of a segmentation file into a result folder.

    Args:
        segmentation: Label volume; never changed.
        out: The result folder; a result that is there stays until the new one is complete.
        prior_name: Of a prior that ships, or the path of one; None for none.
        label: Value of the structure's voxels.
        config: The settings.
        report: Told about the progress; may raise Cancelled.
        planes: The planes that were outlined; found by default.
        compressed: Whether the files of the result are: not where they are read again at once.

    Returns:
        The files of the result by name, as `write_completion`.

    Raises:
        InputError: The segmentation, the prior or the folder will not do.
        ResourceError: Memory or disk will not do.
        Cancelled: From `report`.
    """
    segmentation, out = Path(segmentation), Path(out)
    if os.path.realpath(segmentation) in [os.path.realpath(out / name) for name in FILES.values()]:
        raise InputError(f"The result would overwrite the segmentation {segmentation}.", "Choose another result folder.")
    check_result_folder(out, _NEEDED_BYTES)
    check_not_foreign(out)
    report(0.0, "Reading the segmentation")
    started = time.perf_counter()
    labels, grid = read_segmentation(segmentation, label)
    context = context_from_labels(labels, grid, planes, config.spacing_mm)
    context = replace(context, warnings=check_context(context))  # before anything is loaded
    seconds = {"segmentation file": time.perf_counter() - started}
    hashes = {"segmentation": sha256(segmentation)}
    if voxels := voxel_file(segmentation):
        hashes["segmentation voxels"] = sha256(voxels)
    prior = None
    if prior_name is not None and config.method != "interpolate":
        report(0.1, "Loading the prior")
        started = time.perf_counter()
        prior = cached_prior(prior_name)
        seconds["prior file"] = time.perf_counter() - started
        hashes["prior"] = prior.card.sha256
    from ShapeCompletionLib.core.complete import complete

    completion = complete(context, prior, config, lambda fraction, message: report(0.15 + 0.75 * fraction, message))
    completion = replace(completion, seconds={**seconds, **completion.seconds})
    report(0.9, "Writing the result")
    provenance = {"inputs_sha256": hashes, "label": label, "planes": None if planes is None else [str(plane) for plane in planes]}
    paths = write_completion(out, completion, context, config, provenance, compressed)
    report(1.0, "Done")
    return paths


def cached_prior(name_or_path: str) -> Prior:
    """Return a prior, loaded again only if its file has changed.

    Raises:
        InputError: As `load_prior`.
    """
    from ShapeCompletionLib.core.prior import load_prior

    path = Path(name_or_path) if str(name_or_path).endswith(".pt") else priors_folder() / f"{name_or_path}.pt"
    try:
        stats = [file.stat() for file in (path, path.with_suffix(".json"))]
    except OSError:
        return load_prior(name_or_path)  # says what is wrong
    key = (path.resolve(), *(stat.st_mtime_ns for stat in stats))
    if key not in _priors:
        _priors[key] = load_prior(name_or_path)
        while len(_priors) > _MOST_CACHED:
            del _priors[next(iter(_priors))]
    return _priors[key]


def warm_up(prior_name: str | None, report: Report) -> None:
    """Import torch, load the prior, try a graphics card and complete a small ball: the first completion is then as fast as the later ones.

    Raises:
        InputError: The prior cannot be loaded.
    """
    report(0.0, "Loading the completion")
    from ShapeCompletionLib.core.complete import complete
    from ShapeCompletionLib.core.device import choose_device

    prior = None if prior_name is None else cached_prior(prior_name)
    choose_device(CompletionConfig().device, lambda message: report(0.3, message))
    report(0.5, "Preparing the completion")
    grid = VoxelGrid.box(np.zeros(3), np.full(3, 48.0), 2.0)
    slices = outline(SliceLayout("axial", 8.0), np.zeros(3), grid.extent_mm, lambda points: 16 - np.linalg.norm(points, axis=-1))
    complete(Context(slices, grid), prior, CompletionConfig())
    report(1.0, "Ready")
