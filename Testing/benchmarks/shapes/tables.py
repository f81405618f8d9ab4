"""Results of the shape benchmarks as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from Testing.benchmarks.table import provenance_line, table

README_MARKS = ("<!-- shapes:start -->", "<!-- shapes:end -->")
PARTS = ("shapes", "shapes_timing")
_DETAILED, _OTHERS = "sagittal 8 mm", ("sagittal 16 mm", "coronal 8 mm", "axial 8 mm")
_STEPS, _ENDS = ("1", "50", "100", "converged"), ("1", "100")
_NOTHING = ""
_CARD_LAYOUTS = ("sagittal 8 mm", "sagittal 16 mm", "coronal 8 mm", "axial 8 mm", "oblique 8 mm", "three planes")
_TARGET = "ours (slices"
_PAPER = "the paper's"


def markdown(parts: dict[str, dict[str, Any]]) -> list[str]:
    """Return the paragraphs and tables of all parts, whole.

    Args:
        parts: `shapes`, `shapes_timing` as `run` wrote them; each may be absent.
    """
    texts = []
    if "shapes" in parts:
        part = parts["shapes"]
        texts += ["## Shapes: accuracy", provenance_line(part["provenance"]), legend(part), detailed_table(part), other_tables(part)]
        if part.get("robustness"):
            texts += ["### Shapes that were moved, and three planes", robustness_table(part["robustness"])]
        if "priors" in part:  # a run of chosen methods has none
            texts += ["### Priors that ship, on patients left out of their training", prior_table(part["priors"])]
            texts += ["### Priors on anatomy that they never saw", transfer_table(part["transfer"])]
    if "shapes_timing" in parts:
        texts += ["## Shapes: time", provenance_line(parts["shapes_timing"]["provenance"]), timing_text(parts["shapes_timing"])]
    return texts


_CARDS = (
    "The priors that come along, on patients left out of their training: one optimization step, empty planes known, mean over all offsets "
    "of the slices in steps of 2 mm; from their cards."
)
_TRANSFER = "Anatomy that the prior never saw, every 8 mm (Dice; *unseen* are sacrum and pelvis)."
_COMPARED = "The methods side by side, each trained for two minutes only:"


def readme_section(parts: dict[str, dict[str, Any]]) -> str:
    """Return what the README quotes: the priors that ship, the comparison at every 8 mm and the times."""
    texts = []
    if "shapes" in parts:
        part = parts["shapes"]
        texts += [_CARDS, prior_table(part.get("priors", [])), _COMPARED, detailed_table(part), legend(part)]
        if part.get("transfer"):
            newer = ", ".join(part.get("newer", []))
            since = f" Measured with earlier priors, trained for fewer steps than those that ship: {newer}." if newer else ""
            texts += [f"{_TRANSFER}{since}", transfer_table(part["transfer"])]
        texts.append(provenance_line(part["provenance"]))
    if "shapes_timing" in parts:
        texts += [timing_text(parts["shapes_timing"]), provenance_line(parts["shapes_timing"]["provenance"])]
    return "\n\n".join(texts)


def legend(part: dict[str, Any]) -> str:
    """Return what the tables show and what they cannot."""
    settings, fold = part["settings"], part["fold"]
    return (
        f"DSC (Dice) and ASD (mm) after that many optimization steps, mean over {len(fold['held_out'])} vertebrae "
        f"({', '.join(fold['held_out'])}), one offset of the planes each; empty planes are known to be empty, as in the paper. "
        f"All that learns was trained on the other {len(fold['trained_on'])} vertebrae alone, on one thread, for "
        f"{settings['budget_s']:g} processor seconds each (seed {settings['seed']}): the paper trained 287 vertebrae on a GPU, and the "
        "priors that ship are trained longer; rates are larger than the paper's to make up for it. Each step sees 1,024 pixels of the "
        "slices, drawn anew; the paper's sees all. Converged: no lower loss for 10 steps on pixels that stay the same, "
        f"{settings['most_steps']} at most."
    )


def detailed_table(part: dict[str, Any]) -> str:
    """Return the paper's Table 2 with Table 6 (a): every 8 mm along the sagittal axis."""
    header = ("sagittal, every 8 mm", *(f"DSC {at}" for at in _STEPS), "steps", "ASD 1", "ASD 100", "training, CPU s (steps)")
    lines = []
    for row in part["methods"]:
        found = row.get("layouts", {}).get(_DETAILED, {})
        cells = [
            *(_dice(found.get(at)) for at in _STEPS),
            _number(found.get("converged"), "steps", ".0f"),
            *(_asd(found.get(at)) for at in _ENDS),
        ]
        lines.append(_line(row, [*cells, _training(row)]))
    return table(header, lines)


def other_tables(part: dict[str, Any]) -> str:
    """Return the paper's Tables 3, 6 (b) and 7: wider apart, and along the other axes."""
    header = ("", *(f"{layout}: {what} {at}" for layout in _OTHERS for what in ("DSC", "ASD") for at in _ENDS))
    lines = []
    for row in part["methods"]:
        cells = []
        for layout in _OTHERS:
            found = row.get("layouts", {}).get(layout, {})
            cells += [*(_dice(found.get(at)) for at in _ENDS), *(_asd(found.get(at)) for at in _ENDS)]
        lines.append(_line(row, cells))
    return table(header, lines)


def robustness_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return what moving costs, against the first row."""
    start = rows[0]["dice inr"]
    lines = [[row["name"], f"{row['dice interpolate']:.3f}", f"{row['dice inr']:.3f}", f"{row['dice inr'] - start:+.3f}"] for row in rows]
    return table(("", "interpolation", "ours", "against the first row"), lines)


def prior_table(priors: Sequence[dict[str, Any]]) -> str:
    """Return the figures on the priors' cards."""
    if not priors:
        return "No prior ships with this commit."
    lines = []
    for prior in priors:
        for layout in _CARD_LAYOUTS:
            figures = prior["figures"].get(layout)
            if figures:
                keys = ("dice interpolate", "dice inr", "calibration error")
                lines.append([prior["title"], layout, *(f"{figures[key]:.3f}" for key in keys), f"{figures['shapes']:.0f}"])
    return table(("prior", "planes", "interpolation DSC", "ours DSC", "calibration error", "shapes"), lines)


def transfer_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return what `auto` makes of anatomy that a prior never saw, beside interpolation."""
    if not rows:
        return "No prior ships with this commit."
    lines = [
        [
            f"{row['prior']} on {row['anatomy']}",
            *(f"{row[key]:.3f}" for key in ("dice interpolate", "dice inr", "dice auto")),
            f"{row['dice auto'] - row['dice interpolate']:+.3f}",
            f"{100 * row['auto took inr']:.0f} %",
        ]
        for row in rows
    ]
    mean = sum(row["dice auto"] - row["dice interpolate"] for row in rows) / len(rows)
    lines.append(["mean", "", "", "", f"{mean:+.3f}", ""])
    return table(("prior and anatomy", "interpolation", "ours always", "auto", "auto - interpolation", "auto took ours"), lines)


def timing_text(part: dict[str, Any]) -> str:
    """Return the stages, the methods and the ratio that the issue asks for."""
    size = " × ".join(str(n) for n in part["grid"])
    rows, runs = part["rows"], part["rows"][0]["runs"]
    stages = table(
        ("stage", "wall ms", "CPU ms"), [[row["name"], f"{row['wall_ms']:.1f}", f"{row['cpu_ms']:.1f}"] for row in part["stages"]]
    )
    lines = [
        [row["name"], f"failed: {row['failure']}", "", ""]
        if "failure" in row
        else [row["name"], f"{row['wall_ms']:,.0f}", f"{row['cpu_ms']:,.0f}", row["runs"]]
        for row in rows
    ]
    named = {prefix: next((row for row in rows if row["name"].startswith(prefix)), {}) for prefix in (_TARGET, _PAPER)}
    ratio = named[_PAPER]["cpu_ms"] / named[_TARGET]["cpu_ms"]
    text = (
        f"{part['shape']}, {size} voxels, sagittal planes every 8 mm, warm, median of {runs} runs (of the slow ones fewer), prior: "
        f"{part['prior']}. The paper's pipeline takes {ratio:.0f} times our processor time."
    )
    return "\n\n".join([text, stages, table(("", "wall ms", "CPU ms", "runs"), lines)])


def _line(row: dict[str, Any], cells: list[str]) -> list[str]:
    if "failure" in row:
        return [row["name"], f"failed: {row['failure']}", *[_NOTHING] * (len(cells) - 1)]
    return [row["name"], *cells]


def _training(row: dict[str, Any]) -> str:
    trained = row.get("trained")
    return f"{trained['cpu_s']:.0f} ({trained['steps']:,})" if trained else _NOTHING


def _dice(figures: dict[str, Any] | None) -> str:
    return f"{figures['dice']:.3f} ± {figures['dice_std']:.3f}" if figures else _NOTHING


def _asd(figures: dict[str, Any] | None) -> str:
    if not figures:
        return _NOTHING
    return "∞" if figures["asd_mm"] is None else f"{figures['asd_mm']:.2f}"


def _number(figures: dict[str, Any] | None, key: str, form: str) -> str:
    return f"{figures[key]:{form}}" if figures else _NOTHING
