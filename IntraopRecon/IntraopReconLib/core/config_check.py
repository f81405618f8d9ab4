"""Settings from outside (a panel's request, a command line) checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from SparseAnatomyLib.errors import InputError, ResourceError

from .config import Device, Method, Quality, ReconstructionConfig, RefinePoses, Region, Standardize

SPACING_RANGE_MM = (0.1, 20.0)
MOST_VOXELS = 512**3  # 0.5 GB an array, of which a reconstruction holds several
USUAL_EXTENT_MM = 200.0  # of the cube that every view of a C-arm sees
_CHOICES = {
    "method": get_args(Method),
    "quality": get_args(Quality),
    "device": get_args(Device),
    "refine_poses": get_args(RefinePoses),
    "standardize": get_args(Standardize),
}
_REMEDY = "Correct this setting, then run it again."


def config_from_json(values: Any) -> ReconstructionConfig:
    """Build the settings from what `ReconstructionConfig.to_json` gives; what is left out has its default.

    Raises:
        InputError: A setting that does not exist, or a value that will not do.
        ResourceError: As `check_config`.
    """
    known = [field.name for field in fields(ReconstructionConfig)]
    if not (isinstance(values, Mapping) and set(values) <= set(known)):
        raise InputError(f"The settings are not understood: expected {', '.join(known)}.", "Update the panel and the worker together.")
    settings = dict(values)
    if settings.get("region") is not None:
        settings["region"] = _region(settings["region"])
    config = ReconstructionConfig(**settings)
    check_config(config)
    return config


def check_config(config: ReconstructionConfig) -> None:
    """Let only settings pass that can be computed with.

    Raises:
        InputError: A value that will not do; the message names the setting.
        ResourceError: More voxels than any memory will hold.
    """
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise InputError(f"The setting {name} must be one of {', '.join(choices)}.", _REMEDY)
    low, high = SPACING_RANGE_MM
    if not (_is_number(config.spacing_mm) and low <= config.spacing_mm <= high):
        raise InputError(f"The voxel spacing must lie between {low:g} and {high:g} mm.", "Choose a spacing such as 1.5 mm.")
    for name, least in (("seed", 0), ("ixgs_iterations", 1)):
        value = getattr(config, name)
        if not (isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**32):
            raise InputError(f"The setting {name} must be a whole number, {least} or more.", _REMEDY)
    if config.region is not None:
        _check_region(config.region)
    check_voxel_count(voxel_count(config), config.spacing_mm)


def check_voxel_count(count: float, spacing_mm: float) -> None:
    """Refuse a volume that is too large.

    Args:
        count: Number of voxels.
        spacing_mm: Their pitch, for the message.

    Raises:
        ResourceError: It has more voxels than any memory will hold.
    """
    if count > MOST_VOXELS:
        message = f"A spacing of {spacing_mm:g} mm makes {count:.1e} voxels, more than the memory holds."
        raise ResourceError(message, "Choose a larger spacing or a smaller region of interest.")


def voxel_count(config: ReconstructionConfig) -> float:
    """Return how many voxels the result will have, about (without a region the volume depends on the views)."""
    extent = config.region.extent_mm if config.region else (USUAL_EXTENT_MM,) * 3
    return math.prod(max(1.0, edge / config.spacing_mm) for edge in extent)


def _region(values: Any) -> Region:
    try:
        rows = tuple(tuple(row) for row in values.get("direction", Region.direction))
        return Region(tuple(values["center_lps_mm"]), tuple(values["extent_mm"]), rows)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError("The region of interest is not understood.", "Select the region again.") from error


def _check_region(region: Region) -> None:
    remedy = "Place the region of interest again."
    numbers = [*region.center_lps_mm, *region.extent_mm, *(value for row in region.direction for value in row)]
    shapes = (len(region.center_lps_mm), len(region.extent_mm), *(len(row) for row in region.direction))
    if shapes != (3, 3, 3, 3, 3) or not all(_is_number(value) for value in numbers):
        raise InputError("The region of interest holds something else than finite numbers.", remedy)
    if not all(edge > 0 for edge in region.extent_mm):
        raise InputError("The region of interest has no extent.", remedy)
    columns = list(zip(*region.direction, strict=True))
    products = [sum(a * b for a, b in zip(p, q, strict=True)) - (p is q) for p in columns for q in columns]
    if any(abs(product) > 1e-3 for product in products):
        raise InputError("The region of interest has axes that are not perpendicular.", remedy)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
