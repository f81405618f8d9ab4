"""From CTs to a standardizer: views are simulated once and kept, the training goes on where it was, the card says what it learned from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from IntraopReconLib.core.reconstruction import Report
from IntraopReconLib.core.training_config import StandardizerTraining
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.provenance import sha256
from SparseAnatomyLib.volume_files import SUFFIXES, name_of
from SparseAnatomyLib.work_device import WorkDevice

from .measured_pairs import measured_views
from .network import NetworkStandardizer, StandardizerCard
from .pairs import SPACING_MM, VIEW_PX, TrainingView, training_views
from .train import train

_PROJECTING_SHARE = 0.2  # of the time


@dataclass(frozen=True)
class TrainingInfo:
    """What the card says besides what is known from the training."""

    trained_on: str
    licence: str
    command: str


def find_cts(folder: Path, held_out: tuple[str, ...] = ()) -> list[Path]:
    """Return the CTs of a folder by name, but those held out; label volumes, named `…_labels`, are no CTs.

    Raises:
        InputError: There is no such folder, nothing in it, two CTs of one name, or no file of a name that is held out.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Name the folder that holds the CTs.")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES)):
        name = name_of(path)
        if name.endswith("_labels"):
            continue
        if name in found:
            raise InputError(f"{folder} holds two CTs called {name}: {found[name].name} and {path.name}.", "Rename or remove one of them.")
        found[name] = path
    for name in held_out:
        if name not in found:
            raise InputError(f"There is no CT {name} in {folder} to hold out.", f"The CTs are: {', '.join(found) or 'none'}.")
    kept = [path for name, path in found.items() if name not in held_out]
    if not kept:
        raise InputError(f"{folder} holds no CT to train on.", f"CTs are files that end with {', '.join(SUFFIXES)}.")
    return kept


def train_standardizer(
    cts: list[Path],
    out: Path,
    info: TrainingInfo,
    training: StandardizerTraining,
    report: Report,
    pairs: Path | None = None,
    device: WorkDevice | None = None,
) -> Path:
    """Train a standardizer; a run that was killed goes on from `OUT.training/`.

    Args:
        cts: CTs in Hounsfield units, a patient each.
        out: The weights' file, ending with `.pt`; its card comes beside it.
        info: For the card.
        training: How.
        report: Told the fraction done.
        pairs: Folder of measured pairs, as `measured_views` reads it.
        device: Where the networks are trained; the CPU by default.

    Returns:
        The weights' file.

    Raises:
        InputError: A CT or a pair will not do.
        Cancelled: From `report`; what is done is kept.
    """
    folder = out.with_suffix(".training")
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {path.name: sha256(path) for path in cts}
    views = {} if pairs is None else {"measured pairs": measured_views(pairs)}
    for number, path in enumerate(cts):

        def report_views(fraction: float, message: str, preview: object = None, number: int = number) -> None:
            report(_PROJECTING_SHARE * (number + fraction) / len(cts), message)

        views[path.name] = _kept_views(path, hashes[path.name], folder, training, report_views)

    def report_steps(fraction: float, message: str, preview: object = None) -> None:
        report(_PROJECTING_SHARE + (1 - _PROJECTING_SHARE) * fraction, message)

    run = train(views, training, folder, report_steps, device)
    card = StandardizerCard(
        out.stem, info.trained_on, info.licence, "", round(run.cpu_s, 1), run.step, info.command, training.to_json(), hashes
    )
    path = NetworkStandardizer(run.average.cpu(), card).save(out)
    shutil.rmtree(folder, ignore_errors=True)
    return path


def _kept_views(path: Path, digest: str, folder: Path, training: StandardizerTraining, report: Report) -> list[TrainingView]:
    """Return the views of a CT, from the training's folder where they are there."""
    kept = folder / f"views_{digest[:16]}_{training.views}_{training.seed}_{VIEW_PX}_{SPACING_MM:g}.npz"
    if not kept.exists():
        views = training_views(path, training.views, training.seed, report)
        arrays = {"integrals": np.stack([view.integrals for view in views]), "pixel_mm": np.array([view.pixel_mm for view in views])}
        partial = kept.with_name(f"{kept.stem}.partial.npz")
        np.savez(partial, **arrays)
        partial.replace(kept)
    with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        integrals, pitches = file["integrals"], file["pixel_mm"]
    return [TrainingView(each, float(pitch)) for each, pitch in zip(integrals, pitches, strict=True)]
