"""The pictures of the case report, each returned as a data URI that an <img> can show."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from SparseAnatomyLib.grid import VoxelGrid

from .reconstruction import CurvePoint, Reconstruction
from .xrays.radiograph import MeasuredView

DIFFERENCE_SHARE = 0.1  # the difference's color scale ends at this share of the X-rays' display maximum
_TILE_PX = 256
_UNKNOWN_RGB = (np.array([0.93, 0.66, 0.20]), np.array([0.36, 0.27, 0.12]))  # the two stripes of the hatching


def display_maximum(views: Sequence[MeasuredView]) -> float:
    """Return the attenuation that X-rays are shown white at: common to all, so that they can be compared."""
    return max([1e-6, *(float(np.percentile(view.attenuation[view.mask], 99.9)) for view in views if view.mask.any())])


def view_strip(measured: np.ndarray, reprojected: np.ndarray, mask: np.ndarray, upper: float) -> str:
    """Show a view: measured, reprojected, and their difference (red: the volume attenuates too little, blue: too much).

    Args:
        measured: Attenuation, [row, column].
        reprojected: The same.
        mask: bool [row, column]; hatched where False.
        upper: Attenuation shown white.
    """
    tiles = _tiles(measured, reprojected, mask, upper)
    images = [Image.fromarray((255 * tile).astype(np.uint8)) for tile in tiles]
    height = round(_TILE_PX * measured.shape[0] / measured.shape[1])
    strip = Image.new("RGB", (3 * _TILE_PX + 8, height), "white")
    for index, image in enumerate(images):
        strip.paste(image.resize((_TILE_PX, height), Image.Resampling.LANCZOS), (index * (_TILE_PX + 4), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=85)
    return _data_uri(buffer, "jpeg")


def view_picture(measured: np.ndarray, reprojected: np.ndarray, mask: np.ndarray) -> dict[str, Image.Image]:
    """Return a view in pixels of its own: `measured`, `reprojected` and `difference`, in the colors of `view_strip`; arguments as there."""
    upper = max(1e-6, float(np.percentile(measured[mask], 99.9)) if mask.any() else 0.0)
    tiles = (Image.fromarray((255 * tile).astype(np.uint8)) for tile in _tiles(measured, reprojected, mask, upper))
    return dict(zip(("measured", "reprojected", "difference"), tiles, strict=True))


def _tiles(measured: np.ndarray, reprojected: np.ndarray, mask: np.ndarray, upper: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a view, its reprojection and their difference in colors 0 to 1, [row, column, 3] each."""
    unknown = _hatched(measured.shape, period_px=max(4, measured.shape[1] // 32))
    difference = np.clip((measured - reprojected) / (DIFFERENCE_SHARE * upper), -1, 1)[..., None]
    signed = np.where(difference > 0, 1 - difference * [0.15, 0.85, 0.85], 1 + difference * [0.85, 0.6, 0.1])
    known, signed = (np.where(mask[..., None], tile, unknown) for tile in (_grey(measured / upper), signed))
    return known, _grey(reprojected / upper), signed


def slices(reconstruction: Reconstruction, bone_threshold_per_mm: float) -> str:
    """Show three orthogonal slices through the middle of the bone, unknown voxels (coverage 0) hatched.

    Slices follow the grid's axes; each is shown as the patient's axis next to it, patient's left on the right (radiological convention).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    volume, spacing_spl = _nearest_to_lps(reconstruction.attenuation_per_mm, reconstruction.grid)
    coverage, _ = _nearest_to_lps(reconstruction.coverage, reconstruction.grid)
    known = coverage > 0
    bone = np.argwhere((volume > bone_threshold_per_mm) & known)
    s, p, left = (bone.mean(0) if len(bone) else np.array(volume.shape) / 2).astype(int)
    upper = max(float(np.percentile(volume[known], 99.9)) if known.any() else 0.0, bone_threshold_per_mm)
    planes = [
        ("Axial", (s, slice(None), slice(None)), (spacing_spl[1], spacing_spl[2]), "ARPL"),
        ("Coronal", (slice(None, None, -1), p, slice(None)), (spacing_spl[0], spacing_spl[2]), "SRIL"),
        ("Sagittal", (slice(None, None, -1), slice(None), left), (spacing_spl[0], spacing_spl[1]), "SAIP"),
    ]
    legible = {"color": "white", "path_effects": [withStroke(linewidth=3, foreground="black")]}  # on bone and hatching alike
    figure = Figure(figsize=(12, 4.3), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, index, (row_mm, column_mm), letters) in zip(figure.subplots(1, 3), planes, strict=True):
        picture, seen = volume[index], known[index]
        height, width = picture.shape[0] * row_mm, picture.shape[1] * column_mm
        size = (round(480 * width / max(width, height)), round(480 * height / max(width, height)))
        grey = _resized(np.clip(picture / upper, 0, 1), size)
        shown = np.where(_resized(seen.astype(float), size)[..., None] >= 0.5, _grey(grey), _hatched(size[::-1], 12))
        axes.imshow(shown, extent=(0, width, height, 0), interpolation="bilinear")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
        for letter, (x, y) in zip(letters, ((0.5, 0.96), (0.03, 0.5), (0.5, 0.04), (0.97, 0.5)), strict=True):
            axes.text(x, y, letter, transform=axes.transAxes, fontsize=10, ha="center", va="center", weight="bold", **legible)
        axes.plot([0.95 * width - 50, 0.95 * width], [0.97 * height] * 2, color="white", lw=2, path_effects=legible["path_effects"])
        axes.text(0.95 * width - 25, 0.96 * height, "50 mm", fontsize=8, ha="center", va="bottom", **legible)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": 88})
    return _data_uri(buffer, "jpeg")


def curve(points: Sequence[CurvePoint]) -> str:
    """Show the error on the withheld views against time, the points of a stage in one color; an empty string where no error is known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    points = [point for point in points if np.isfinite(point.withheld_rmse)]
    if not points:
        return ""
    figure = Figure(figsize=(7.5, 3), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([p.seconds for p in points], [p.withheld_rmse for p in points], color="0.8", lw=1.2, zorder=1)
    for stage in dict.fromkeys(point.stage for point in points):
        of_stage = [point for point in points if point.stage == stage]
        axes.plot([p.seconds for p in of_stage], [p.withheld_rmse for p in of_stage], marker="o", ms=4, lw=1.4, label=stage)
    if all(point.withheld_rmse > 0 for point in points):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("seconds")
    axes.set_ylabel("RMSE on withheld views\n(line integral)")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _data_uri(buffer, "png")


def _nearest_to_lps(array: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Turn and flip an array [k, j, i] so that its axes point most nearly to superior, posterior, left; with its spacing so ordered."""
    lps_axes, ijk_axes = linear_sum_assignment(-np.abs(grid.direction))
    ijk_of_lps = dict(zip(lps_axes, ijk_axes, strict=True))
    order = [ijk_of_lps[2], ijk_of_lps[1], ijk_of_lps[0]]
    turned = np.transpose(array, [2 - axis for axis in order])
    flips = tuple(slice(None, None, -1 if grid.direction[lps, ijk] < 0 else 1) for lps, ijk in zip((2, 1, 0), order, strict=True))
    return turned[flips], grid.spacing_mm[order]


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def _grey(values: np.ndarray) -> np.ndarray:
    """Return RGB [row, column, 3] of values in 0..1."""
    return np.repeat(np.clip(values, 0, 1)[..., None], 3, -1)


def _hatched(shape: tuple[int, ...], period_px: int) -> np.ndarray:
    """Return diagonal stripes that no tissue looks like, also in black and white print, RGB [row, column, 3]."""
    rows, columns = np.indices(shape)
    return np.where(((rows + columns) % period_px < period_px / 2)[..., None], *_UNKNOWN_RGB)


def _data_uri(buffer: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
