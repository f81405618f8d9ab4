"""Which Python packages the worker needs beside those that Slicer brings along, and how pip is told to leave the latter as they are.

The versions are those of constraints.txt, which does not come along with the installed extension; a test compares them. Slicer's own
`slicer.packaging.pip_ensure` is not used: it holds nothing of what is installed in place, and waits in a window of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .Translate import tr as _


@dataclass(frozen=True)
class Package:
    """What can be missing.

    Attributes:
        module: What is imported.
        name: On the Python Package Index.
        megabytes: What is downloaded, at most, with all that it brings along (wheels for Windows and Linux, Python 3.12).
        purpose: What cannot be done without it; empty if nothing can.
    """

    module: str
    name: str
    megabytes: int
    purpose: str = ""


TORCH = Package("torch", "PyTorch", 200)
BUNDLED = (Package("pydicom", "pydicom", 0), Package("SimpleITK", "SimpleITK", 0))  # Slicer's own: never installed by us
REQUIRED = (
    Package("numba", "numba", 64),
    Package("skimage", "scikit-image", 17),
    Package("matplotlib", "matplotlib", 16),
    Package("jinja2", "Jinja2", 1),
)
OPTIONAL = (
    Package("highdicom", "highdicom", 2, _("saving as DICOM")),
    Package("gdcm", "python-gdcm", 34, _("compressed X-rays")),
    Package("jpeg_ls", "pyjpegls", 3, _("compressed X-rays")),
)
WARP = Package("warp", "warp-lang", 150, _("computing on the NVIDIA graphics card"))  # optional too, but see `optional`
PINS = {
    "contourpy": "1.3.3",
    "cycler": "0.12.1",
    "fonttools": "4.68.0",
    "highdicom": "0.28.2",
    "imageio": "2.38.1",
    "jinja2": "3.1.6",
    "kiwisolver": "1.5.1",
    "lazy-loader": "0.6",
    "llvmlite": "0.50.0",
    "markupsafe": "3.0.4",
    "matplotlib": "3.11.2",
    "networkx": "3.6.1",
    "numba": "0.68.1",
    "pyjpegls": "1.5.1",
    "python-dateutil": "4.0.0",
    "python-gdcm": "3.2.6",
    "scikit-image": "0.26.0",
    "tifffile": "2026.3.3",
    "tzdata": "2026.6",
    "warp-lang": "1.19.0",
}
_WITHOUT_METADATA = ("vtk",)  # Slicer builds it in a way that pip does not see: a wheel beside it would break Slicer
_INSTALL_TOOLS = frozenset({"pip", "setuptools", "wheel"})
_VERSION = r"(?:\d+!)?\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?(?:\+[a-z0-9]+(?:[._-][a-z0-9]+)*)?"  # PEP 440
_found: set[str] = set()  # what was found once is not looked for again: a panel asks at every change
_LISTED = re.compile(rf"([A-Za-z0-9][\w.-]*)==({_VERSION})")


def missing(packages: Iterable[Package]) -> list[Package]:
    """Return those of the packages that this Python, which is also the worker's, lacks; imports nothing to find out."""
    wanted = [package for package in packages if package.module not in _found]
    _found.update(package.module for package in wanted if importlib.util.find_spec(package.module) is not None)
    return [package for package in wanted if package.module not in _found]


def optional() -> tuple[Package, ...]:
    """Return the packages without which some things cannot be done here: that for NVIDIA cards counts only where there is their driver."""
    return (*OPTIONAL, WARP) if hasNvidiaDriver() else OPTIONAL


@functools.cache
def hasNvidiaDriver() -> bool:
    """Return whether NVIDIA's driver seems to be installed. Its files are looked for; nothing of it is started or loaded."""
    if sys.platform == "darwin":
        return False
    return any(os.path.exists(path) for path in _driverFiles()) or shutil.which("nvidia-smi") is not None


def _driverFiles() -> list[str]:
    if sys.platform == "win32":
        return [os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll")]
    folders = ("", "64", "/x86_64-linux-gnu", "/aarch64-linux-gnu", "/wsl/lib")
    return ["/proc/driver/nvidia/version", *(f"/usr/lib{folder}/libcuda.so.1" for folder in folders)]


def listArguments() -> list[str]:
    """Return what pip is asked first: which packages it sees, and in which versions."""
    return ["list", "--format=freeze", "--disable-pip-version-check"]


def installArguments(packages: Sequence[Package], constraints: Path) -> list[str]:
    """Return what pip is asked to install.

    Args:
        packages: On the index.
        constraints: File of `constraintLines`.
    """
    flags = ["--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=2"]
    return ["install", *flags, "-c", str(constraints), *(package.name for package in packages)]


def installedVersions(listed: Iterable[str]) -> dict[str, str]:
    """Return version by name, from the lines that pip has answered to `listArguments`.

    Passed over are warnings among them, and versions that pip would not take in a constraints file.
    """
    return {_canonical(match[1]): match[2] for line in listed if (match := _LISTED.fullmatch(line.strip()))}


def constraintLines(installed: Mapping[str, str], withInstallTools: bool = True) -> list[str]:
    """Return the lines of a constraints file: what is installed keeps its version, what is new gets ours.

    pip then fails where it would have to change what Slicer or another extension has installed.

    Args:
        installed: Version by canonical name.
        withInstallTools: Whether pip and its like are held as well; another installer may need others.
    """
    kept = {name: version for name, version in installed.items() if withInstallTools or name not in _INSTALL_TOOLS}
    never = [f"{name}<0" for name in _WITHOUT_METADATA if name not in installed]
    return [*never, *(f"{name}=={version}" for name, version in sorted({**PINS, **kept}.items()))]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
