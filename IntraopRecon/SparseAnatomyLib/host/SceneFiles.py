"""Scenes in Slicer's bundle files (.mrb): saved whole or not at all, checked before they are read."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

from SparseAnatomyLib.errors import InputError, ResourceError


def saveScene(scene, path: Path) -> Path:
    """Save a scene as .mrb; an earlier file of that name stays until the new one is complete.

    Returns:
        The path.

    Raises:
        InputError: Another ending, or a folder that is not there.
        ResourceError: The file could not be written.
    """
    path = Path(path).absolute()
    if path.suffix != ".mrb":
        raise InputError(f"{path.name} does not end in .mrb.", "Choose a name that does.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}.", "Choose a folder that exists.")
    try:
        with tempfile.TemporaryDirectory(prefix=".scene-", suffix=".partial", dir=path.parent) as folder:
            partial = Path(folder) / path.name  # the name within the bundle is that of the file
            if not (scene.WriteToMRB(str(partial)) and isIntact(partial)):
                raise ResourceError(
                    f"The scene could not be saved to {path}.", "Check the free space on the disk, or save to another folder."
                )
            os.replace(partial, path)
    except OSError as error:
        message = f"The scene could not be saved to {path}: {error.strerror or error}."
        raise ResourceError(message, "Choose a folder that you may write to and that has free space.") from error
    return path


def loadScene(scene, path: Path) -> None:
    """Add what a .mrb file holds to a scene.

    Raises:
        InputError: No such file, or a damaged one; the scene is as before.
    """
    path = Path(path).absolute()  # Slicer reads no bundle by a relative path
    if not path.is_file():
        raise InputError(f"There is no scene file {path}.", "Choose another file.")
    if not (isIntact(path) and scene.ReadFromMRB(str(path), False)):
        raise InputError(f"{path} is damaged or no Slicer scene.", "Choose another file, or save the scene again.")


def isIntact(path: Path) -> bool:
    """Return whether a file is a bundle whose parts are all whole."""
    try:
        with zipfile.ZipFile(path) as bundle:
            return bundle.testzip() is None and any(name.endswith(".mrml") for name in bundle.namelist())
    except (OSError, zipfile.BadZipFile, EOFError):
        return False
