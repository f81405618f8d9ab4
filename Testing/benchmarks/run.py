"""Run the benchmarks and write Testing/benchmarks/results/: JSON, Markdown, and the section that the README quotes.

    python -m Testing.benchmarks.run [--part scenes generalization cost shapes shapes_timing] [--scene lumbar …]
                                     [--contender "splat standard" …] [--data DIR] [--budget CPU_SECONDS]

A run that leaves scenes or contenders out prints its tables; only a whole part is written. `shapes` that was killed goes on where it was.
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

from ShapeCompletionLib.core.prior_card import available_priors
from SparseAnatomyLib.errors import InputError

from . import table
from .anatomies import ANATOMIES, build_scene
from .contenders import names
from .measure import measure, thread_environment
from .provenance import provenance
from .scenes import REPOSITORY, STANDING, data_folder, load_scene, save_scene
from .shapes import tables as shape_tables
from .shapes.settings import METHODS as SHAPE_METHODS
from .shapes.settings import Settings

RESULTS = REPOSITORY / "Testing" / "benchmarks" / "results"
PARTS = ("scenes", "generalization", "cost", *shape_tables.PARTS)
GENERALIZATION_CONTENDERS = ("RTK SART 12", "splat standard", "voxel standard", "auto standard")


def main() -> int:
    """Run what the command line asks for; return 1 if a method failed or the README could not be filled, 2 if data are missing."""
    options = _options()
    if options.data:
        os.environ["SPARSEANATOMY_DATA"] = str(Path(options.data).resolve())
    try:
        failed = [_run(part, options) for part in options.part]
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if not (options.scene or options.contender):
        try:
            write_tables()
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    return int(any(failed))


def write_tables() -> None:
    """Write the Markdown of all parts that have results, and the README's sections.

    Raises:
        ValueError: The README lacks the marks of a section; all else is written.
    """
    parts = {part: json.loads((RESULTS / f"{part}.json").read_text()) for part in PARTS if (RESULTS / f"{part}.json").exists()}
    if "shapes" in parts:
        measured = {prior["name"]: prior.get("steps") for prior in parts["shapes"].get("priors", [])}
        cards = available_priors()
        parts["shapes"]["priors"] = [vars(card) for card in cards]
        parts["shapes"]["newer"] = [card.name for card in cards if measured.get(card.name) != card.steps]
    _write(RESULTS / "benchmark.md", table.markdown(parts) + "".join(f"\n{text}\n" for text in shape_tables.markdown(parts)))
    table.fill_readme(REPOSITORY / "README.md", table.readme_section(parts))
    if section := shape_tables.readme_section(parts):
        table.fill_readme(REPOSITORY / "README.md", section, shape_tables.README_MARKS)


def _run(part: str, options: argparse.Namespace) -> bool:
    """Run a part, print its tables, write its results if it is whole; return whether a method failed."""
    threads = 1 if part in ("cost", "shapes") else options.threads
    result: dict[str, Any] = {"provenance": provenance(threads, sys.argv[1:])}
    if part == "cost":
        result |= _cost()
    elif part in shape_tables.PARTS:
        result |= _shapes(part, options, threads, result["provenance"]["commit"])
    else:
        result["scenes"] = list(_scenes(part, options))
    rows = [row for scene in result.get("scenes", []) for row in scene["rows"]] + result.get("methods", []) + result.get("rows", [])
    texts = shape_tables.markdown({part: result}) if part in shape_tables.PARTS else [table.markdown({part: result})]
    print("\n\n".join(texts))
    if not (options.scene or options.contender):
        _write(RESULTS / f"{part}.json", json.dumps(result, indent=1) + "\n")
        (RESULTS / f"{part}.partial").unlink(missing_ok=True)
    return any("failure" in row for row in rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--scene", nargs="+", help="only scenes of these names (default: all)")
    methods = [*names(), *SHAPE_METHODS]
    parser.add_argument("--contender", nargs="+", choices=methods, help="only these methods (default: all, of MAML the second-order one)")
    parser.add_argument("--data", help="folder of data that do not ship (default: SPARSEANATOMY_DATA, or ../shared/data)")
    budget_s = Settings().budget_s
    parser.add_argument(
        "--budget", type=float, default=budget_s, help=f"processor seconds to train each shape method (default: {budget_s:g})"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of every library (default: 2)")
    return parser.parse_args()


def _scenes(part: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    chosen = [name for name in options.contender or [] if name in names()]
    contenders = chosen or (names() if part == "scenes" else GENERALIZATION_CONTENDERS)
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


def _shapes(part: str, options: argparse.Namespace, threads: int, commit: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        prepared, path = Path(scratch) / "shapes", Path(scratch) / "result.json"
        from .shapes.prepare import prepare

        prepare(data_folder(), prepared, ["vertebra"] if part == "shapes_timing" else None)
        if part == "shapes_timing":
            command = ["Testing.benchmarks.shapes.timing", str(prepared), str(path), str(threads)]
        else:
            progress = Path(scratch) / "progress.partial" if options.contender else RESULTS / f"{part}.partial"
            methods = [name for name in options.contender or [] if name in SHAPE_METHODS]
            request = {"settings": {"budget_s": options.budget}, "commit": commit, "methods": methods}
            command = ["Testing.benchmarks.shapes.accuracy", str(prepared), str(path), str(progress), json.dumps(request)]
        subprocess.run([sys.executable, "-m", *command], env=thread_environment(threads), cwd=REPOSITORY, check=True)
        return json.loads(path.read_text())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(main())
