"""Anatomy beyond the region: X-rays pass through it too, so that its share has to leave the images before the region is reconstructed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import zoom

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid

from .acquisition import Acquisition
from .config import ReconstructionConfig, SartSettings
from .coverage import default_region
from .voxels.projection import ViewOnGrid, project_volume
from .voxels.sart import SartState, run_sart

MARGIN = 2.0  # edge of the box that is looked at, over that of the region
VOXELS_ALONG = 56
CYCLES = 5
LEAST_SHARE = 0.02  # of all attenuation: less is not worth a correction, which has errors of its own
WORTH_A_WARNING = 0.25  # of all attenuation
ROOM_MM = 15.0  # on each side of a region that is a part of the anatomy
LEAST_WIDTH_MM = 90.0  # of such a region with its room, as far as
MOST_VOXELS_WITH_ROOM, MOST_TIMES_THE_VOXELS = 128**3, 4  # of the region's own allow it


def region_alone(
    acquisition: Acquisition, config: ReconstructionConfig, after_cycle: Callable[[float], None]
) -> tuple[Acquisition, tuple[slice, slice, slice], list[str]]:
    """Leave in the images what the region attenuates, and room around one that the user has laid into the anatomy.

    Args:
        acquisition: All views, in the frame of the region.
        config: The settings.
        after_cycle: Told the share of this work that is done.

    Returns:
        The acquisition to reconstruct; which voxels [k, j, i] of its grid are those of the region's; and sentences for the user.
    """
    alone, share = without_outside(acquisition, config.seed, after_cycle)
    kept = (slice(None),) * 3
    if share <= WORTH_A_WARNING:
        return alone, kept, []
    if config.region is not None:
        wider, kept = with_room(acquisition, config.spacing_mm)
        alone, _ = without_outside(wider, config.seed, after_cycle)
    warning = f"{min(share, 1):.0%} of what the X-rays show lies beyond the region of interest; a larger region is more accurate."
    return alone, kept, [warning]


def without_outside(acquisition: Acquisition, seed: int, after_cycle: Callable[[float], None]) -> tuple[Acquisition, float]:
    """Subtract from the images what a coarse reconstruction finds beyond the region.

    Args:
        acquisition: All views.
        seed: As for `run_sart`.
        after_cycle: Told the share of this work that is done.

    Returns:
        The acquisition without the outside, and the outside's share of all attenuation.
    """
    extent = _looked_at_mm(acquisition)
    if (extent <= acquisition.extent_mm).all():
        return acquisition, 0.0
    spacing = float(extent.max()) / VOXELS_ALONG
    grid = VoxelGrid.box(np.zeros(3), extent, spacing)
    factor = acquisition.binning_for(spacing)
    binned = acquisition.binned(factor)
    settings = SartSettings(CYCLES)
    state = SartState.of(np.zeros(grid.shape_kji))
    run_sart(binned, acquisition.training, grid, state, settings, seed, lambda s: after_cycle(s.cycle / CYCLES))
    beyond = state.volume * (1 - _share_inside(grid, acquisition.extent_mm))
    projections = np.stack([project_volume(beyond, ViewOnGrid.of(geometry, grid))[0] for geometry in binned.geometries])
    share = float((projections * binned.weights).sum() / max(float((binned.attenuation * binned.weights).sum()), 1e-9))
    if share < LEAST_SHARE:
        return acquisition, share
    shape = acquisition.attenuation.shape
    outside = np.stack([enlarged(image, factor, shape[1:]) for image in projections])
    return replace(acquisition, attenuation=acquisition.attenuation - outside * acquisition.weights), share


def _looked_at_mm(acquisition: Acquisition) -> np.ndarray:
    """Return the edges of the box that is looked at, [3]: `MARGIN` times the region's, but not far beyond what the views see."""
    try:
        seen = default_region(acquisition.geometries)
    except InputError:  # nothing that all of them see: the region was set by hand
        return MARGIN * acquisition.extent_mm
    reach = 2 * np.abs(seen.center_lps_mm) + MARGIN * np.array(seen.extent_mm)
    return np.clip(reach, acquisition.extent_mm, MARGIN * acquisition.extent_mm)


def with_room(acquisition: Acquisition, spacing_mm: float) -> tuple[Acquisition, tuple[slice, slice, slice]]:
    """Widen a region that is a part of the anatomy.

    What the coarse look beyond a region misses ends up in its outermost voxels, which are best not those of the result.

    Args:
        acquisition: Of the region.
        spacing_mm: Voxel pitch of the result.

    Returns:
        The acquisition of the wider region, and which of its grid's voxels [k, j, i] are those of the region's.
    """
    inner = np.array(acquisition.grid(spacing_mm).size_ijk)
    room = np.maximum(np.ceil(ROOM_MM / spacing_mm), np.ceil((LEAST_WIDTH_MM / spacing_mm - inner) / 2)).astype(int)
    while np.prod(inner + 2 * room) > max(MOST_VOXELS_WITH_ROOM, MOST_TIMES_THE_VOXELS * np.prod(inner)):
        room //= 2
    i, j, k = (slice(int(side), int(side + size)) for side, size in zip(room, inner, strict=True))
    return replace(acquisition, extent_mm=(inner + 2 * room) * spacing_mm), (k, j, i)


def _share_inside(grid, extent_mm: np.ndarray) -> np.ndarray:
    """Return the share of each voxel [k, j, i] that lies within the centered box."""
    shares = []
    for axis in range(3):
        centers = grid.origin_lps_mm[axis] + np.arange(grid.size_ijk[axis]) * grid.spacing_mm[axis]
        reach = (extent_mm[axis] + grid.spacing_mm[axis]) / 2 - np.abs(centers)
        shares.append(np.clip(reach / grid.spacing_mm[axis], 0, 1))
    i, j, k = shares
    return (k[:, None, None] * j[None, :, None] * i[None, None, :]).astype(np.float32)


def enlarged(image: np.ndarray, factor: int, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate a binned image back to full size; the border continues outwards."""
    enlarged = zoom(image, factor, order=1, mode="nearest", grid_mode=True) if factor > 1 else image
    missing = [(0, max(0, size - have)) for size, have in zip(shape, enlarged.shape, strict=True)]
    return np.pad(enlarged, missing, mode="edge")[: shape[0], : shape[1]].astype(np.float32)
