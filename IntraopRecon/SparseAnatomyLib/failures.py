"""What any exception means to the user: the one mapping from errors to failures, for workers and commands alike."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from pathlib import Path

from .errors import Cancelled, InputError, ResourceError, SparseAnatomyError

_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PATH_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}
_ALLOCATION_WORDS = ("not enough memory", "can't allocate memory", "out of memory")  # torch raises RuntimeErrors that say so

_OUR_PACKAGES = ("SparseAnatomyLib", "IntraopReconLib", "ShapeCompletionLib")


def explain(error: BaseException, log_file: Path | None = None) -> SparseAnatomyError:
    """Return the error that the user is shown.

    A SparseAnatomyError explains itself; a full memory or disk is a ResourceError; a keyboard interrupt is a Cancelled; a path that cannot
    be used (permissions, a link in a circle, a name too long) is an InputError. Anything else is ours to mend: kind `internal`, with its
    traceback in a log file that the remedy names, never in the message.

    Args:
        error: What was raised.
        log_file: Where a traceback goes; None for a new file in the temporary folder.
    """
    if isinstance(error, SparseAnatomyError):
        return error
    if was_interrupted(error):
        return Cancelled()
    if is_disk_full(error):
        where = f" while writing {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return ResourceError(f"The disk is full{where}.", "Free some space or choose a result folder on another disk, then run it again.")
    if _is_memory_full(error):
        return ResourceError(
            "The computer's memory is not enough for this job.",
            "Close other programs, choose a larger voxel spacing or a smaller region of interest, then run it again.",
        )
    if isinstance(error, OSError) and error.errno in _PATH_ERRORS and error.filename:
        return InputError(f"{error.filename} cannot be used: {error.strerror}.", "Check the path and its permissions.")
    if "embedded null" in str(error) or "Symlink loop" in str(error):  # of Path: a ValueError, a RuntimeError
        return InputError("A path cannot be used: it holds a null character, or links that lead in a circle.", "Check the paths.")
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(_OUR_PACKAGES):
        return ResourceError(
            f"The Python package {error.name.partition('.')[0]} is not installed.",
            "Install it: in Slicer at the top of the module's panel, elsewhere with pip.",
        )
    log = append_log("".join(traceback.format_exception(error)), log_file)
    remedy = "Nothing you entered is wrong. Please report it" + (f" with this log file: {log}" if log else ".")
    return SparseAnatomyError(f"SparseAnatomy met an error of its own ({type(error).__name__}).", remedy)


def append_log(text: str, log_file: Path | None = None) -> Path | None:
    """Append text to a log file.

    Args:
        text: What is to be kept.
        log_file: Where; None, or a place that cannot be written to, gives a new file in the temporary folder.

    Returns:
        Where it went; None where no file can be written at all.
    """
    try:
        if log_file is None:
            handle, name = tempfile.mkstemp(prefix="SparseAnatomy-", suffix=".log")
            os.close(handle)
            log_file = Path(name)
        else:
            log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return None if log_file is None else append_log(text)
    return log_file


def was_interrupted(error: BaseException | None) -> bool:
    """Whether a keyboard interrupt is behind the error: one that comes within a compiled kernel is wrapped into a SystemError."""
    while isinstance(error, SystemError):
        error = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt)


def is_disk_full(error: BaseException) -> bool:
    """Whether the error says that the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def _is_memory_full(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _ALLOCATION_WORDS)
