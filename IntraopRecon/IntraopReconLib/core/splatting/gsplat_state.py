"""Whether gsplat is there to be tried, and what became of it when it was; imports no gsplat.

gsplat from PyPI is compiled at its first use, which takes minutes and needs a CUDA toolkit and a compiler that go with PyTorch. So a file
beside PyTorch's other compiled extensions says that it was tried: what failed, hung or crashed then is not tried at every start.
"""

from __future__ import annotations

import os
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

PROBE = "IntraopReconLib.core.splatting.probe_gsplat"
TRY_AGAIN_DAYS = 7.0
_TRIED, _WORKS = "tried", "works"


def offer() -> dict[str, object]:
    """Return what `choose_device` is told of gsplat: how to try it, or in half a sentence why not; nothing where it is not installed."""
    spec = find_spec("gsplat")
    if spec is None or spec.origin is None:
        return {}
    is_built = any(Path(spec.origin).parent.glob("csrc.*"))  # as in wheels that gsplat's own site offers
    if not is_built and not _has_toolkit():
        return {"note": "gsplat is not used, as there is no CUDA toolkit to compile it with"}
    if _failed_lately():
        return {"note": f"gsplat is not used, as it failed when it was tried in the last {TRY_AGAIN_DAYS:.0f} days"}
    return {"other": {"name": "gsplat", "probe": PROBE}}


def begin() -> None:
    """Note that gsplat is being tried; what does not come to its end has failed.

    Raises:
        OSError: The folder of compiled extensions cannot be written, where gsplat would have to go too.
    """
    path = _path()
    if not _says(path, _WORKS):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_TRIED, "utf-8")


def end() -> None:
    """Note that gsplat works."""
    path = _path()
    if not _says(path, _WORKS):
        path.write_text(_WORKS, "utf-8")


def _has_toolkit() -> bool:
    try:
        from torch.utils.cpp_extension import CUDA_HOME
    except ImportError:  # it needs setuptools, and so does compiling
        return False
    return CUDA_HOME is not None


def _failed_lately() -> bool:
    path = _path()
    return _says(path, _TRIED) and time.time() - path.stat().st_mtime < TRY_AGAIN_DAYS * 86400


def _says(path: Path, word: str) -> bool:
    try:
        return path.read_text("utf-8", errors="replace") == word
    except OSError:
        return False


def _path() -> Path:
    """Return the file that says how gsplat fared, of this version and with this PyTorch."""
    from torch.utils.cpp_extension import get_default_build_root

    try:
        version = metadata.version("gsplat")
    except metadata.PackageNotFoundError:
        version = "unknown"
    folder = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()  # as PyTorch looks for it
    return Path(folder) / f"sparse-anatomy-gsplat-{version}-torch-{torch.__version__}.txt"
