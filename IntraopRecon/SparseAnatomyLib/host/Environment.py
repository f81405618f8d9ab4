"""Where this runs and whether the worker has what it needs, in one sentence for the panel. Imports nothing heavy to find out."""

from __future__ import annotations

import importlib.util

import slicer

from SparseAnatomyLib.errors import ResourceError

from .ChildProcess import pythonExecutable

WORKER_PACKAGES = ("torch", "numba", "skimage", "matplotlib", "jinja2", "pydicom", "SimpleITK")


def isDesktop() -> bool:
    """Return whether this is the Slicer application, with its windows, rather than its libraries (slicer-core) alone."""
    return hasattr(slicer, "app")


def missingPackages() -> list[str]:
    """Return the packages that the worker needs and this Python, which is also the worker's, lacks."""
    return [name for name in WORKER_PACKAGES if importlib.util.find_spec(name) is None]


def isReady() -> bool:
    """Return whether the worker can be started and finds its packages."""
    try:
        pythonExecutable()
    except ResourceError:
        return False
    return not missingPackages()


def environmentSentence(jobs: str = "reconstructions") -> str:
    """Return one sentence for the panel: ready for such jobs and on which Python, or what is missing and what to do."""
    try:
        python = pythonExecutable()
    except ResourceError as error:
        return str(error)
    missing = missingPackages()
    if not missing:
        return f"Ready: {jobs} run beside {'Slicer' if isDesktop() else 'this program'}, on {python}."
    if not isDesktop():
        return f"Python packages are missing ({', '.join(missing)}): install sparse-anatomy with pip."
    steps = ["install the PyTorch extension"] if "torch" in missing else []
    others = [name for name in missing if name != "torch"]
    steps += [f"run slicer.util.pip_install('{' '.join(map(_distribution, others))}') in the Python console"] if others else []
    return f"Python packages are missing ({', '.join(missing)}): {', then '.join(steps)}, then restart Slicer."


def _distribution(package: str) -> str:
    return {"skimage": "scikit-image"}.get(package, package)
