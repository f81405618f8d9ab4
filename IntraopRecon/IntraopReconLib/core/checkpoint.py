"""Where a killed reconstruction goes on from: one file a stage, written whole or not at all."""

from __future__ import annotations

import os
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np


class Checkpoint:
    """Named arrays by stage in a folder; without a folder, it keeps nothing.

    Args:
        folder: An existing folder that belongs to one run's inputs and settings, or None.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last_save = time.monotonic()

    def load(self, stage: str) -> dict[str, np.ndarray]:
        """Return what was saved for a stage; nothing where there is no file, or one that cannot be read."""
        if self._folder is None:
            return {}
        try:
            # numpy leaves the files that it opens itself open where they are damaged, and Windows replaces no open file
            with (self._folder / f"{stage}.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
            return {}

    def save(self, stage: str, arrays: Callable[[], dict[str, np.ndarray]], least_seconds: float = 0.0) -> None:
        """Save a stage's arrays, unless the last save was less than `least_seconds` ago: then they are not even asked for.

        Raises:
            OSError: The disk is full.
        """
        if self._folder is None or time.monotonic() - self._last_save < least_seconds:
            return
        partial = self._folder / f"{stage}.npz.partial"
        with partial.open("wb") as stream:
            np.savez(stream, **arrays())
        os.replace(partial, self._folder / f"{stage}.npz")
        self._last_save = time.monotonic()
