"""Wheels of a few bytes, and a pip that knows nothing else and installs into a folder of the test's own."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from SparseAnatomyLib.host.Requirements import Package

TINY = Package("sparse_anatomy_tiny", "sparse-anatomy-tiny", 5)
EXTRA = Package("sparse_anatomy_extra", "sparse-anatomy-extra", 2, "saving as DICOM")
TORCH = Package("sparse_anatomy_torch", "PyTorch", 200)


def make_wheel(folder: Path, name: str, version: str = "1.0", requires: tuple[str, ...] = ()) -> None:
    """Write a wheel with a module of one line."""
    stem, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
    files = {
        f"{stem}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


def set_pip(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: str) -> tuple[Path, Path]:
    """Let pip, by its own environment variables, see only wheels of a folder; return that folder and the one it installs into.

    Args:
        monkeypatch: Takes it all back.
        folder: Of the test.
        options: More of pip's options, such as `index_url`, in place of no index.
    """
    wheels, target = folder / "wheels with blanks", folder / "site"
    wheels.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    options = {
        "config_file": os.devnull,
        "target": str(target),
        "find_links": wheels.as_uri(),
        "cache_dir": str(folder / "cache"),
        **options,
    }
    if "index_url" not in options:
        options["no_index"] = "1"
    for name, value in options.items():
        monkeypatch.setenv(f"PIP_{name.upper()}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.syspath_prepend(str(target))
    return wheels, target
