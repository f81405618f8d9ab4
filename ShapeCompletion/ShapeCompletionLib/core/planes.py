"""Which planes of a label volume were really outlined: seen across its slices, a sparse outline is a comb of lines, not a drawn plane."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SparseAnatomyLib.errors import InputError

THICKEST_BRUSH = 3  # voxels; a brush in 3D paints this many planes at most around the one that was outlined
SMALLEST_SECTION = 4  # connected voxels; less is a slip of the brush
COARSE_VOXELS = 2.5  # planes so many times farther apart than the finest voxels leave something to complete even when all are outlined


@dataclass(frozen=True, order=True)
class Plane:
    """A plane of a volume: all voxels with one index along one axis.

    Attributes:
        axis: Axis of the array [k, j, i]: 0, 1 or 2.
        index: Along it.
    """

    axis: int
    index: int

    def __str__(self) -> str:
        return f"{'kji'[self.axis]}:{self.index}"

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2):
            raise ValueError(f"axis: expected 0, 1 or 2 for k, j or i, got {self.axis}.")
        if self.index < 0:
            raise ValueError(f"index: expected zero or more, got {self.index}.")


def planes_from_text(names: Sequence[str]) -> tuple[Plane, ...]:
    """Return planes by their names, such as "k:10": axis of the volume, and index along it, counted from 0.

    Raises:
        InputError: A name is not understood.
    """
    planes = set()
    for name in names:
        match = re.fullmatch(r"\s*([kji])\s*:\s*(\d{1,6})\s*", name) if isinstance(name, str) else None
        if match is None:
            raise InputError(f"There is no plane {name!r}.", "Name planes by axis and index, such as k:10,k:18,i:40.")
        planes.add(Plane("kji".index(match[1]), int(match[2])))
    return tuple(sorted(planes))


def find_planes(labels: np.ndarray, spacing_kji_mm: np.ndarray | None = None) -> tuple[Plane, ...]:
    """Find the planes that were outlined, along one axis or along several.

    A voxel votes for the axis along which it is thin (up to `THICKEST_BRUSH`) while it is at least twice as wide along the two others.
    Planes are taken by their votes, then by what is still unexplained; those that explain nothing of their own are dropped again.
    Neighboring planes that show the same, or that taper to both sides everywhere, are one plane painted by a thick brush: the middle one
    counts.

    Args:
        labels: True inside the structure, bool [k, j, i].
        spacing_kji_mm: Voxel spacing along k, j, i, [3]; tells whether a volume of thick slices that are all outlined is sparse.

    Returns:
        The planes in order; none where nothing is outlined.

    Raises:
        InputError: It is outlined everywhere, so that there is nothing to complete.
    """
    labels = np.asarray(labels, bool)
    if labels.ndim != 3:
        raise ValueError(f"labels: expected shape [k, j, i], got {list(labels.shape)}.")
    if not labels.any():
        return ()
    box = ndimage.find_objects(labels.astype(np.uint8))[0]
    cropped = np.ascontiguousarray(labels[box])
    lengths = _run_lengths(cropped)
    if (lengths.min(0) > THICKEST_BRUSH).mean() > 0.5:
        chosen: list[Plane] = []
        dense = True
    else:
        chosen = _cover(cropped, lengths)
        dense = _is_dense(chosen)
    if dense:
        return _all_planes(labels, spacing_kji_mm)
    thin = _without_thickness(cropped, chosen)
    return tuple(sorted(Plane(plane.axis, plane.index + box[plane.axis].start) for plane in thin))


def _run_lengths(labels: np.ndarray) -> np.ndarray:
    """Return how many voxels in a row are inside, through each inside voxel along k, j, i: [3, n], voxels in the order of argwhere."""
    lengths = np.zeros((3, int(labels.sum())), np.int32)
    order = np.zeros(labels.shape, np.int32)
    order[labels] = np.arange(lengths.shape[1])
    for axis in range(3):
        lines = np.moveaxis(labels, axis, -1)
        place = np.moveaxis(order, axis, -1)[lines]
        flat = np.flatnonzero(np.pad(lines, ((0, 0), (0, 0), (0, 1))))  # the gap keeps lines apart
        starts = np.flatnonzero(np.diff(flat, prepend=-2) > 1)
        runs = np.diff(np.append(starts, len(flat)))
        lengths[axis, place] = np.repeat(runs, runs)
    return lengths


def _cover(labels: np.ndarray, lengths: np.ndarray) -> list[Plane]:
    """Choose planes that explain the voxels.

    Args:
        labels: bool [k, j, i].
        lengths: Run lengths of the inside voxels, [3, n], in the order of argwhere.
    """
    votes = _votes(lengths)
    if not votes.any():  # lines that were drawn around the structure: what they enclose tells their planes
        filled = _filled(labels)
        if filled.sum() > labels.sum():
            labels, lengths = filled, _run_lengths(filled)
            votes = _votes(lengths)
    coordinates = np.argwhere(labels).T
    free = np.ones(coordinates.shape[1], bool)
    chosen = _take(labels.shape, coordinates, votes, free)
    axes = sorted({plane.axis for plane in chosen}) or [int(np.argmin(np.median(lengths, 1)))]
    usable = np.zeros_like(votes)
    usable[axes] = True  # small or thin sections cast no votes: they belong to an axis along which other planes were found
    chosen += _take(labels.shape, coordinates, usable, free)
    return _needed(chosen, coordinates)


def _votes(lengths: np.ndarray) -> np.ndarray:
    """Return for which axes each voxel votes, bool [3, n]."""
    shortest_other = np.stack([np.delete(lengths, axis, 0).min(0) for axis in range(3)])
    return (lengths <= THICKEST_BRUSH) & (2 * lengths <= shortest_other)


def _filled(labels: np.ndarray) -> np.ndarray:
    """Return what lines in the planes of any axis enclose, with the lines, bool [k, j, i]."""
    filled = labels.copy()
    for axis in range(3):
        within_planes = ndimage.generate_binary_structure(3, 1)
        within_planes.swapaxes(axis, 0)[[0, 2]] = False
        filled |= ndimage.binary_fill_holes(labels, within_planes)
    return filled


def _take(shape: tuple[int, ...], coordinates: np.ndarray, allowed: np.ndarray, free: np.ndarray) -> list[Plane]:
    """Take the plane with the most voxels that are free and allowed to vote for it, again and again; `free` is updated."""
    chosen: list[Plane] = []
    counts = [np.bincount(coordinates[axis][free & allowed[axis]], minlength=shape[axis]) for axis in range(3)]
    while True:
        axis = int(np.argmax([count.max() for count in counts]))
        index = int(np.argmax(counts[axis]))
        if counts[axis][index] < SMALLEST_SECTION:
            return chosen
        members = free & (coordinates[axis] == index)
        counts[axis][index] = 0
        if _largest_piece(np.delete(coordinates[:, members], axis, 0)) < SMALLEST_SECTION:
            continue
        chosen.append(Plane(axis, index))
        for other in {0, 1, 2} - {axis}:
            counts[other] -= np.bincount(coordinates[other][members & allowed[other]], minlength=shape[other])
        free &= ~members


def _largest_piece(pixels: np.ndarray) -> int:
    """Return the number of pixels of the largest 8-connected piece among pixels [2, n]."""
    low = pixels.min(1, keepdims=True)
    image = np.zeros((pixels - low).max(1) + 1, bool)
    image[tuple(pixels - low)] = True
    pieces, count = ndimage.label(image, np.ones((3, 3)))
    return int(np.bincount(pieces.ravel())[1:].max()) if count else 0


def _needed(planes: list[Plane], coordinates: np.ndarray) -> list[Plane]:
    """Drop planes, smallest first, whose voxels the others explain but for a slip of the brush."""
    inside = {plane: coordinates[plane.axis] == plane.index for plane in planes}
    times = np.sum(list(inside.values()), axis=0, dtype=np.int32) if planes else np.zeros(0)
    kept = list(planes)
    for plane in sorted(planes, key=lambda plane: int(((times == 1) & inside[plane]).sum())):
        if ((times == 1) & inside[plane]).sum() < SMALLEST_SECTION:
            kept.remove(plane)
            times -= inside[plane]
    return kept


def _runs(indices: list[int]) -> list[list[int]]:
    """Split sorted indices into runs of neighbors."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _runs_by_axis(planes: list[Plane]) -> dict[int, list[list[int]]]:
    return {axis: _runs(sorted(plane.index for plane in planes if plane.axis == axis)) for axis in {plane.axis for plane in planes}}


def _is_dense(planes: list[Plane]) -> bool:
    """Tell whether no axis has a gap between its planes, while one has more of them than a brush is thick."""
    runs = _runs_by_axis(planes).values()
    return all(len(of_axis) == 1 for of_axis in runs) and any(len(of_axis[0]) > THICKEST_BRUSH for of_axis in runs)


def _without_thickness(labels: np.ndarray, planes: list[Plane]) -> list[Plane]:
    """Keep the middle plane of those that a thick brush painted at once."""
    kept = []
    for axis, runs in _runs_by_axis(planes).items():
        sections = np.moveaxis(labels, axis, 0)
        thickness = {len(run) for run in runs}
        brushed = len(runs) > 1 and thickness == {THICKEST_BRUSH} and all(_tapers(sections[run]) for run in runs)
        for run in runs:
            groups = [run] if brushed else _same_sections(sections, run)
            kept += [Plane(axis, group[(len(group) - 1) // 2]) for group in groups]
    return kept


def _tapers(sections: np.ndarray) -> bool:
    """Tell whether the middle one of sections [n, ., .] covers the others, as where a round brush has been drawn along it."""
    return not (sections & ~sections[len(sections) // 2]).any()


def _same_sections(sections: np.ndarray, run: list[int]) -> list[list[int]]:
    """Split a run of planes where what they show changes."""
    groups = [[run[0]]]
    for index in run[1:]:
        if np.array_equal(sections[index], sections[index - 1]):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _all_planes(labels: np.ndarray, spacing_kji_mm: np.ndarray | None) -> tuple[Plane, ...]:
    """Return every plane along the axis of thick slices, or refuse."""
    if spacing_kji_mm is not None:
        spacing = np.asarray(spacing_kji_mm, float)
        axis = int(np.argmax(spacing))
        if spacing[axis] >= COARSE_VOXELS * spacing.min():
            indices = np.flatnonzero(labels.any(tuple({0, 1, 2} - {axis})))
            return tuple(Plane(axis, int(index)) for index in indices)
    raise InputError(
        "The structure is outlined everywhere, so there is nothing to complete.",
        "Outline it on a few slices only, or name the slices that count (such as --planes k:10,k:18,k:26).",
    )
