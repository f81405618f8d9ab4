"""Whether the worker has what it needs, in one sentence for the panel. Imports nothing heavy to find out."""

from __future__ import annotations

import slicer

from SparseAnatomyLib.errors import ResourceError
from SparseAnatomyLib.host import Requirements

from .ChildProcess import pythonExecutable
from .Installation import sharedInstallation
from .Requirements import Package, missing
from .Translate import tr as _


def isDesktop() -> bool:
    """Return whether this is the Slicer application, with its windows, rather than its libraries (slicer-core) alone."""
    return hasattr(slicer, "app")


def missingPackages() -> list[Package]:
    """Return the packages without which the worker can do nothing and that this Python, which is also the worker's, lacks."""
    return missing((*Requirements.BUNDLED, Requirements.TORCH, *Requirements.REQUIRED))


def isReady() -> bool:
    """Return whether the worker can be started and finds its packages, all of them whole."""
    try:
        pythonExecutable()
    except ResourceError:
        return False
    return not missingPackages() and not sharedInstallation().isRunning


def environmentSentence(jobs: str = "reconstructions") -> str:
    """Return one sentence for the panel: ready for such jobs and on which Python, or what is missing and what to do."""
    try:
        python = pythonExecutable()
    except ResourceError as error:
        return str(error)
    if sharedInstallation().isRunning:
        return _("Python packages are being installed: wait until that is done.")
    lacking = missingPackages()
    if not lacking:
        return f"Ready: {jobs} run beside {'Slicer' if isDesktop() else 'this program'}, on {python}."
    names = ", ".join(package.name for package in lacking)
    if not isDesktop():
        return f"Python packages are missing ({names}): install sparse-anatomy with pip."
    if any(package in Requirements.BUNDLED for package in lacking):
        return _("Python packages that Slicer brings along are missing ({names}): install Slicer again.").format(names=names)
    return _("Python packages are missing ({names}): install them at the top of this panel.").format(names=names)


def reasonWithout(module: str) -> str:
    """Return what to do where a package that only some things need is missing; empty if it is there.

    Args:
        module: What is imported, one of `Requirements.OPTIONAL`.
    """
    for package in missing([package for package in Requirements.OPTIONAL if package.module == module]):
        text = _("The Python package {name} is missing ({purpose}): install it at the top of this panel.")
        return text.format(name=package.name, purpose=package.purpose)
    return ""
