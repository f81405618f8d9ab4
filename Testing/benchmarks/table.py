"""Results as Markdown: the whole of them beside the JSON, and the part that the README quotes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BASELINE = "RTK SART 12"
README_START, README_END = "<!-- benchmark:start -->", "<!-- benchmark:end -->"
_HEADER = ("", "PSNR-3D dB", "SSIM-3D", "Dice", "held-out PSNR-2D dB", "CPU s", "CPU / SART 12", "wall s", "peak GB")
_LEGEND = (
    "PSNR-3D (peak: the truth's maximum), SSIM-3D and Dice (bone, at the threshold of the truth's own histogram) inside the sphere "
    "r < 88 mm that every view sees; held-out PSNR-2D: mean over clean views that no method got, reprojected by an exact projector "
    "that no method uses. CPU: all threads and children. Each row is a process of its own, measured after the same code ran once "
    "on the scene at a quarter of its resolution, so that libraries and compiled kernels are loaded; peak memory includes them. "
    "RTK iterates with Joseph's projectors, one view an update; FDK and CG are clipped at zero, and FDK is scaled to fit the truth "
    "best. `ixgs` is the published recipe with fewer iterations than its 30,000 (the number in its name)."
)

_FURTHER = "Further anatomy (`standard`, PSNR-3D in dB; what little was chosen on it stands in `Testing/benchmarks/anatomies.py`):"


def markdown(parts: dict[str, dict[str, Any]]) -> str:
    """Return all results.

    Args:
        parts: `scenes`, `generalization`, `cost` as `run` wrote them; each may be absent.
    """
    texts = ["# Benchmarks", _LEGEND]
    for name, title in (("scenes", "Standing scenes"), ("generalization", "Other anatomy, other views")):
        if name in parts:
            texts += [f"## {title}", provenance_line(parts[name]["provenance"])]
            for scene in parts[name]["scenes"]:
                texts += [f"### {scene['name']} ({scene['views']} views)", scene_table(scene["rows"])]
    if "cost" in parts:
        texts += [
            "## Cost of the kernels",
            provenance_line(parts["cost"]["provenance"]),
            cost_table(parts["cost"]),
            ratio_line(parts["cost"]),
        ]
    return "\n\n".join(texts) + "\n"


def readme_section(parts: dict[str, dict[str, Any]]) -> str:
    """Return what the README quotes: the standing scenes whole, of the other anatomy one row a scene, of the cost one sentence."""
    texts = []
    if "scenes" in parts:
        for scene in parts["scenes"]["scenes"]:
            texts += [f"**{scene['name']}**, {scene['views']} views", scene_table(scene["rows"])]
        texts += [_LEGEND, provenance_line(parts["scenes"]["provenance"])]
    if "generalization" in parts:
        part = parts["generalization"]
        texts += [_FURTHER, gain_table(part["scenes"]), provenance_line(part["provenance"])]
    if "cost" in parts:
        texts.append(ratio_line(parts["cost"]))
    return "\n\n".join(texts)


def fill_readme(readme: Path, section: str, marks: tuple[str, str] = (README_START, README_END)) -> None:
    """Put the section between two marks of the README.

    Raises:
        ValueError: The marks are not there, once each and in order; the README is as it was.
    """
    text = readme.read_text(encoding="utf-8")
    head, start, rest = text.partition(marks[0])
    _, end, tail = rest.partition(marks[1])
    if not (start and end):
        raise ValueError(f"{readme.name}: expected the marks {marks[0]} and {marks[1]}.")
    readme.write_text(f"{head}{marks[0]}\n\n{section}\n\n{marks[1]}{tail}", encoding="utf-8")


def scene_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows of one scene as a table; CPU seconds also as a share of the baseline's."""
    baseline = next((row["cpu_s"] for row in rows if row["name"] == BASELINE and "cpu_s" in row), None)
    return table(_HEADER, [_scene_row(row, baseline) for row in rows])


def gain_table(scenes: Sequence[dict[str, Any]]) -> str:
    """Return one line a scene: the baseline, our methods, what the best of them gains and how close `auto` comes to it."""
    lines = []
    for scene in scenes:
        psnr = {row["name"]: row.get("psnr_3d_db", np.nan) for row in scene["rows"]}
        baseline, splat, voxel, auto = (psnr.get(name, np.nan) for name in (BASELINE, "splat standard", "voxel standard", "auto standard"))
        best = max(splat, voxel)
        lines.append(
            [
                scene["name"],
                scene["views"],
                *(f"{x:.1f}" for x in (baseline, splat, voxel, auto)),
                *(f"{x:+.1f}" for x in (best - baseline, auto - best)),
            ]
        )
    return table(("", "views", "SART 12", "splat", "voxel", "auto", "better - SART 12", "auto - better"), lines)


def cost_table(cost: dict[str, Any]) -> str:
    """Return the sweeps with their fitted lines."""
    lines = []
    for sweep in cost["sweeps"]:
        points = ", ".join(f"{size:,}: {1e3 * seconds:.1f}" for size, seconds in zip(sweep["sizes"], sweep["cpu_s"], strict=True))
        lines.append(
            [
                sweep["kernel"],
                sweep["axis"],
                points,
                f"{1e9 * sweep['slope_s']:.3g}",
                f"{1e3 * sweep['intercept_s']:.1f}",
                f"{sweep['r_squared']:.4f}",
            ]
        )
    return table(("kernel", "axis", "CPU ms, forward + backward", "slope, ns each", "intercept, ms", "R²"), lines)


def ratio_line(cost: dict[str, Any]) -> str:
    """Return one sentence on linearity and on the reference."""
    worst = min(sweep["r_squared"] for sweep in cost["sweeps"])
    ratios = " and ".join(f"{ratio:,.0f} times ({dtype})" for dtype, ratio in cost["reference_ratio"].items())
    return (
        f"Processor time grows linearly with Gaussians, views, pixels and voxels (R² >= {worst:.3f}); the numba projector is {ratios} as "
        "fast as the torch reference, which has no cutoff (forward and backward, one view, one thread)."
    )


def provenance_line(provenance: dict[str, Any]) -> str:
    """Return where numbers come from, in one line."""
    changed = " with uncommitted changes" if provenance["uncommitted_changes"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    machine = f"{provenance['cpu']} ({provenance['cores']} cores, {provenance['memory_gb']:.0f} GB), {provenance['system']}"
    threads = "1 thread" if provenance["threads"] == 1 else f"{provenance['threads']} threads"
    return (
        f"`{provenance['command']}`, commit {provenance['commit']}{changed}, {provenance['date']}, {threads} on {machine}, "
        f"load {provenance['load_at_start']:.1f} at the start, {versions}."
    )


def _scene_row(row: dict[str, Any], baseline_cpu_s: float | None) -> list[str]:
    if "failure" in row:
        return [row["name"], f"failed: {row['failure']}", *[""] * (len(_HEADER) - 2)]
    notes = row["notes"]
    chosen = f" ({notes['method']})" if row["name"].startswith("auto") else ""
    poor = ", marked poor" if notes.get("grade") == "poor" else ""
    ratio = f"{row['cpu_s'] / baseline_cpu_s:.2f}" if baseline_cpu_s else ""
    return [
        row["name"] + chosen + poor,
        f"{row['psnr_3d_db']:.2f}",
        f"{row['ssim_3d']:.3f}",
        f"{row['dice']:.3f}",
        f"{row['psnr_2d_db']:.1f}",
        f"{row['cpu_s']:.1f}",
        ratio,
        f"{row['wall_s']:.1f}",
        f"{row['peak_gb']:.2f}",
    ]


def table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    alignment = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in (header, alignment, *lines))
