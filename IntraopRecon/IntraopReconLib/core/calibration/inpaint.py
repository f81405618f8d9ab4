"""Beads and wires taken out of X-ray images: where they were, the image goes on from around, and the mask says not to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from IntraopReconLib.core.calibration_config import InpaintSettings
from SparseAnatomyLib.checks import check_array

from .beads import Bead

RIM_PX = 5  # the plate is held by so many rows of pixels around the hole
LEAST_TENSION = 1e-9  # keeps a spur of single pixels from hanging free


@dataclass(frozen=True, eq=False)
class Wire:
    """A wire, or any other line of metal.

    Attributes:
        point_px: Corners of its center line (column, row), [corner, 2].
        width_px: Across.
    """

    point_px: NDArray[np.float64]
    width_px: float


@dataclass(frozen=True, eq=False)
class Inpainted:
    """An image without its beads.

    Attributes:
        image: The image, filled where the holes are, float [row, column].
        mask: Usable pixels that were measured, bool [row, column]: what the loss of a reconstruction may count.
        hole: Usable pixels that were filled, bool [row, column].
    """

    image: np.ndarray
    mask: np.ndarray
    hole: np.ndarray


def inpaint(
    image: np.ndarray, mask: np.ndarray, beads: Sequence[Bead], wires: Sequence[Wire] = (), settings: InpaintSettings | None = None
) -> Inpainted:
    """Take beads and wires out of an image.

    Args:
        image: Attenuation, float [row, column].
        mask: Usable pixels, bool [row, column].
        beads: What `find_beads` found, and what was added by hand.
        wires: Lines of metal.
        settings: How far they reach and how they are filled.

    Returns:
        The filled image with its masks.

    Raises:
        ValueError: Image and mask have different shapes.
    """
    settings = settings or InpaintSettings()
    if image.ndim != 2 or mask.shape != image.shape:
        raise ValueError(f"image and mask: expected one shape [row, column], got {list(image.shape)} and {list(mask.shape)}.")
    hole = metal_mask(image.shape, beads, wires, settings) & mask
    return Inpainted(fill(image, mask, hole, settings), mask & ~hole, hole)


def metal_mask(shape: tuple[int, int], beads: Sequence[Bead], wires: Sequence[Wire], settings: InpaintSettings) -> NDArray[np.bool_]:
    """Return where beads and wires are, grown over their halos.

    Args:
        shape: (rows, columns).
        beads: Beads.
        wires: Lines of metal.
        settings: How far they are grown.

    Returns:
        Bool [row, column].
    """
    metal = np.zeros(shape, dtype=bool)
    for bead in beads:
        place = np.array(bead.center_px)
        _add_capsule(metal, place, place, (1 + settings.halo_share) * bead.radius_px + settings.halo_px)
    for wire in wires:
        corners = check_array("point_px", wire.point_px, (None, 2))
        for start, end in zip(corners, [*corners[1:], corners[-1]], strict=True):
            _add_capsule(metal, start, end, wire.width_px / 2 + settings.halo_px)
    return metal


def _add_capsule(mask: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> None:
    """Set the pixels within a radius of the line between two points (column, row)."""
    low = np.floor(np.minimum(start, end) - radius).astype(int).clip(0)
    high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
    part = mask[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if not part.size:
        return
    row, column = np.indices(part.shape)
    offset = np.stack([column + low[0], row + low[1]], axis=-1) - start
    line = end - start
    share = np.clip(offset @ line / max(line @ line, 1e-12), 0, 1)
    part |= np.hypot(*np.moveaxis(offset - share[..., None] * line, -1, 0)) <= radius


def fill(image: np.ndarray, mask: np.ndarray, hole: np.ndarray, settings: InpaintSettings) -> np.ndarray:
    """Fill holes with a thin plate under tension that is held by the pixels around.

    The plate u minimizes the sum of (Δu)² + tension · |∇u|² + (u - image)² / smoothing⁴, the latter over the pixels around the hole. Pixels
    outside the mask do not hold it: there it ends free.

    Args:
        image: Float [row, column].
        mask: Usable pixels, bool [row, column].
        hole: Pixels to fill, bool [row, column].
        settings: Tension and smoothing.

    Returns:
        The image, changed in the hole only; a hole that no usable pixel touches is left as it is.
    """
    filled = image.copy()
    known = mask & ~hole
    label, _ = ndimage.label(ndimage.binary_dilation(hole & mask, iterations=RIM_PX))
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        near = (label[box] == number) & mask[box]
        held = near & known[box]
        if held.any():
            height = np.zeros(near.shape)
            height[near] = _plate(image[box][near].astype(float), near, held[near], settings)
            filled[box][near & hole[box]] = height[near & hole[box]]
    return filled


def _plate(values: np.ndarray, near: np.ndarray, held: np.ndarray, settings: InpaintSettings) -> NDArray[np.float64]:
    """Return the heights of a plate that springs pull to the values where it is held.

    Args:
        values: What is measured, [pixel].
        near: The pixels that the plate covers, bool [row, column].
        held: Which of them hold it, bool [pixel].
        settings: Tension and smoothing.

    Returns:
        Heights, [pixel].
    """
    count = np.count_nonzero(near)
    number = np.full(near.shape, -1)
    number[near] = np.arange(count)
    right, down = near[:, 1:] & near[:, :-1], near[1:] & near[:-1]
    one = np.concatenate([number[:, 1:][right], number[1:][down]])
    other = np.concatenate([number[:, :-1][right], number[:-1][down]])
    links = sparse.coo_array((np.ones(len(one)), (one, other)), shape=(count, count)).tocsr()
    links = links + links.T
    degree = links.sum(axis=1)
    laplacian = sparse.diags_array(degree) - links
    bends = laplacian.multiply((degree == 4)[:, None]).tocsr()  # where the plate ends, it ends free
    spring = held * settings.smoothing_px**-4
    energy = bends.T @ bends + max(settings.tension, LEAST_TENSION) * laplacian + sparse.diags_array(spring)
    return spsolve(energy.tocsc(), spring * values)
