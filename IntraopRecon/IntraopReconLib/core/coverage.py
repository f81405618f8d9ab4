"""What the views constrain: where a voxel is seen, and from how different directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .acquisition import Acquisition
from .config import Region
from .voxels.resampling import resample

_MOST_POINTS = 32  # along an edge: coverage is smooth
_LEAST_DEPTH_MM = 1e-3


def default_region(views: Sequence[XrayView]) -> Region:
    """Return the cube around the largest sphere that half of the views see whole, centered where the central rays come closest together.

    Raises:
        InputError: There are no views, or they share no volume.
    """
    if not views:
        raise InputError("There are no usable X-rays.", "Add X-rays to the case.")
    centers = np.stack([view.pixel_lps_mm((np.array(view.size_px) - 1) / 2) for view in views])
    sources = np.stack([view.source_lps_mm for view in views])
    directions = centers - sources
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    # the small term holds the point between source and detector where all rays are parallel
    middles = (sources + centers) / 2
    matrix = across.sum(0) + 1e-6 * np.eye(3)
    center = np.linalg.solve(matrix, (across @ sources[:, :, None]).sum(0)[:, 0] + 1e-6 * middles.mean(0))
    radius = float(np.median([_clear_radius_mm(view, center) for view in views]))
    if not radius > 1:
        raise InputError(
            "The X-rays have no volume in common: some view does not see where the others cross.",
            "Check the poses, or set a region of interest by hand.",
        )
    return Region(tuple(float(x) for x in center), (2 * radius,) * 3)


def _clear_radius_mm(view: XrayView, center: np.ndarray) -> float:
    """Return the distance from a point to the nearest border plane of a view's cone; negative outside."""
    columns, rows = view.size_px
    corners = view.pixel_lps_mm(np.array([[-0.5, -0.5], [columns - 0.5, -0.5], [columns - 0.5, rows - 0.5], [-0.5, rows - 0.5]]))
    edges = corners - view.source_lps_mm
    inside = edges.mean(0)
    normals = np.cross(edges, np.roll(edges, -1, axis=0))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals *= np.sign(normals @ inside)[:, None]
    return float((normals @ (center - view.source_lps_mm)).min())


def coverage(acquisition: Acquisition, grid: VoxelGrid, device: str = "cpu") -> np.ndarray:
    """Return how well the views constrain each voxel.

    It is the share of views that see the voxel in an unmasked pixel, times the spread of their directions: 2 λ₂ / (λ₁ + λ₂) for the two
    larger eigenvalues of the mean outer product of the unit directions. One direction only gives 0 (unknown, not air); all views from
    well-spread directions give 1. It says what was measured, not how accurate the result is.

    Args:
        acquisition: The views, in the frame of the box.
        grid: In the frame of the box.
        device: Where it is computed, as torch calls it.

    Returns:
        float32 [k, j, i], 0 to 1.
    """
    import torch  # only here: `default_region` is wanted where there is none

    factor = max(1, int(np.ceil(max(grid.size_ijk) / _MOST_POINTS)))
    coarse = grid.coarsened(factor)
    points = torch.tensor(coarse.points_lps_mm().reshape(-1, 3), device=device)
    seen, outer = (torch.zeros(shape, dtype=points.dtype, device=device) for shape in (len(points), (3, 3, len(points))))
    for index in acquisition.used:
        view = acquisition.geometries[index]
        unmasked = torch.tensor(acquisition.weights[index] > 0, device=device)
        matrix, source = (torch.tensor(array, dtype=points.dtype, device=device) for array in (view.projection_matrix, view.source_lps_mm))
        column, row, depth = (points @ matrix[:, :3].T + matrix[:, 3]).unbind(1)
        pixels = [(across / depth.clamp(min=_LEAST_DEPTH_MM)).round() for across in (row, column)]
        sizes = unmasked.shape
        inside = torch.stack([(pixel >= 0) & (pixel < size) for pixel, size in zip(pixels, sizes, strict=True)]).all(0) & (depth > 0)
        inside &= unmasked[tuple(pixel.clamp(0, size - 1).long() for pixel, size in zip(pixels, sizes, strict=True))]
        rays = points - source
        rays = (inside[:, None] * rays / rays.norm(dim=1, keepdim=True)).T
        seen += inside
        outer += rays[:, None] * rays[None]
    eigenvalues = torch.linalg.eigvalsh(outer.permute(2, 0, 1))
    top = eigenvalues[:, 2] + eigenvalues[:, 1]
    spread = torch.where(top > 1e-9, 2 * eigenvalues[:, 1] / top.clamp(min=1e-9), 0)
    result = (seen / len(acquisition.used) * spread.clamp(0, 1)).reshape(coarse.shape_kji).float().cpu().numpy()
    return resample(result, coarse, grid)
