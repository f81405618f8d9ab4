"""A segmentation from a file: a label volume, or Slicer's .seg.nrrd with its segments in one layer or several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.volumes import grid_of, read_image

MOST_LABELS_NAMED = 12
SPACING_RANGE_MM = (0.002, 100.0)  # of voxels; what is smaller or larger is in another unit
FARTHEST_MM = 1e6  # of a volume's origin; single precision shows no voxels farther out
_EXPORT = "Export the segmentation as a 3D label volume (.nrrd or .nii.gz)."


@dataclass(frozen=True)
class _Segment:
    """A segment of a .seg.nrrd: its value, in which layer, and its name."""

    value: int
    layer: int
    name: str


def read_segmentation(path: Path, label: int = 1) -> tuple[np.ndarray, VoxelGrid]:
    """Read the voxels of one label.

    In a .seg.nrrd whose segments overlap, and which therefore has several layers, the label is looked for in all of them.

    Args:
        path: Any format that SimpleITK reads.
        label: Value of the voxels inside the structure.

    Returns:
        bool [k, j, i], and where the voxels lie.

    Raises:
        InputError: No such file, it is damaged, no label volume, or has no such label; the message names the labels that it has.
    """
    path = Path(path)
    check_label(label)
    image, grid = read_labels(path)
    segments, layers = _segments(image), image.GetNumberOfComponentsPerPixel()
    array = SimpleITK.GetArrayFromImage(image)
    stacked = array.reshape(*array.shape[:3], layers)
    inside = stacked == label
    found = inside.reshape(-1, layers).any(0)
    if not stacked.any():
        raise InputError(f"Nothing is outlined in {path}.", "Outline the structure on two slices or more, then save it again.")
    if not found.any():
        raise InputError(f"{path} has no label {label}; {_present(stacked, segments)}.", "Choose one of these labels with --label.")
    names = [segment.name for segment in segments if segment.value == label]
    if max(found.sum(), len(names)) > 1:  # even where but one of them is outlined: it need not be the one that is meant
        message = f"{path} has overlapping segments with the same label {label}: {', '.join(names)}."
        raise InputError(message, "Export one of them as a label volume.")
    return np.ascontiguousarray(inside[..., int(np.argmax(found))]), grid


def check_label(label: int) -> None:
    """Refuse a label that stands for no structure.

    Raises:
        InputError: It is not above zero.
    """
    if label < 1:
        raise InputError(f"The label {label} is no structure: labels count from 1, and 0 is background.", "Choose the structure's label.")


def read_labels(path: Path) -> tuple[SimpleITK.Image, VoxelGrid]:
    """Read a label volume as it is, and where its voxels lie.

    Raises:
        InputError: No such file, it is damaged, or no label volume.
    """
    image = read_image(path)
    if image.GetDimension() != 3:
        raise InputError(f"{path} has {image.GetDimension()} dimensions, and a segmentation has three.", _EXPORT)
    layers = image.GetNumberOfComponentsPerPixel()
    if layers > 1 and not _segments(image):
        raise InputError(f"{path} holds {layers} values per voxel, such as colors, and not one label.", _EXPORT)
    grid = grid_of(image, path)
    _check_place(grid, path)
    _check_values(SimpleITK.GetArrayViewFromImage(image), path)
    return image, grid


def _segments(image: SimpleITK.Image) -> list[_Segment]:
    """Return the segments that the header names, in order."""
    keys = set(image.GetMetaDataKeys())
    numbers = sorted(int(match[1]) for key in keys if (match := re.fullmatch(r"Segment(\d+)_LabelValue", key)))
    segments = []
    for number in numbers:
        values = {
            name: image.GetMetaData(f"Segment{number}_{name}") for name in ("LabelValue", "Layer") if f"Segment{number}_{name}" in keys
        }
        if not all(re.fullmatch(r"\s*\d+\s*", value) for value in values.values()):
            continue
        name = image.GetMetaData(f"Segment{number}_Name") if f"Segment{number}_Name" in keys else f"segment {number + 1}"
        segments.append(_Segment(int(values["LabelValue"]), int(values.get("Layer", 0)), name))
    return segments


def _check_place(grid: VoxelGrid, path: Path) -> None:
    """Refuse voxels of sizes and in places that no scanner has: the numbers are damaged, or in another unit."""
    low, high = SPACING_RANGE_MM
    wrong = [spacing for spacing in grid.spacing_mm if not low <= spacing <= high]
    if wrong:
        message = f"{path} has voxels of {wrong[0]:.2g} mm, and anatomy is seen in voxels of {low:g} to {high:g} mm."
        raise InputError(message, "Check the spacing in the file and its unit, then export the volume again.")
    if np.abs(grid.origin_lps_mm).max() > FARTHEST_MM:
        message = f"{path} lies {np.abs(grid.origin_lps_mm).max() / 1e6:.2g} km from the scanner's origin."
        raise InputError(message, "Check the origin in the file and its unit, then export the volume again.")


def _check_values(array: np.ndarray, path: Path) -> None:
    """Refuse voxels that are no labels."""
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise InputError(f"{path} holds values that are no labels.", _EXPORT)
    if np.issubdtype(array.dtype, np.integer):
        return
    if not np.isfinite(array).all():
        raise InputError(f"{path} holds voxels that are not numbers.", "Export the segmentation again without NaN or infinite values.")
    if (array != np.round(array)).any():
        raise InputError(f"{path} holds fractions, as an image or a probability map does, and no labels.", _EXPORT)


def _present(stacked: np.ndarray, segments: list[_Segment]) -> str:
    """Return the labels of a volume [k, j, i, layer] in words, with the segments' names where these are known."""
    present = [int(value) for value in np.unique(stacked) if value != 0]
    names = {segment.value: segment.name for segment in segments}
    words = [f"{value} ({names[value]})" if value in names else str(value) for value in present[:MOST_LABELS_NAMED]]
    if len(present) > MOST_LABELS_NAMED:
        words.append(f"{len(present) - MOST_LABELS_NAMED} more")
    return f"it has {', '.join(words)}"
