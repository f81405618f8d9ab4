"""What a large case takes on the CPU: 50 X-rays of 512 x 512 pixels, a volume of 256³ voxels and 100,000 Gaussians.

    python -m Testing.benchmarks.large [--method auto splat] [--scale 1] [--full] [--case FOLDER] [--threads 1]

X-rays of the upper lumbar spine are simulated into a case folder, which is reconstructed into a result folder by what the command
`intraop-recon reconstruct` calls, in a process of its own, after another one has compiled the kernels. Peak memory is that of the whole
process at each stage, libraries included. Unless `--full` is given, steps and cycles are fewer than those of the quality `standard`: the
memory does not depend on their number, the seconds do. A run of both methods at scale 1 writes Testing/benchmarks/results/large.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from IntraopReconLib.core.config import EFFORTS, Effort, ReconstructionConfig, Region, SimulationConfig

from .anatomies import ANATOMIES
from .measure import cpu_seconds, peak_memory_gb, thread_environment
from .provenance import provenance, write_result
from .scenes import REPOSITORY, data_folder
from .table import provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "large.json"
METHODS = ("auto", "splat")
VIEWS, SIZE_PX, VOXELS, GAUSSIANS, EXTENT_MM = 50, 512, 256, 100_000, 192.0
SHORTENED = {"splat_steps": 40, "coarse_cycles": (2, 2), "voxel_cycles": 1, "polish_cycles": 1}
ANATOMY = next(anatomy for anatomy in ANATOMIES if anatomy.name == "upper lumbar spine")


class Meter:
    """A `Report` that measures each stage, from its first message to that of the next one."""

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []
        self._name, self._began = "", (0.0, 0.0)

    def __call__(self, fraction: float, message: str, preview: Any = None) -> None:
        """End the stage before, if this is another."""
        if message != self._name:
            self.end()
            self._name, self._began = message, (time.perf_counter(), cpu_seconds())
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: Linux

    def end(self) -> None:
        """Take down the stage that is under way."""
        if self._name:
            wall, cpu = time.perf_counter() - self._began[0], cpu_seconds() - self._began[1]
            self.stages.append({"stage": self._name, "wall_s": wall, "cpu_s": cpu, "peak_gb": peak_memory_gb()})
        self._name = ""


def effort(scale: int, full: bool) -> Effort:
    """Return what the quality `standard` spends, but for the Gaussians and what is shortened."""
    return replace(EFFORTS["standard"], gaussians=GAUSSIANS // scale**3, **({} if full else SHORTENED))


def reconstruct(case: Path, row: Path, method: str, scale: int, full: bool) -> None:
    """Reconstruct the case in this process and write what it took."""
    from IntraopReconLib.core.pipeline import reconstruct_case

    EFFORTS["standard"] = effort(scale, full)
    region = Region(ANATOMY.center_lps_mm, (EXTENT_MM,) * 3)
    config = ReconstructionConfig(method, device="cpu", spacing_mm=EXTENT_MM * scale / VOXELS, region=region)
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        paths = reconstruct_case(case, Path(folder) / "result", config, meter)
        meter.end()
        report = json.loads(paths["report_json"].read_text())
    merged: dict[str, dict[str, Any]] = {}
    for stage in meter.stages:
        before = merged.setdefault(stage["stage"], {**stage, "wall_s": 0.0, "cpu_s": 0.0})
        before["wall_s"] += stage["wall_s"]
        before["cpu_s"] += stage["cpu_s"]
        before["peak_gb"] = max(before["peak_gb"], stage["peak_gb"])
    kept = {key: report[key] for key in ("method", "grade", "seconds", "candidates_withheld_rmse")}
    row.write_text(json.dumps({"stages": list(merged.values()), "size_ijk": report["grid"]["size_ijk"], **kept}))


def simulate(case: Path, scale: int) -> None:
    """Simulate the case."""
    from IntraopReconLib.core.simulate_case import simulate_case

    config = SimulationConfig(VIEWS // scale, size_px=SIZE_PX // scale, center_lps_mm=ANATOMY.center_lps_mm)
    simulate_case(data_folder() / "ct" / ANATOMY.ct, case, config)


def main() -> int:
    """Run what the command line asks for; return 2 where the CT is missing."""
    options = _options()
    if options.row is not None:
        reconstruct(options.case, options.row, options.method[0], options.scale, options.full)
        return 0
    if options.case is None and not (data_folder() / "ct" / ANATOMY.ct).is_file():
        print(f"{data_folder() / 'ct' / ANATOMY.ct} is not there. Set SPARSEANATOMY_DATA to the folder of data.", file=sys.stderr)
        return 2
    result: dict[str, Any] = {"provenance": provenance(options.threads, sys.argv[1:], "large")}
    with tempfile.TemporaryDirectory() as scratch:
        case, row = options.case or Path(scratch) / "case", Path(scratch) / "row.json"
        if not case.exists():
            simulate(case, options.scale)
        environment = thread_environment(options.threads)
        warm = "from IntraopReconLib.core.splatting.projector import prepare; prepare()"
        subprocess.run([sys.executable, "-c", warm], env=environment, check=True)
        common = ["--case", str(case), "--row", str(row), "--scale", str(options.scale), *(["--full"] if options.full else [])]
        result["methods"] = {}
        for method in options.method:
            command = [sys.executable, "-m", "Testing.benchmarks.large", "--method", method, *common]
            subprocess.run(command, env=environment, cwd=REPOSITORY, check=True)
            result["methods"][method] = json.loads(row.read_text())
    spent = asdict(effort(options.scale, options.full))
    result["setting"] = {"views": VIEWS // options.scale, "size_px": SIZE_PX // options.scale, "effort": spent}
    result["shortened"] = {} if options.full else {name: [value, getattr(EFFORTS["standard"], name)] for name, value in SHORTENED.items()}
    print(markdown(result))
    if options.scale == 1 and set(options.method) == set(METHODS):
        write_result(RESULT, result)
    return 0


def markdown(result: dict[str, Any]) -> str:
    """Return a table of the stages for each method, with what was shortened and where the numbers come from."""
    setting, texts = result["setting"], []
    shorter = ", ".join(f"{name} {ours} instead of {standard}" for name, (ours, standard) in result["shortened"].items())
    for method, row in result["methods"].items():
        lines = [[one["stage"], f"{one['wall_s']:.1f}", f"{one['cpu_s']:.1f}", f"{one['peak_gb']:.2f}"] for one in row["stages"]]
        wall, cpu, peak = (
            combined(one[key] for one in row["stages"]) for key, combined in (("wall_s", sum), ("cpu_s", sum), ("peak_gb", max))
        )
        texts.append(table((method, "wall s", "CPU s", "peak GB"), [*lines, ["all", f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.2f}"]]))
        grid = " × ".join(map(str, row["size_ijk"]))
        sizes = f"{setting['views']} X-rays of {setting['size_px']}², {grid} voxels, {setting['effort']['gaussians']} Gaussians"
        texts.append(f"{sizes}; the volume is by {row['method']}. Shortened: {shorter or 'nothing'}.")
    return "\n\n".join([*texts, provenance_line(result["provenance"])])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.large", description=__doc__.splitlines()[0])
    parser.add_argument("--method", nargs="+", choices=("auto", "splat", "voxel"), default=list(METHODS), help="default: auto and splat")
    parser.add_argument("--scale", type=int, default=1, help="pixels, voxels, views: this many times fewer along each axis (default: 1)")
    parser.add_argument("--full", action="store_true", help="all steps and cycles of the quality standard")
    parser.add_argument("--case", type=Path, help="a case folder that was simulated before; it is made where it is not there")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of every library (default: 2)")
    parser.add_argument("--row", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
