"""PyTorch through Slicer's PyTorch extension, which knows which build suits the graphics card: never by pip alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import slicer

from SparseAnatomyLib.errors import Cancelled, ResourceError, SparseAnatomyError

from .Translate import tr as _

LEAST_VERSION = ">=2.3"  # the first that takes arrays of NumPy 2, which Slicer brings along


def hasTorchExtension() -> bool:
    """Return whether the extension is installed."""
    return hasattr(getattr(slicer, "modules", None), "pytorchutils")


def installTorch(constraints: Path) -> None:
    """Install PyTorch; returns when that is done, which takes minutes, while the extension shows what it does.

    Args:
        constraints: File that holds what is installed in place.

    Raises:
        Cancelled: The extension was told to stop.
        ResourceError: It could not.
    """
    import PyTorchUtils

    try:
        with _heldTo(constraints):
            torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
                askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=LEAST_VERSION
            )
    except Exception as error:  # what its child process, the network or the import of torch raise
        raise _failure(error) from error
    if torch is None:
        raise Cancelled(_("PyTorch was not installed."))


def _failure(error: Exception) -> SparseAnatomyError:
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return ResourceError(
        _("PyTorch could not be installed ({reason}).").format(reason=reason[0]),
        _("Restart Slicer, open the module PyTorch Utils and install it there; Slicer's error log says more."),
    )


@contextmanager
def _heldTo(constraints: Path) -> Iterator[None]:
    """Let every pip that is started meanwhile hold to the file; as an address, for pip takes a blank in a path for the end of it."""
    name, before = "PIP_CONSTRAINT", os.environ.get("PIP_CONSTRAINT")
    os.environ[name] = " ".join([*([before] if before else []), constraints.resolve().as_uri()])
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
