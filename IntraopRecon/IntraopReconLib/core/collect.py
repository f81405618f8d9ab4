"""X-rays from anywhere into a case folder of their own: what is dropped on the panel or selected in a DICOM browser."""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.ordering import natural_key
from SparseAnatomyLib.staging import write_together

from .case import POSES_FILE, XRAYS_FOLDER
from .reconstruction import Report, silent
from .xrays.dicom import read_radiographs

LONGEST_STEM = 24  # file names that are identifiers say nothing to the user
_DEFAULT_NAME = "X-rays"
_REMEDY = "Choose X-ray images (DICOM: XA, RF, DX or CR) or the folder that holds them."


def is_case(folder: Path) -> bool:
    """Return whether a folder has the form of a case."""
    return (folder / XRAYS_FOLDER).is_dir() or (folder / POSES_FILE).is_file()


def collect_case(sources: Sequence[Path], cases: Path, report: Report = silent) -> tuple[Path, list[str]]:
    """Return the case folder of some X-rays; a new one with copies of them where they do not lie in one already.

    A single folder that is a case is that case. Files that were collected before give the case that they are in, with its calibration.

    Args:
        sources: Files and folders.
        cases: Folder for new cases; it is made.
        report: Told about the progress.

    Returns:
        The case folder, and sentences about what was left out.

    Raises:
        InputError: A source does not exist, or none of them is an X-ray.
        ResourceError: The disk is full.
        Cancelled: From `report`.
    """
    sources = [Path(source) for source in sources]
    for source in sources:
        _check(source)
    if len(sources) == 1 and is_case(sources[0]):
        return sources[0], []
    files, refused = _xrays(sources, report)
    if not files:
        raise InputError(refused[0] if refused else "There are no X-rays in what was chosen.", _REMEDY)
    case = _case_of(files, Path(cases), _name(sources))
    if not case.exists():
        write_together(case / XRAYS_FOLDER, list(files), lambda folder: _copy(files, folder))
    return case, [f"{len(refused)} of the files were left out, such as: {refused[0]}"] if refused else []


def _check(source: Path) -> None:
    """Raise an InputError unless a file or folder can be read."""
    try:
        source.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"There is no file or folder {source}.", "Check the path.") from error
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise InputError(f"{source} cannot be read: {error.strerror}.", "Check the path and its permissions.") from error


def _xrays(sources: Sequence[Path], report: Report) -> tuple[dict[str, Path], list[str]]:
    """Return the files that are X-rays, by their name in the case, and why the others are not."""
    candidates = [file for source in sources for file in (_files_in(source) if source.is_dir() else [source])]
    files: dict[str, Path] = {}
    refused: list[str] = []
    for number, file in enumerate(dict.fromkeys(candidates)):
        report(number / max(len(candidates), 1), f"Looking at {file.name}")
        try:
            read_radiographs(file)
        except InputError as error:
            refused.append(error.message)
            continue
        files[_file_name(file, files)] = file
    return files, refused


def _files_in(folder: Path) -> list[Path]:
    found = (file for file in sorted(folder.rglob("*"), key=natural_key) if file.is_file() and file.name.upper() != "DICOMDIR")
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _file_name(file: Path, taken: dict[str, Path]) -> str:
    """Return a file's name in the case: its own, unless that is taken or an identifier."""
    stem = file.stem if file.suffix.lower() == ".dcm" else file.name
    names = {name.casefold() for name in taken}
    if len(stem) <= LONGEST_STEM and f"{stem}.dcm".casefold() not in names:
        return f"{stem}.dcm"
    return next(name for number in range(len(taken), 10**6) if (name := f"view_{number:03d}.dcm") not in names)


def _name(sources: Sequence[Path]) -> str:
    """Return what a case of these sources is called: as the folder that they are or lie in."""
    folder = sources[0] if sources[0].is_dir() else sources[0].parent
    name = re.sub(r"[^\w .-]", "_", folder.resolve().name).strip(" .")
    return name[:LONGEST_STEM].strip(" .") or _DEFAULT_NAME


def _case_of(files: dict[str, Path], cases: Path, name: str) -> Path:
    """Return the case folder that holds just these files, or the first that is free."""
    number = 1
    while True:
        case = cases / (name if number == 1 else f"{name} {number}")
        if not case.exists() or _holds(case / XRAYS_FOLDER, files):
            return case
        number += 1


def _holds(folder: Path, files: dict[str, Path]) -> bool:
    """Return whether a folder holds just these files: of uncompressed X-rays, names and sizes are often the same on other days."""
    there = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    return there == set(files) and all(filecmp.cmp(folder / name, path, shallow=False) for name, path in files.items())


def _copy(files: dict[str, Path], folder: Path) -> None:
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
