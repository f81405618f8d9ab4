"""Run the benchmarks and write Testing/benchmarks/results/: JSON, Markdown, and the section that the README quotes.

    python -m Testing.benchmarks.run [--part scenes generalization cost] [--scene lumbar …] [--contender "splat standard" …]

A run that leaves scenes or contenders out prints its tables; only a whole part is written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import table
from .anatomies import ANATOMIES, build_scene
from .contenders import names
from .measure import measure, thread_environment
from .provenance import provenance
from .scenes import REPOSITORY, STANDING, data_folder, load_scene, save_scene

RESULTS = REPOSITORY / "Testing" / "benchmarks" / "results"
PARTS = ("scenes", "generalization", "cost")
GENERALIZATION_CONTENDERS = ("RTK SART 12", "splat standard", "voxel standard", "auto standard")


def main() -> int:
    """Run what the command line asks for; return 1 if a method failed."""
    options = _options()
    failed = False
    for part in options.part:
        threads = 1 if part == "cost" else options.threads
        result: dict[str, Any] = {"provenance": provenance(threads, sys.argv[1:])}
        if part == "cost":
            result |= _cost()
        else:
            result["scenes"] = list(_scenes(part, options))
            failed |= any("failure" in row for scene in result["scenes"] for row in scene["rows"])
        print(table.markdown({part: result}))
        if not (options.scene or options.contender):
            _write(RESULTS / f"{part}.json", json.dumps(result, indent=1) + "\n")
    if not (options.scene or options.contender):
        write_tables()
    return int(failed)


def write_tables() -> None:
    """Write the Markdown of all parts that have results, and the README's section."""
    parts = {part: json.loads((RESULTS / f"{part}.json").read_text()) for part in PARTS if (RESULTS / f"{part}.json").exists()}
    _write(RESULTS / "benchmark.md", table.markdown(parts))
    table.fill_readme(REPOSITORY / "README.md", table.readme_section(parts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--scene", nargs="+", help="only scenes of these names (default: all)")
    parser.add_argument("--contender", nargs="+", choices=names(), help="only these methods (default: all)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of every library (default: 2)")
    return parser.parse_args()


def _scenes(part: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    contenders = options.contender or (names() if part == "scenes" else GENERALIZATION_CONTENDERS)
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in _scene_files(part, Path(scratch), options.scene):
            rows = []
            for contender in contenders:
                rows.append(measure(path, contender, options.threads, Path(scratch) / "row.json"))
                print(
                    name, "|", contender, "|", {key: value for key, value in rows[-1].items() if key not in ("name", "notes")}, flush=True
                )
            yield {"name": name, "views": len(load_scene(path).views), "rows": rows}


def _scene_files(part: str, scratch: Path, chosen: list[str] | None) -> Iterator[tuple[str, Path]]:
    if part == "scenes":
        yield from ((name, data_folder() / "scenes" / f"{name}.npz") for name in STANDING if not chosen or name in chosen)
        return
    for anatomy in ANATOMIES:
        if not chosen or anatomy.name in chosen:
            path = scratch / "scene.npz"
            save_scene(path, build_scene(anatomy))
            yield anatomy.name, path


def _cost() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cost.json"
        command = [sys.executable, "-m", "Testing.benchmarks.cost", str(path)]
        subprocess.run(command, env=thread_environment(1), cwd=REPOSITORY, check=True)
        return json.loads(path.read_text())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(main())
