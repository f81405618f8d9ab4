"""Saving a completed shape into a folder of the user's choice: the same files that the commands write, and an STL."""

from __future__ import annotations

from pathlib import Path

from ShapeCompletionLib.core.result import FILES, STL_FILE, check_not_foreign, write_files
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.staging import check_result_folder

from .CompletionFolder import CompletedShape


def saveShape(shape: CompletedShape, folder: str) -> list[Path]:
    """Write a shape into a folder, all of its files or none; an earlier shape there is replaced.

    Args:
        shape: As it was computed; later edits of its nodes are not in it.
        folder: Its full path; it is made.

    Returns:
        The files.

    Raises:
        InputError: The path is not a full one, or there is something else in the folder that would be overwritten.
        ResourceError: The disk is full or fails.
    """
    out = Path(folder)
    if not out.is_absolute():
        raise InputError(f"{folder} is not the full path of a folder.", "Choose the folder with the button beside it.")
    check_result_folder(out, 2.0 * shape.probability.nbytes)
    check_not_foreign(out)
    write_files(out, shape.grid, shape.probability, shape.mesh, shape.confidence, shape.report, with_stl=True)
    return [out / name for name in (*FILES.values(), STL_FILE)]
