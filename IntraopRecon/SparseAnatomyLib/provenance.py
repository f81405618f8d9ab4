"""What a report says of how it came about: notice, time, versions, hashes; nothing that names a patient, a user or a folder."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

RESEARCH_USE_ONLY = "Research use only. Not a medical device: not for diagnosis, treatment or navigation."


def now_utc() -> str:
    """Return the time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def sha256(file: Path) -> str:
    """Return the hash of a file, hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python, the system, SparseAnatomy and these packages, by name."""
    versions = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in ("sparse-anatomy", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


def result_warnings(paths: Mapping[str, Path]) -> list[str]:
    """Return the sentences that the user should read with a result, those on its input included, from its `report_json`."""
    return json.loads(paths["report_json"].read_text(encoding="utf-8"))["warnings"]


def result_device(paths: Mapping[str, Path]) -> str:
    """Return the sentence on where a result was computed, and why there, from its `report_json`."""
    return json.loads(paths["report_json"].read_text(encoding="utf-8"))["device"]


def json_ready(value: Any) -> Any:
    """Return a value that strict JSON can hold: numpy scalars become Python's, numbers that are not finite None, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
