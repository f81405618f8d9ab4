"""Where the files that ship with the extension lie: samples, tables, trained weights."""

from __future__ import annotations

from pathlib import Path

from SparseAnatomyLib.errors import InputError


def resource(name: str) -> Path:
    """Return a file or folder of `Resources`, in the repository or in the installed extension.

    Args:
        name: Path within Resources, such as "Priors" or "SampleCase/lumbar".

    Raises:
        InputError: It is not there.
    """
    package = Path(__file__).resolve().parent
    for root in (package.parents[1], package.parent):
        path = root / "Resources" / name
        if path.exists():
            return path
    raise InputError(f"{name} is not installed.", "Install the extension again, or run from a checkout of the repository.")
