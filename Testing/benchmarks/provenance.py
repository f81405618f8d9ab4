"""Where numbers come from: command, commit, date, machine and versions; no host or user names."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from SparseAnatomyLib.textfiles import replace_text

from .scenes import REPOSITORY

PACKAGES = ("numba", "numpy", "torch", "itk-rtk", "itk-morphologicalcontourinterpolation")
_CODE = ("IntraopRecon", "ShapeCompletion", "Testing/benchmarks/*.py", "Testing/benchmarks/shapes/*.py")


def provenance(threads: int, arguments: list[str], program: str = "run") -> dict[str, Any]:
    """Describe this run.

    Args:
        threads: That every method used.
        arguments: Of the command line; an absolute path says nothing to others and is told by its last part.
        program: Module of this package.
    """
    told = [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]
    return {
        "command": shlex.join(["python", "-m", f"Testing.benchmarks.{program}", *told]),
        "commit": _git("rev-parse", "--short=10", "HEAD") or "unknown",
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no", "--", *_CODE)),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "threads": threads,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3,
        "load_at_start": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a file of results, replacing an older one at once or not at all."""
    replace_text(path, json.dumps(result, indent=1) + "\n")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
