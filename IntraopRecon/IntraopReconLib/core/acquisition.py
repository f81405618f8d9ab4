"""The measured views made ready for a reconstruction: one frame, one image size, several resolutions, some views withheld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .config import Region
from .xrays.radiograph import MeasuredView

MOST_WITHHELD = 2
VIEWS_PER_WITHHELD = 6  # fewer views are too precious to withhold one


@dataclass(frozen=True, eq=False)
class Acquisition:
    """All views in the frame of the region's box: origin at its center, axes along its edges, mm.

    Attributes:
        lps_from_box: [4, 4] rigid.
        extent_mm: Edge lengths of the box, [3].
        geometries: One XrayView per view, in the frame of the box.
        attenuation: float32 [view, row, column]; smaller images are padded at the far borders.
        weights: 1 where the attenuation counts, 0 where it does not, float32 [view, row, column].
        withheld: Indices of the views that judge the reconstruction and do not enter it.
        left_out: Indices of views that take no part at all, as they contradict the others.
    """

    lps_from_box: np.ndarray
    extent_mm: np.ndarray
    geometries: list[XrayView]
    attenuation: np.ndarray
    weights: np.ndarray
    withheld: np.ndarray
    left_out: np.ndarray = field(default_factory=lambda: np.empty(0, int))

    @property
    def used(self) -> np.ndarray:
        """Indices of the views that take part."""
        return np.setdiff1d(np.arange(len(self.geometries)), self.left_out)

    @property
    def training(self) -> np.ndarray:
        """Indices of the views that enter the reconstruction."""
        return np.setdiff1d(self.used, self.withheld)

    @cached_property
    def pixel_at_center_mm(self) -> float:
        """Median over the views of what a pixel measures at the center of the box."""
        sizes = [g.pixel_pitch_mm.mean() * g.depth_mm(np.zeros(3)) / g.source_to_detector_mm for g in self.geometries]
        return float(np.median(sizes))

    def grid(self, spacing_mm: float, margin: float = 1.0) -> VoxelGrid:
        """Return the grid over the box, `margin` times as wide, in the frame of the box."""
        return VoxelGrid.box(np.zeros(3), self.extent_mm * margin, spacing_mm)

    def lps_grid(self, spacing_mm: float) -> VoxelGrid:
        """Return the same grid in LPS."""
        return VoxelGrid.box(self.lps_from_box[:3, 3], self.extent_mm, spacing_mm, self.lps_from_box[:3, :3])

    def binning_for(self, spacing_mm: float) -> int:
        """Return the power of two by which images can be binned without losing what voxels of this pitch can show."""
        return 2 ** max(0, int(np.log2(max(1.0, spacing_mm / self.pixel_at_center_mm))))

    def without(self, left_out: np.ndarray, seed: int) -> Acquisition:
        """Return the acquisition in which some views, given by their indices, take no part; those withheld are drawn again if need be."""
        withheld = self.withheld
        if np.isin(withheld, left_out).any():
            withheld = _drawn(np.setdiff1d(np.arange(len(self.geometries)), left_out), seed)
        return replace(self, left_out=left_out, withheld=withheld)

    def binned(self, factor: int) -> Acquisition:
        """Return the acquisition with means over factor × factor pixels, those without weight left out."""
        if factor == 1:
            return self
        weights = _block_means(self.weights, factor)
        sums = _block_means(self.attenuation * self.weights, factor)
        attenuation = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
        geometries = [_resized(g.binned(factor), attenuation.shape) for g in self.geometries]
        return replace(self, geometries=geometries, attenuation=attenuation, weights=(weights >= 0.5).astype(np.float32))


def prepare(views: Sequence[MeasuredView], region: Region, seed: int) -> Acquisition:
    """Bring measured views into the frame of a region.

    Args:
        views: As the case gives them.
        region: The box to reconstruct.
        seed: Draws the withheld views.

    Raises:
        InputError: Too few views, a view without usable pixels or with NaN, or a region that no view sees.
    """
    _check(views)
    lps_from_box = affine(np.array(region.direction), np.array(region.center_lps_mm))
    box_from_lps = np.linalg.inv(lps_from_box)
    rows, columns = (max(v.attenuation.shape[axis] for v in views) for axis in (0, 1))
    attenuation, weights = (np.zeros((len(views), rows, columns), np.float32) for _ in range(2))
    for index, view in enumerate(views):
        r, c = view.attenuation.shape
        weights[index, :r, :c] = view.mask
        attenuation[index, :r, :c] = np.where(view.mask, view.attenuation, 0)
    geometries = [_resized(view.geometry.transformed(box_from_lps), attenuation.shape) for view in views]
    withheld = _drawn(np.arange(len(views)), seed)
    acquisition = Acquisition(lps_from_box, np.array(region.extent_mm, float), geometries, attenuation, weights, withheld)
    _check_region(acquisition)
    return acquisition


def _drawn(views: np.ndarray, seed: int) -> np.ndarray:
    """Return the indices of the views to withhold, drawn from those given."""
    count = min(MOST_WITHHELD, len(views) // VIEWS_PER_WITHHELD)
    return np.sort(np.random.default_rng(seed).permutation(views)[:count])


def _check(views: Sequence[MeasuredView]) -> None:
    if len(views) < 2:
        raise InputError(f"There are {len(views)} usable X-rays; a volume needs at least 2.", "Add X-rays from other directions.")
    for view in views:
        if not view.mask.any():
            raise InputError(f"{view.name}: every pixel is masked out.", "Leave this image out of the case.")
        measured = view.attenuation[view.mask]
        if not np.isfinite(measured).all():
            raise InputError(f"{view.name}: the image holds NaN or infinite values.", "Export this image again or leave it out.")
    if all(view.attenuation[view.mask].max() <= 0 for view in views):
        raise InputError("No X-ray shows anything that attenuates.", "Check that the images are X-rays and that air_intensity is right.")


def _check_region(acquisition: Acquisition) -> None:
    """Refuse a box whose corners and center all project outside every image."""
    probes = np.concatenate([acquisition.grid(1.0).corners_lps_mm() * 0.5, np.zeros((1, 3))])
    columns, rows = acquisition.attenuation.shape[2], acquisition.attenuation.shape[1]
    for geometry in acquisition.geometries:
        px = geometry.project(probes)
        in_front = (geometry.depth_mm(probes) > 0) & (geometry.depth_mm(probes) < geometry.source_to_detector_mm)
        if (in_front & (px >= -0.5).all(1) & (px[:, 0] <= columns - 0.5) & (px[:, 1] <= rows - 0.5)).any():
            return
    raise InputError("The region of interest lies outside every view.", "Move the region to where the X-rays cross.")


def _resized(view: XrayView, shape: tuple[int, ...]) -> XrayView:
    """Return the view with the size of the padded images."""
    return replace(view, size_px=(shape[2], shape[1]))


def _block_means(images: np.ndarray, factor: int) -> np.ndarray:
    count, rows, columns = images.shape
    kept = images[:, : max(factor, rows // factor * factor), : max(factor, columns // factor * factor)]
    padded = np.pad(kept, ((0, 0), (0, -kept.shape[1] % factor), (0, -kept.shape[2] % factor)))
    blocks = padded.reshape(count, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    return blocks.mean((2, 4), dtype=np.float32)
