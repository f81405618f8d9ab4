"""A trained prior: the implicit network, the residual network and their calibration; its file."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.model_files import load_model, save_model

from .calibration import Temperature
from .cube import prior_points
from .inner_loop import head_prior, initialise_head, solve
from .inr import depth, features
from .prior_card import PriorCard, available_priors, priors_folder, read_card
from .refine import RefineNetwork

FORMAT, VERSION = "SparseAnatomy shape prior", 1
_LARGEST_NUMBER = 1e6
_REMEDY = "Copy the prior again, or train it again with this version (shape-completion train)."


@dataclass(frozen=True, eq=False)
class Prior:
    """Everything that `complete` needs to know of a kind of shape.

    Attributes:
        card: What it was trained on.
        inr: Meta-learned parameters of the implicit network, as `outer_loop.meta_parameters("ridge", ...)` names them.
        refine: The residual network, in evaluation mode.
        temperature: Turns logits into calibrated ones.
        usual_evidence: Evidence, in nats per context point, that nineteen in twenty shapes of its kind exceed.
    """

    card: PriorCard
    inr: dict[str, Tensor]
    refine: RefineNetwork
    temperature: Temperature
    usual_evidence: float

    @cached_property
    def cube_features(self) -> Tensor:
        """As `cube_features` gives them."""
        return cube_features(self.inr)

    def on(self, device: str) -> Prior:
        """Return it with its networks on a device; a card gets them once."""
        if device == "cpu":
            return self
        if device not in self._on_cards:
            inr = {name: value.to(device) for name, value in self.inr.items()}
            self._on_cards[device] = replace(self, inr=inr, refine=copy.deepcopy(self.refine).to(device))
        return self._on_cards[device]

    @cached_property
    def _on_cards(self) -> dict[str, Prior]:
        return {}


def cube_features(inr: dict[str, Tensor]) -> Tensor:
    """Return the features of the implicit network over the cube where nothing is moved, [32³, width]: the same for all slices."""
    with torch.no_grad():
        return features(inr, torch.from_numpy(prior_points()).to(inr["weight_0"].device))


def save_prior(prior: Prior, path: Path) -> Path:
    """Write a prior, weights in half precision, and its card beside it; each to a temporary name first.

    Args:
        prior: The card's hash is filled in.
        path: Ends with `.pt`.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "inr": {name: value.detach().float() for name, value in prior.inr.items()},
        "refine": {name: value.detach().half() for name, value in prior.refine.state_dict().items()},
        "temperature": list(astuple(prior.temperature)),
        "usual_evidence": prior.usual_evidence,
    }
    return save_model(content, prior.card, path)


def load_prior(name_or_path: str | Path) -> Prior:
    """Load a prior that ships, by name, or a file.

    Args:
        name_or_path: Such as "vertebra", or the path of a `.pt` file that has its card beside it.

    Raises:
        InputError: No such prior; the file is truncated, not what its card says, or of another version.
    """
    path = _path_of(name_or_path)
    card = read_card(path.with_suffix(".json"))
    data = load_model(path, card.sha256, "prior")
    return _from_data(data, card, path)


def _path_of(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".pt":
        if not os.path.isfile(path):  # of a path too long for a file system, Path.is_file raises an OSError
            raise InputError(f"There is no prior at {path}.", "Check the path, or name one that ships.")
        return path
    names = [card.name for card in available_priors()]
    if str(name_or_path) not in names:
        choices = f"Choose one of {', '.join(names)}, or give" if names else "Give"
        raise InputError(f"There is no prior named {name_or_path}.", f"{choices} the path of a .pt file.")
    return priors_folder() / f"{name_or_path}.pt"


def _from_data(data: Any, card: PriorCard, path: Path) -> Prior:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path} is not a shape prior.", "Choose a .pt file that shape-completion train wrote.")
    if data.get("version") != VERSION:
        raise InputError(f"The prior {path} is of version {data.get('version')}, this program reads {VERSION}.", _REMEDY)
    try:
        refine = RefineNetwork()
        refine.load_state_dict({name: value.float() for name, value in data["refine"].items()})
        inr = {name: value.float() for name, value in data["inr"].items()}
        _check_inr(inr)
        usual, temperature = float(data["usual_evidence"]), Temperature(*(float(number) for number in data["temperature"]))
        _check_numbers([*inr.values(), *refine.state_dict().values(), torch.tensor([temperature.base, temperature.per_voxel])])
        if not temperature.highest > 0:  # infinity, or not there: it rises everywhere
            raise ValueError("temperature: expected a highest value above zero.")
        if math.isnan(usual):  # infinity says that all slices are believed, or none
            raise ValueError("usual_evidence: expected a number.")
        prior = Prior(card, inr, refine.eval(), temperature, usual)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The prior {path} is damaged.", _REMEDY) from error
    return prior


def _check_inr(inr: dict[str, Tensor]) -> None:
    """Fail where a part of the implicit network is missing, or its parts do not fit together."""
    expected = {f"{part}_{layer}" for part in ("weight", "bias") for layer in range(depth(inr))}
    if not expected or expected != {name for name in inr if name.startswith(("weight_", "bias_"))}:
        raise ValueError(f"inr: expected sine layers, each with weights and a bias, got {', '.join(sorted(inr))}.")
    for name, value in initialise_head(len(inr["head_weight"]), "prior_lower" in inr).items():
        if inr[name].shape != value.shape:
            raise ValueError(f"{name}: expected shape {list(value.shape)}, got {list(inr[name].shape)}.")
    solve(head_prior(inr), features(inr, torch.zeros(1, 3)), torch.zeros(1))


def _check_numbers(values: list[Tensor]) -> None:
    """Fail where a weight is not a number, or so large that computing with it gives none."""
    if not all(bool((value.abs() < _LARGEST_NUMBER).all()) for value in values):
        raise ValueError("expected finite weights.")
