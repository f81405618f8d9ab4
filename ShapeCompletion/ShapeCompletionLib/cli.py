"""The commands `shape-completion ...`: arguments to core, a progress bar, an exit code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ShapeCompletionLib.core.config import CompletionConfig, Device, EvaluationConfig, Method, TrainingConfig
from ShapeCompletionLib.core.prior_card import EXTENT_RANGE_MM
from SparseAnatomyLib.commandline import progress_bar, run_command
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.staging import check_result_folder

_COMPLETION = CompletionConfig()
_TRAINING = TrainingConfig()
_PRIOR_BYTES, _FIGURES_BYTES = 100e6, 1e6  # with the checkpoints of its training


@dataclass(frozen=True)
class Demo:
    """Complete the bundled sample from a few of its slices, measure it against the whole, and make the Slicer scene with pictures."""

    out: Path = Path("demo-output/vertebra")
    """Where everything goes."""

    def run(self) -> None:
        """Run it."""
        from ShapeCompletionLib.demo import run_demo

        run_demo(self.out)


@dataclass(frozen=True)
class Complete:
    """Complete a structure that is outlined on a few slices of a segmentation."""

    segmentation: tyro.conf.Positional[Path]
    """Label volume or Slicer segmentation (NRRD, NIfTI, MetaImage); outlined slices may lie along any axes of it."""
    out: Path
    """The result folder: shape, probability, surface with confidence, and report."""
    prior: str | None = None
    """Name of a prior that ships, such as vertebra, or the path of one (.pt); without one the slices are interpolated."""
    label: int = 1
    """Value of the structure in the segmentation."""
    steps: int = _COMPLETION.steps
    """Optimization steps, 1 to 100."""
    method: Method = _COMPLETION.method
    """The prior where it fits and interpolation where it does not (auto), or one of them always."""
    spacing: Annotated[float | None, tyro.conf.arg(metavar="MM")] = _COMPLETION.spacing_mm
    """Voxel spacing of the result in mm; the finest of the segmentation if absent."""
    device: Device = _COMPLETION.device
    """Where the work is done: on a graphics card where it is faster (auto), or where you say."""
    planes: Annotated[str | None, tyro.conf.arg(metavar="k:10,k:18,i:40")] = None
    """The planes that were outlined, by axis and index of the volume, an empty one if it is known to be so; found if absent."""

    def run(self) -> None:
        """Run it."""
        from ShapeCompletionLib.core.config_check import config_from_json
        from ShapeCompletionLib.core.planes import planes_from_text
        from SparseAnatomyLib.provenance import result_device, result_warnings

        config = config_from_json({"method": self.method, "steps": self.steps, "spacing_mm": self.spacing, "device": self.device})
        planes = None if self.planes is None else planes_from_text(self.planes.split(","))
        from ShapeCompletionLib.core.pipeline import complete_file

        with progress_bar() as report:
            paths = complete_file(self.segmentation, self.out, self.prior, self.label, config, report, planes)
        for warning in result_warnings(paths):
            print(f"Warning: {warning}", file=sys.stderr)
        print(result_device(paths))
        print(f"The shape is {paths['shape']}. Read {paths['report_json']} before you use it.")


@dataclass(frozen=True)
class Train:
    """Train a prior on the whole shapes of a folder; a training that was interrupted goes on where it was."""

    segmentations: Path
    """Folder of label volumes, whole structures, a file each."""
    out: Path
    """The prior (.pt); its card goes beside it."""
    label: int = 1
    """Value of the structure in the segmentations."""
    title: str = ""
    """The prior's name for people, such as "Vertebra (thoracolumbar)"."""
    trained_on: str = "Segmentations of the user."
    """What the segmentations are and where they come from, for the prior's card."""
    licence: str = ""
    """Licence of the weights, with the attribution that it asks for."""
    patients: Annotated[str, tyro.conf.arg(metavar="REGEX")] = ""
    """Which part of a file's name says whose it is, as a regular expression; by default each file is a patient of its own."""
    folds: int = _TRAINING.folds
    """Parts that the patients are split into, to measure the prior on patients that it was not trained on."""
    extent: float = _TRAINING.extent_mm
    """Edge length in mm of the cube that the prior looks at."""
    inr_steps: int = _TRAINING.inr_steps
    """Optimization steps of the implicit network."""
    steps: int = _TRAINING.refine_steps
    """Optimization steps of the residual network, which come after."""
    mirror: bool = _TRAINING.mirror
    """Learn from mirror images, too; --no-mirror for what has a side."""
    seed: int = _TRAINING.seed
    """Same seed, same prior (on the same machine)."""
    start: str | None = None
    """A prior that ships, or the path of one, to start from: its training must not have seen the patients. From nothing if absent."""
    device: Device = _COMPLETION.device
    """Where the networks are trained; a training that was interrupted may go on elsewhere."""
    keep_checkpoints: bool = False
    """Keep the checkpoints, so that the same command with more --steps goes on from here."""

    def run(self) -> None:
        """Run it."""
        if self.out.suffix != ".pt":
            raise InputError(f"The prior {self.out} must be a .pt file.", "Choose a name such as vertebra.pt.")
        if not self.segmentations.is_dir():
            raise InputError(f"There is no folder {self.segmentations}.", "Name the folder that holds the segmentations.")
        config = self._config()
        check_result_folder(self.out.parent, _PRIOR_BYTES)  # before hours of work
        from ShapeCompletionLib.core.device import choose_device
        from ShapeCompletionLib.core.prior import load_prior
        from ShapeCompletionLib.core.shapes import load_shapes
        from ShapeCompletionLib.core.train_prior import PriorInfo, remove_checkpoints, train_prior

        # The card goes wherever the prior goes, so the command on it names no folder.
        command = f"shape-completion train --label {self.label} --extent {self.extent:g} --inr-steps {self.inr_steps} --steps {self.steps}"
        command += f" --folds {self.folds} --seed {self.seed}" + ("" if self.mirror else " --no-mirror")
        command += f" --patients '{self.patients}'" if self.patients else ""
        command += f" --start {Path(self.start).name}" if self.start else ""
        info = PriorInfo(self.title or self.out.stem, self.trained_on, self.licence, command)
        from SparseAnatomyLib.work_device import WorkDevice

        start = load_prior(self.start) if self.start else None
        with progress_bar() as report:
            report(0.0, "Reading the segmentations")
            shapes = load_shapes(self.segmentations, self.label, self.patients)
            device = WorkDevice(choose_device(self.device, lambda message: report(0.0, message)))
            path = train_prior(shapes, self.out, info, config, EvaluationConfig(), report, start, device)
            if not self.keep_checkpoints:
                remove_checkpoints(self.out)
        print(device.sentence)
        print(f"The prior is {path}. Use it with: shape-completion complete SEGMENTATION --prior {path} --out RESULT")

    def _config(self) -> TrainingConfig:
        """Return the settings."""
        low, high = EXTENT_RANGE_MM
        if not low <= self.extent <= high:
            remedy = "Choose a cube that the structure fits into, such as 128 mm."
            raise InputError(f"The extent must lie between {low:g} and {high:g} mm.", remedy)
        if min(self.steps, self.inr_steps) < 1:
            raise InputError("The steps of both networks must be 1 or more.", "Choose some hundreds or thousands of steps.")
        if not 2 <= self.folds <= 20:
            raise InputError("The folds must be 2 to 20.", "Choose 3 folds.")
        try:
            re.compile(self.patients)
        except re.error as error:
            raise InputError(f"The patients' pattern is no regular expression: {error}.", "Correct --patients, or leave it out.") from error
        shared = {"extent_mm": self.extent, "mirror": self.mirror, "folds": self.folds, "seed": self.seed}
        return replace(_TRAINING, **shared, inr_steps=self.inr_steps, refine_steps=self.steps)


@dataclass(frozen=True)
class Evaluate:
    """Measure a prior, beside interpolation, on whole shapes that it was not trained on."""

    segmentations: Path
    """Folder of label volumes, whole structures, a file each."""
    prior: str
    """Name of a prior that ships, or the path of one (.pt)."""
    spacing: tuple[float, ...] = (8.0, 16.0)
    """Distances between slices in mm."""
    steps: int = _COMPLETION.steps
    """Optimization steps, 1 to 100."""
    label: int = 1
    """Value of the structure in the segmentations."""
    out: Path | None = None
    """Where the figures go as JSON."""

    def run(self) -> None:
        """Run it."""
        if not self.segmentations.is_dir():
            raise InputError(f"There is no folder {self.segmentations}.", "Name the folder that holds the segmentations.")
        if not (self.spacing and all(0.1 <= spacing <= 300.0 for spacing in self.spacing)):
            raise InputError("The distances between slices must lie between 0.1 and 300 mm.", "Choose such as --spacing 8 16.")
        from ShapeCompletionLib.core.config_check import config_from_json

        steps = config_from_json({"steps": self.steps}).steps
        if self.out is not None:
            check_result_folder(self.out.parent, _FIGURES_BYTES)  # before hours of work
            if self.out.is_dir():
                raise InputError(f"{self.out} is a folder, not a file.", "Choose a file for the figures, such as figures.json.")
        from ShapeCompletionLib.core.evaluate import evaluate_prior
        from SparseAnatomyLib.provenance import json_ready
        from SparseAnatomyLib.textfiles import replace_text

        config = EvaluationConfig(spacings_mm=self.spacing, steps=steps)
        with progress_bar() as report:
            figures = evaluate_prior(self.segmentations, self.prior, config, self.label, report)
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self.out, json.dumps(json_ready(figures), indent=1, allow_nan=False) + "\n")
        print_figures(figures)


def print_figures(figures: dict, group: str = "") -> None:
    """Print the single numbers among nested figures, one a line."""
    for name, value in figures.items():
        path = f"{group} {name}".strip()
        if isinstance(value, dict):
            print_figures(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            print(f"{path:48s} {value:.4g}")


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Complete, tyro.conf.subcommand("complete")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
)
_DESCRIPTION = (
    "Complete shapes from a few outlined slices. Research use only. Exit codes: 0 done, 2 bad input, 3 cancelled, 4 resources, "
    "1 anything else."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit code. (Arguments that make no sense, and --help, end the process here: 2 and 0.)
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    command = tyro.cli(Command, args=arguments, prog="shape-completion", description=_DESCRIPTION, config=config)
    return run_command(command.run)


if __name__ == "__main__":
    sys.exit(main())
