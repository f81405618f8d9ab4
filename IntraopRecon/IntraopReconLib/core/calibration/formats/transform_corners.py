"""What a transform file does to four points: all that a linear transform is, and light enough for a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import SimpleITK

READING_SECONDS = 120
POINTS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_CHILD = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {__name__} import corners; print(json.dumps(corners(sys.argv[2])))"


def corners(path: Path | str) -> list[list[float]] | None:
    """Return where the origin and the unit points go, [4, 3], LPS mm; None if the file holds no linear transform of space."""
    try:
        transform = SimpleITK.ReadTransform(str(path))
        if not transform.IsLinear() or transform.GetDimension() != 3:
            return None
        return [list(transform.TransformPoint(point)) for point in POINTS]
    except (RuntimeError, ValueError):  # ValueError where ITK's own message quotes bytes that are no text
        return None


def corners_apart(path: Path) -> list[list[float]] | None:
    """Return the same from a process of its own: a damaged HDF5 file can end the process that reads it."""
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(path)]
    try:
        return json.loads(subprocess.run(command, capture_output=True, timeout=READING_SECONDS, check=True).stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
