"""The picture of a calibrated X-ray: what was detected, what the pose explains, and how far off it is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .calibration.solve import SolvedShot

GRADE_COLORS = {"green": "#2c7a4b", "amber": "#b86e00", "red": "#9c2a1d"}
MATCHED, UNEXPLAINED, EXPECTED, ARROW = "#35d07f", "#ff5d4a", "#5fb8ff", "#ffd23f"
ARROW_SHARE = 0.06  # of the image's width: how long the longest arrow is drawn
MAGNIFICATIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
RING_MARGIN_SHARE = 0.006  # of the image's width, around a bead
WINDOW_MARGIN_SHARE = 0.08  # of the image's width, around the beads: what the contrast is set for
_WIDTH_IN, _ABOVE_IN, _BELOW_IN, _DPI = 8.0, 0.6, 0.4, 110


def write_picture(path: Path, solved: SolvedShot, entry: Mapping[str, Any]) -> None:
    """Draw an X-ray with its beads.

    Args:
        path: PNG file.
        solved: The X-ray.
        entry: The same in calibration.json; each of its beads is drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    rows, columns = solved.shot.radiograph.intensity.shape
    height = _WIDTH_IN * rows / columns
    total = height + _BELOW_IN + _ABOVE_IN
    figure = Figure(figsize=(_WIDTH_IN, total), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, _BELOW_IN / total, 1, height / total))
    axes.imshow(_shown(solved), cmap="gray", vmin=0, vmax=1, interpolation="nearest" if columns < 700 else "antialiased")
    axes.set_axis_off()
    margin, beads = RING_MARGIN_SHARE * columns, entry["beads"]
    for bead in beads:
        color, style = _look(bead)
        column, row = bead["center_px"]
        axes.add_patch(Circle((column, row), bead["radius_px"] + margin, fill=False, color=color, lw=1.3, ls=style))
        if bead["number"] is not None:
            offset = bead["radius_px"] + 1.6 * margin
            axes.annotate(str(bead["number"]), (column + offset, row - offset), color=color, fontsize=7.5, annotation_clip=True)
    magnification = _draw_residuals(axes, beads, columns)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    grade = entry["grade"]
    banner = {"facecolor": GRADE_COLORS[grade], "edgecolor": "none", "pad": 5}
    figure.text(0.012, 1 - 0.26 / total, grade.upper(), color="white", fontsize=11, weight="bold", va="center", bbox=banner)
    text = {"va": "center", "parse_math": False}  # a $ in a name begins no formula
    figure.text(0.125, 1 - 0.21 / total, _fitted(headline(entry), 92), color="black", fontsize=10.5, **text)
    reason = entry["problems"][0]["message"] if entry["problems"] else ""
    reason = reason if len(reason) < 118 else reason[:116] + "…"
    figure.text(0.125, 1 - 0.43 / total, reason, color=GRADE_COLORS[grade], fontsize=8.5, **text)
    marks = [("explained by the pose", MATCHED, "-"), ("not explained", UNEXPLAINED, "-"), ("expected, not detected", EXPECTED, ":")]
    handles = [Line2D([], [], color=color, ls=style, lw=1.6, label=label) for label, color, style in marks]
    if magnification:
        handles.append(Line2D([], [], color=ARROW, lw=2, label=f"residual, drawn {magnification} × as long"))
    figure.legend(handles=handles, loc="lower left", ncols=4, fontsize=8.5, frameon=False, bbox_to_anchor=(0, -0.004), columnspacing=1.4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # boxes stand for what the font lacks
        figure.savefig(path, format="png")


def headline(entry: Mapping[str, Any]) -> str:
    """Return what a view shows, in a line."""
    if not entry["looked_at"]:
        return f"{entry['name']}: not searched for beads"
    found = sum(bead["origin"] != "expected" for bead in entry["beads"])
    if entry["reprojection_rms_px"] is None:
        return f"{entry['name']}: {found} beads found, no pose"
    return f"{entry['name']}: {entry['explained']} of {found} beads explained, off by {entry['reprojection_rms_px']:.2f} px (RMS)"


def _fitted(text: str, most: int) -> str:
    """Return a text whose beginning is left out if it is too long."""
    return text if len(text) <= most else "…" + text[1 - most :]


def _shown(solved: SolvedShot) -> np.ndarray:
    """Return the X-ray from 0 to 1 with metal bright, contrast stretched; what the mask leaves out is dark gray."""
    image = solved.shot.image
    if image is None:
        values, mask = -solved.shot.radiograph.intensity, solved.shot.radiograph.mask
    else:
        values, mask = image.attenuation, image.mask
    if not mask.any():
        return np.full(values.shape, 0.25)
    near = mask & _around_beads(solved, values.shape)  # collimators and air beside would take the contrast
    low, high = np.percentile(values[near if near.any() else mask], (1, 99.8))
    return np.where(mask, np.clip((values - low) / max(high - low, 1e-6), 0, 1), 0.25)


def _around_beads(solved: SolvedShot, shape: tuple[int, ...]) -> np.ndarray:
    """Return the box around the beads and a margin, bool [row, column]; everything where there are none."""
    near = np.zeros(shape, bool)
    pixel = solved.shot.pixel if len(solved.shot.beads) > 1 else np.array([[0.0, 0.0], shape[::-1]])
    margin = WINDOW_MARGIN_SHARE * shape[1]
    (left, top), (right, bottom) = (pixel.min(0) - margin).clip(0).astype(int), (pixel.max(0) + margin).astype(int)
    near[top : bottom + 1, left : right + 1] = True
    return near


def _look(bead: Mapping[str, Any]) -> tuple[str, str]:
    if bead["origin"] == "expected":
        return EXPECTED, ":"
    return (MATCHED, "-") if bead["residual_px"] is not None else (UNEXPLAINED, "-")


def _draw_residuals(axes: Any, beads: list[Mapping[str, Any]], columns: int) -> int:
    """Draw an arrow from each bead towards where the pose has it; return how much longer than true, 0 where there is nothing to draw."""
    matched = [bead for bead in beads if bead["residual_px"] is not None]
    longest = max((float(np.hypot(*bead["residual_px"])) for bead in matched), default=0.0)
    if longest <= 0:
        return 0
    wanted = ARROW_SHARE * columns / longest
    magnification = max((step for step in MAGNIFICATIONS if step <= wanted), default=1)
    for bead in matched:
        start = np.array(bead["center_px"])
        end = start + magnification * np.array(bead["residual_px"])
        arrow = {"arrowstyle": "-|>,head_width=0.14,head_length=0.28", "color": ARROW, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end, start, arrowprops=arrow, annotation_clip=False)
    return magnification
