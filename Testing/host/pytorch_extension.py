"""The PyTorch extension of Slicer, where a test has it installed: its module PyTorchUtils with what others call of it."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import slicer


@dataclass
class Calls:
    """What the extension was asked.

    Attributes:
        arguments: Of each installation.
        constraints: The lines that pip would have been held to in each.
    """

    arguments: list[dict[str, Any]] = field(default_factory=list)
    constraints: list[list[str]] = field(default_factory=list)


@contextmanager
def pytorch_extension(install: Callable[[], Any]) -> Iterator[Calls]:
    """Have the extension installed.

    Args:
        install: Does what an installation does, and returns what the extension then returns: the module torch, or None.
    """
    calls = Calls()

    class PyTorchUtilsLogic:
        """As in SlicerPyTorch: its module installs by a child process, whose every line lets the application handle events."""

        def installTorch(
            self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None, torchvisionVersionRequirement=None
        ):
            if askConfirmation:
                raise AssertionError("Asked twice: the panel has asked already.")
            backend, requirement = forceComputationBackend, torchVersionRequirement
            calls.arguments.append({"forceComputationBackend": backend, "torchVersionRequirement": requirement})
            calls.constraints.append([line for path in _constraint_files() for line in path.read_text().splitlines()])
            for _line in range(3):
                slicer.app.processEvents()
            return install()

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    sys.modules["PyTorchUtils"] = module
    slicer.modules.pytorchutils = module
    try:
        yield calls
    finally:
        del sys.modules["PyTorchUtils"]
        del slicer.modules.pytorchutils


def _constraint_files() -> list[Path]:
    """Return the files of PIP_CONSTRAINT, read as pip does: words between blanks, each a path or an address."""
    words = os.environ.get("PIP_CONSTRAINT", "").split()
    return [Path(url2pathname(urlparse(word).path)) if word.startswith("file:") else Path(word) for word in words]
