"""Settings from outside (a panel's request, a command line) checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from ShapeCompletionLib.core.config import CompletionConfig
from SparseAnatomyLib.errors import InputError

SPACING_RANGE_MM = (0.1, 20.0)


def config_to_json(config: CompletionConfig) -> dict[str, Any]:
    """Return the settings as JSON-ready values."""
    return asdict(config)


def config_from_json(values: Any) -> CompletionConfig:
    """Build the settings from what `config_to_json` gives; what is left out has its default.

    Raises:
        InputError: A setting that does not exist, or a value that will not do; the message names it.
    """
    known = [field.name for field in fields(CompletionConfig)]
    if not (isinstance(values, Mapping) and set(values) <= set(known)):
        raise InputError(f"The settings are not understood: expected {', '.join(known)}.", "Update the panel and the worker together.")
    try:
        config = CompletionConfig(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"A setting will not do: {error}", "Correct this setting, then run it again.") from error
    low, high = SPACING_RANGE_MM
    if config.spacing_mm is not None and not low <= config.spacing_mm <= high:
        raise InputError(f"The voxel spacing must lie between {low:g} and {high:g} mm.", "Choose a spacing such as 1 mm.")
    return config
