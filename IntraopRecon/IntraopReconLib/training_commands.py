"""The command that trains a standardizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from IntraopReconLib.core.config import Device, ReconstructionConfig
from IntraopReconLib.core.training_config import StandardizerTraining
from SparseAnatomyLib.commandline import progress_bar
from SparseAnatomyLib.errors import InputError

_TRAINING = StandardizerTraining()


@dataclass(frozen=True)
class TrainStandardizer:
    """Train the network that leaves bone alone on CTs or pairs of your own; a training that was interrupted goes on where it was."""

    out: Path
    """The weights (.pt); their card goes beside them."""
    cts: Path | None = None
    """Folder of CTs in Hounsfield units (.nrrd, .nii, .nii.gz, .mha), a patient each."""
    pairs: Path | None = None
    """Folder of measured pairs: line integrals in `xray/NAME.nrrd`, those of bone alone in `bone/NAME.nrrd`."""
    held_out: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """CTs to leave out, by their file's name without its ending, so that the result can be measured on them."""
    steps: int = _TRAINING.steps
    """Optimization steps."""
    views: int = _TRAINING.views
    """Simulated X-rays of every CT."""
    seed: int = _TRAINING.seed
    """Same seed, same pairs."""
    trained_on: str = "CTs of the user."
    """What the CTs are and where they come from, for the card."""
    licence: str = ""
    """Licence of the weights, with the attribution that it asks for."""
    device: Device = ReconstructionConfig.device
    """Where the networks are trained; a training that was interrupted may go on elsewhere."""

    def run(self) -> None:
        """Run it."""
        if self.out.suffix != ".pt":
            raise InputError(f"The weights {self.out} must be a .pt file.", "Choose a name such as bone.pt.")
        for name, value, least in (("steps", self.steps, 1), ("views", self.views, 1), ("seed", self.seed, 0)):
            if not least <= value <= 1_000_000:
                raise InputError(f"The {name} must be {least} to 1,000,000.", f"Correct --{name}.")
        training = replace(_TRAINING, steps=self.steps, views=self.views, seed=self.seed)
        from IntraopReconLib.core.device import choose_standardizer_device
        from IntraopReconLib.core.standardization.train_standardizer import TrainingInfo, find_cts, train_standardizer
        from SparseAnatomyLib.work_device import WorkDevice

        if self.cts is None and self.pairs is None:
            raise InputError("There is nothing to train on.", "Give --cts, --pairs, or both.")
        found = find_cts(self.cts, self.held_out) if self.cts else []
        # The card goes wherever the weights go, so the command on it names no folder.
        command = "intraop-recon train-standardizer" + (" --cts CTS" if self.cts else "") + (" --pairs PAIRS" if self.pairs else "")
        command += "".join(f" --held-out {name}" for name in self.held_out)
        command += f" --steps {self.steps} --views {self.views} --seed {self.seed}"
        info = TrainingInfo(self.trained_on, self.licence, command)
        with progress_bar() as report:
            device = WorkDevice(choose_standardizer_device(self.device, lambda message: report(0.0, message)))
            path = train_standardizer(found, self.out, info, training, report, self.pairs, device)
        print(device.sentence)
        print(f"The weights are {path}. Measure them: python -m Testing.benchmarks.standardization --weights {path} --ct CT")
