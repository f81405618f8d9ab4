"""What a graphics card brings: the scenes, the large case, the kernels and a completion on the CPU and on the card, beside each other.

    python -m Testing.benchmarks.gpu [--device cuda] [--part scenes large kernels shapes]

The CPU uses all its cores. Both have run a small scene before, as a warm worker has; the card's seconds are those of its second run, the
first is told too. A run of all parts on a card writes Testing/benchmarks/results/gpu.json. Where there is no card, it says so and ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.config import EFFORTS, ReconstructionConfig, Region
from IntraopReconLib.core.device import choose_device
from IntraopReconLib.core.reconstruct import reconstruct
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from SparseAnatomyLib.errors import ResourceError

from . import large
from .measure import score
from .provenance import provenance, write_result
from .scenes import REPOSITORY, STANDING, Scene, data_folder, load_scene
from .table import provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "gpu.json"
PARTS = ("scenes", "large", "kernels", "shapes")
QUALITY = "standard"
LEAST_RATIO = 3.0  # of a kernel's time to its bound, that is asked for
Row = dict[str, Any]


def main() -> int:
    """Run what the command line asks for; return 2 where there is no card, or no data."""
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="the card: cuda (default), cuda:0, cuda:1, ...")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    try:
        chosen = choose_device(options.device, print)
    except (ResourceError, ValueError) as error:
        print(f"{error} Nothing was measured.", file=sys.stderr)
        return 2
    if not (data_folder() / "scenes").is_dir():
        print(f"{data_folder()} is not there. Set SPARSEANATOMY_DATA to the folder of data.", file=sys.stderr)
        return 2
    result: Row = {"provenance": provenance(os.cpu_count() or 1, sys.argv[1:], "gpu") | card_facts(chosen.device), "kernel": chosen.kernel}
    parts: dict[str, Callable[[str], list[Row]]] = {
        "scenes": scene_rows,
        "large": large_rows,
        "kernels": kernel_rows,
        "shapes": shape_rows,
    }
    for part in options.part:
        result[part] = parts[part](chosen.device)
        print(f"\n{markdown(part, result[part])}", flush=True)
    print(provenance_line(result["provenance"]))
    if set(options.part) == set(PARTS):
        write_result(RESULT, result)
    return 0


def card_facts(device: str) -> Row:
    """Return the name of a card, its memory, its driver and CUDA's version."""
    facts = {"card": torch.cuda.get_device_name(device), "card_gb": torch.cuda.get_device_properties(device).total_memory / 1024**3}
    return facts | {"driver": _driver(), "cuda": torch.version.cuda}


def _driver() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown"
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    return (subprocess.run(query, capture_output=True, text=True, check=False).stdout.split() or ["unknown"])[0]


def scene_rows(device: str, load: Callable[[str], Scene] | None = None) -> list[Row]:
    """Reconstruct the standing scenes on the CPU and on the card."""
    load = load or (lambda name: load_scene(data_folder() / "scenes" / f"{name}.npz"))
    rows = []
    for name in STANDING:
        scene = load(name)
        config = ReconstructionConfig(quality=QUALITY, spacing_mm=float(scene.grid.spacing_mm[0]), region=scene.region)
        rows += [{"case": name, **row} for row in both(scene.views, config, device, lambda volume, scene=scene: score(volume, scene))]
    return rows


def large_rows(device: str, scale: int = 1) -> list[Row]:
    """Reconstruct the large case by Gaussians, with all steps of the quality `standard`, on the CPU and on the card."""
    before = EFFORTS[QUALITY]
    EFFORTS[QUALITY] = large.effort(scale, full=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            case = Path(scratch) / "case"
            large.simulate(case, scale)
            region = Region(large.ANATOMY.center_lps_mm, (large.EXTENT_MM,) * 3)
            config = ReconstructionConfig("splat", QUALITY, spacing_mm=large.EXTENT_MM * scale / large.VOXELS, region=region)
            return [{"case": "large", **row} for row in both(load_case(case).views, config, device, lambda volume: {})]
    finally:
        EFFORTS[QUALITY] = before


def kernel_rows(device: str) -> list[Row]:
    """Time the kernels at the sizes of a scene and of the large case."""
    from . import gpu_kernels  # only here: it loads Warp

    rates = gpu_kernels.measure_rates(device)
    scene, case = gpu_kernels.Sizes(20_000, 4, 256, 128), gpu_kernels.Sizes(100_000, 4, 512, 256)
    rows = [
        {"size": name, **row}
        for name, sizes in (("scene", scene), ("large", case))
        for row in gpu_kernels.measure_kernels(device, sizes, rates)
    ]
    return [*rows, {"size": "rates", **asdict(rates)}]


def shape_rows(device: str) -> list[Row]:
    """Time a completion on the CPU and on the card."""
    from .shapes.timing import seconds_on

    return [{"device": each, **seconds_on(each)} for each in ("cpu", device)]


def both(views: list[MeasuredView], config: ReconstructionConfig, device: str, judge: Callable[[Any], Row]) -> list[Row]:
    """Reconstruct on the CPU once and on the card twice; return a row for each device, with the seconds of each stage."""
    small = [_halved(_halved(view)) for view in views]
    rows = []
    for each, runs in (("cpu", 1), (device, 2)):
        settings = {**vars(config), "device": each}
        reconstruct(small, ReconstructionConfig(**{**settings, "spacing_mm": 4 * config.spacing_mm}))
        walls = []
        if each.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(each)
        for _ in range(runs):
            began = time.perf_counter()
            done = reconstruct(views, ReconstructionConfig(**settings))
            walls.append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_reserved(each) / 1024**3 if each.startswith("cuda") else None
        facts = {"device": each, "said": done.device, "method": done.method, "wall_s": walls[-1], "first_wall_s": walls[0]}
        rows.append({**facts, "card_gb": peak, "seconds": done.seconds, **judge(done.attenuation_per_mm)})
    return rows


def _halved(view: MeasuredView) -> MeasuredView:
    geometry = view.geometry.binned(2)
    columns, rows = geometry.size_px
    blocks = (rows, 2, columns, 2)
    image = view.attenuation[: 2 * rows, : 2 * columns].reshape(blocks).mean((1, 3))
    return MeasuredView(view.name, image, view.mask[: 2 * rows, : 2 * columns].reshape(blocks).all((1, 3)), geometry)


def markdown(part: str, rows: list[Row]) -> str:
    """Return a part's rows as a table."""
    if part in ("scenes", "large"):
        stages = list(dict.fromkeys(stage for row in rows for stage in row["seconds"]))
        columns = {"PSNR-3D dB": "psnr_3d_db", "s": "wall_s", "first time s": "first_wall_s", "card GB": "card_gb"}
        title = ("case", "device", "method", *columns, *stages)
        named = [[row["case"], row["device"], row["method"]] for row in rows]
        figures = [[row.get(key) for key in columns.values()] + [row["seconds"].get(stage) for stage in stages] for row in rows]
    elif part == "kernels":
        title = ("size", "kernel", "bound by", "CPU ms", "card ms", "bound ms", f"times the bound (asked for: {LEAST_RATIO:g})")
        timed = [row for row in rows if "kernel" in row]
        named = [[row["size"], row["kernel"], row["bound_by"] if row["bound_ms"] else ""] for row in timed]
        figures = [
            [row["cpu_ms"], row["card_ms"], row["bound_ms"], row["card_ms"] / row["bound_ms"] if row["bound_ms"] else None] for row in timed
        ]
    else:
        title, named = tuple(rows[0]), [[] for _ in rows]
        figures = [list(row.values()) for row in rows]
    return table(title, [(*names, *map(_shown, values)) for names, values in zip(named, figures, strict=True)])


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
