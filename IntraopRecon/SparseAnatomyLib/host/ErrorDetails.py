"""What a user may copy of an error, to send it to those who can help: no traceback, nothing that names a patient."""

from __future__ import annotations

import slicer

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.provenance import now_utc, package_versions

_PACKAGES = ("numpy", "SimpleITK", "torch", "numba")


def errorDetails(error: SparseAnatomyError, module: str) -> str:
    """Return lines of text: what is wrong, what to do, where it happened and in which versions.

    Args:
        error: What was raised, or what `failed` told.
        module: Name of the Slicer module.
    """
    versions = package_versions(_PACKAGES)
    application = getattr(slicer, "app", None)
    if application is not None:
        versions = {"slicer": f"{application.majorVersion}.{application.minorVersion}", **versions}
    lines = {"Problem": error.message, "Remedy": error.remedy, "Kind": error.kind, "Module": module, "Time": now_utc()}
    lines["Versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(f"{name}: {text}" for name, text in lines.items() if text)
