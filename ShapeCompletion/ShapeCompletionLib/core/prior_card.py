"""The card beside each prior: what it was trained on, how, and how well it does. The panel lists them without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from SparseAnatomyLib import model_files
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.resources import resource

CARD_VERSION = 1
EXTENT_RANGE_MM = (10.0, 1000.0)  # of the cube that a prior looks at


@dataclass(frozen=True)
class PriorCard:
    """What is known of a prior; stands as `NAME.json` beside `NAME.pt`.

    Attributes:
        name: Such as "vertebra"; the file's, so that a prior that was renamed is found by its new name.
        title: For people, such as "Vertebra (thoracolumbar)".
        trained_on: Sentences: what, how many shapes of how many patients, from where.
        licence: Of the weights, with the attribution that it asks for.
        extent_mm: Edge length of the cube that the prior looks at.
        sha256: Of the weights' file.
        seconds: How long the training took, CPU time.
        steps: Optimization steps of the training.
        command: The command that trained it.
        figures: Measured on patients that it was not trained on; by layout, then by measure.
    """

    name: str
    title: str
    trained_on: str
    licence: str
    extent_mm: float
    sha256: str
    seconds: float
    steps: int
    command: str
    figures: dict[str, Any] = field(default_factory=dict)
    version: int = CARD_VERSION

    def to_json(self) -> str:
        """Return the file's text."""
        return model_files.card_text(self)


def read_card(path: Path) -> PriorCard:
    """Read a card.

    Raises:
        InputError: It is missing, damaged or of another version.
    """
    card = model_files.read_card(path, PriorCard, "prior")
    low, high = EXTENT_RANGE_MM
    if not low <= card.extent_mm <= high:
        message = f"The prior's card {path} says that the prior looks at {card.extent_mm:g} mm, which no anatomy fits."
        raise InputError(message, "Copy the prior's .pt file together with the .json file of the same name, or train it again.")
    return replace(card, name=path.stem)


def priors_folder() -> Path:
    """Return the folder of the priors that ship, in the repository or in the installed extension.

    Raises:
        InputError: It is not there.
    """
    return resource("Priors")


def available_priors() -> list[PriorCard]:
    """Return the cards of the priors that ship, by name; damaged ones are left out."""
    cards = []
    for path in sorted(priors_folder().glob("*.json")):
        try:
            cards.append(read_card(path))
        except InputError:
            continue
    return cards
