"""Trained weights on disk: a `.pt` file, and beside it a `.json` card that says what it is and holds its SHA-256.

Torch is imported when it is needed: cards are read without it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from SparseAnatomyLib.errors import InputError

Card = TypeVar("Card")


def card_text(card: Any) -> str:
    """Return the file's text of a card, a dataclass."""
    return json.dumps(asdict(card), indent=1) + "\n"


def read_card(path: Path, kind: type[Card], what: str) -> Card:
    """Read a card.

    Args:
        path: Of the `.json` file.
        kind: A dataclass with `version`, the default of which is what this program reads.
        what: Such as "prior", for messages.

    Raises:
        InputError: It is missing, damaged or of another version.
    """
    remedy = f"Copy the {what}'s .pt file together with the .json file of the same name, or train it again."
    damaged = InputError(f"The {what}'s card {path} is damaged.", remedy)
    try:
        card = kind(**json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"The {what}'s card {path} cannot be read.", remedy) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged from error
    expected = next(field.default for field in fields(kind) if field.name == "version")
    if isinstance(card.version, int) and card.version != expected:
        raise InputError(f"The {what}'s card {path} is of version {card.version}, this program reads {expected}.", remedy)
    if not all(_is_of_type(getattr(card, field.name), str(field.type)) for field in fields(kind)):
        raise damaged
    return card


def _is_of_type(value: Any, annotation: str) -> bool:
    """Tell whether a value from a card is what its field's annotation says: a text, a finite number or a dictionary."""
    if annotation in ("int", "float"):
        return isinstance(value, int if annotation == "int" else int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, {"str": str, "dict": dict}.get(annotation.partition("[")[0], object))


def save_model(content: dict[str, Any], card: Any, path: Path) -> Path:
    """Write weights and their card; each to a temporary name first.

    Args:
        content: Tensors, numbers and texts.
        card: A dataclass whose `sha256` is filled in.
        path: Ends with `.pt`.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, part in ((path, data), (path.with_suffix(".json"), card_text(card).encode())):
        partial = target.with_name(target.name + ".partial")
        partial.write_bytes(part)
        os.replace(partial, target)
    return path


def load_model(path: Path, sha256: str, what: str) -> Any:
    """Return what `save_model` wrote; nothing in the file is executed.

    Raises:
        InputError: It is missing, truncated, or not what its card says.
    """
    import torch

    remedy = f"Copy the {what} again, or train it again with this version."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"The {what} {path} cannot be read.", remedy) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"The {what} {path} is not the file that its card describes: it is incomplete or was changed.", remedy)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may fail at any of its instructions
        raise InputError(f"The {what} {path} is damaged.", remedy) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training's state of tensors, numbers and texts, to a temporary name first, so that a kill leaves the last one whole."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, on the CPU wherever it was; None where there is nothing, or nothing whole."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle may fail at any of its instructions
        return None
    return state if isinstance(state, dict) else None


def half_precision(device: str = "cpu") -> Any:
    """Return the context in which convolutions run in bfloat16, where the processor, or the card, computes in it.

    Args:
        device: As PyTorch names it.
    """
    import torch

    if torch.device(device).type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.get_device_capability(device) >= (8, 0))
    capable = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not built for every processor
    return torch.autocast("cpu", torch.bfloat16, enabled=capable)
