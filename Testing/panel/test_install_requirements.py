"""What pip is told to install into Slicer, that it agrees with the project's own pins, and what its failures mean."""

from __future__ import annotations

import ast
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytest.importorskip("slicer")

from SparseAnatomyLib.host.PipFailures import pipError
from SparseAnatomyLib.host.Requirements import (
    BUNDLED,
    OPTIONAL,
    PINS,
    REQUIRED,
    TORCH,
    WARP,
    constraintLines,
    hasNvidiaDriver,
    installArguments,
    installedVersions,
    missing,
    optional,
)

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SLICER_HAS = {"numpy", "packaging", "pillow", "pydicom", "pyparsing", "scipy", "simpleitk", "six", "typing-extensions", "vtk"}
OF_SLICER = {"PIL", "SampleData", "PyTorchUtils", "ctk", "numpy", "qt", "scipy", "slicer", "vtk", "vtkmodules"}
OF_COMMANDS = {"rich", "tyro"}  # what runs in a terminal alone
SYSTEMS = ({"sys_platform": "win32"}, {"sys_platform": "linux"}, {"sys_platform": "darwin"})


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_pins_are_those_of_the_project():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = installedVersions(lines)
    assert {name: pinned[name] for name in PINS} == PINS
    installable = {canonicalize_name(package.name) for package in (*REQUIRED, *OPTIONAL)}
    assert installable | {WARP.name} <= set(PINS)
    assert WARP.name in names(PROJECT["optional-dependencies"]["cuda"])
    assert installable | {"torch", *(canonicalize_name(package.name) for package in BUNDLED)} <= names(PROJECT["dependencies"])


def test_pins_are_what_pip_brings_along_and_nothing_else():
    found, left = set(), [canonicalize_name(package.name) for package in (*REQUIRED, *OPTIONAL, WARP)]
    while left:
        name = left.pop()
        if name in found or name in SLICER_HAS:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            environments = ({**system, "python_version": "3.12", "extra": ""} for system in SYSTEMS)
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                left.append(canonicalize_name(requirement.name))
    assert found == set(PINS)


def test_what_the_worker_imports_is_installed_or_comes_with_slicer():
    """A new dependency of the core would otherwise be missing in every Slicer but the developer's."""
    extras = {name.replace("-", "_") for group in PROJECT["optional-dependencies"].values() for name in names(group)}
    known = {package.module for package in (TORCH, *BUNDLED, *REQUIRED, *OPTIONAL, WARP)} | OF_SLICER | OF_COMMANDS | extras
    known |= set(sys.stdlib_module_names) | {"SparseAnatomyLib", "IntraopReconLib", "ShapeCompletionLib", "IntraopRecon", "ShapeCompletion"}
    imported = {}
    for path in (path for module in ("IntraopRecon", "ShapeCompletion") for path in (REPOSITORY / module).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            imported |= {module.split(".")[0]: path.name for module in modules}
    assert {module: path for module, path in imported.items() if module not in known} == {}


def test_nothing_is_missing_here():
    assert missing((TORCH, *BUNDLED, *REQUIRED, *OPTIONAL)) == []


@pytest.mark.parametrize(
    ("system", "files", "programs", "expected"),
    [
        ("linux", {"/proc/driver/nvidia/version"}, set(), True),
        ("linux", {"/usr/lib/wsl/lib/libcuda.so.1"}, set(), True),
        ("linux", set(), {"nvidia-smi"}, True),
        ("linux", set(), set(), False),
        ("win32", {os.path.join(r"C:\Windows", "System32", "nvcuda.dll")}, set(), True),
        ("win32", {"/proc/driver/nvidia/version"}, set(), False),
        ("darwin", {"/proc/driver/nvidia/version"}, {"nvidia-smi"}, False),
    ],
)
def test_the_package_for_cards_counts_where_there_is_their_driver(monkeypatch, system, files, programs, expected):
    monkeypatch.delenv("SYSTEMROOT", raising=False)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os.path, "exists", lambda path: path in files)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("nothing is started to find out"))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("nothing is loaded to find out"))
    hasNvidiaDriver.cache_clear()
    try:
        assert hasNvidiaDriver() is expected
        assert optional() == ((*OPTIONAL, WARP) if expected else OPTIONAL)
        assert WARP not in REQUIRED
    finally:
        hasNvidiaDriver.cache_clear()


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True) | st.sampled_from(sorted(PINS))
VERSIONS = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3}){0,3}(\+cpu)?", fullmatch=True)


@given(st.dictionaries(NAMES, VERSIONS))
def test_whatever_is_installed_keeps_its_version(installed: dict[str, str]):
    held = installedVersions(constraintLines(installed))
    assert held == {**PINS, **installed}
    without = installedVersions(constraintLines(installed, withInstallTools=False))
    assert without == {name: version for name, version in held.items() if name not in ("pip", "setuptools", "wheel")}


def test_vtk_that_pip_does_not_see_is_never_installed_beside():
    assert "vtk<0" in constraintLines({"numpy": "2.3.4"})
    assert "vtk<0" not in constraintLines({"vtk": "9.6.0"})


def test_what_pip_lists_is_read_and_its_warnings_are_not():
    listed = [
        "WARNING: Ignoring invalid distribution ~umpy (/x)",
        "Jinja2==3.1.6",
        "typing_extensions==4.15.0\r",
        "torch==2.13.0+cu130",
        "",
    ]
    assert installedVersions(listed) == {"jinja2": "3.1.6", "typing-extensions": "4.15.0", "torch": "2.13.0+cu130"}


def test_pip_builds_nothing_and_asks_nothing():
    arguments = installArguments(REQUIRED, Path("a folder/c.txt"))
    assert {"--only-binary=:all:", "--no-input"} <= set(arguments)
    assert arguments[arguments.index("-c") + 1] == str(Path("a folder/c.txt"))
    assert arguments[-len(REQUIRED) :] == [package.name for package in REQUIRED]
    assert not {"--upgrade", "-U", "--force-reinstall", "--user"} & set(arguments)


OFFLINE = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': Failed to establish a new connection')'"
CAUSES = "ERROR: Cannot install numba because these package versions have conflicting dependencies.\nThe conflict is caused by:\n"
NO_CANDIDATE = f"{CAUSES}    The user requested numba\n    The user requested (constraint) numba==0.68.1\nERROR: ResolutionImpossible:"
CONFLICT = f"{CAUSES}    numba 0.68.1 depends on numpy<2.5\n    The user requested (constraint) numpy==2.5.0\nERROR: ResolutionImpossible:"


@pytest.mark.parametrize(
    ("output", "says", "remedy"),
    [
        ("C:\\Slicer\\bin\\python-real.exe: No module named pip", "has no pip", "Install Slicer again"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full", "Free 2 GB"),
        ("ERROR: Could not install packages due to an OSError: [WinError 112] There is not enough space", "disk is full", "Free 2 GB"),
        ("ERROR: OSError: [Errno 13] Permission denied: '/opt/Slicer/lib/Python'", "may not be written", "administrator"),
        ("ERROR: OSError: [WinError 5] Access is denied: 'C:\\\\Program Files'", "may not be written", "administrator"),
        ("ERROR: PermissionError: [WinError 32] The process cannot access the file: being used", "is in use", "Restart Slicer"),
        (f"{OFFLINE}\n{NO_CANDIDATE}", "could not be reached", "connection to the internet"),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "could not be reached", "pypi.org"),
        ("WARNING: connection broken by 'ProxyError('Cannot connect to proxy.', NewConnectionError(", "proxy lets nothing", "HTTPS_PROXY"),
        ("Max retries exceeded with url (Caused by SSLError(SSLCertVerificationError(1, '", "not trusted", "PIP_CERT"),
        (CONFLICT, "Another version of numpy is needed", "Update Slicer"),
        (NO_CANDIDATE, "no ready-made numba", "5.10 or later"),
        ("ERROR: No matching distribution found for llvmlite<0.51,>=0.50", "no ready-made llvmlite", "5.10 or later"),
        ("", "could not be installed", "copy the details"),
    ],
)
def test_a_failure_is_a_sentence_with_a_remedy(output: str, says: str, remedy: str):
    error = pipError(output)
    assert says in error.message
    assert remedy in error.remedy
    for sentence in (error.message, error.remedy):
        assert re.fullmatch(r"[A-Z].*\.", sentence)


@given(st.text())
def test_any_output_is_explained(output: str):
    assert pipError(output).remedy
