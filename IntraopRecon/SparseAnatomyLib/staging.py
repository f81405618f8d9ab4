"""A result folder: it can take the result, and it is written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError, ResourceError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_STAGING, _PARTIAL = ".result-", ".partial"
_LEFT_BEHIND_S = 3600.0  # so old, what is being written was left by a kill, and is not another run's
_MENDED_BY_ANOTHER_FOLDER = (errno.EROFS, errno.ENAMETOOLONG, errno.ENOTEMPTY)
_LOCK = ".job.lock"
_LOCK_SECONDS = 2.0  # a process that is being ended needs a moment
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def check_result_folder(out: Path, needed_bytes: float) -> None:
    """Refuse a result folder that cannot take the result, before anything is computed or made.

    Args:
        out: The folder; it need not be there.
        needed_bytes: About how much will be written.

    Raises:
        InputError: It is a file, or may not be written to.
        ResourceError: The disk has too little room.
    """
    if os.path.lexists(out) and not os.path.isdir(out):  # a file, or a link that leads nowhere; of a path too long, Path.exists raises
        raise InputError(f"{out} is a file, not a folder.", "Choose another result folder.")
    parent = next(folder for folder in (out.absolute(), *out.absolute().parents) if os.path.exists(folder))
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise InputError(f"{out} cannot be written to.", "Choose a result folder that you may write to.")
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        message = f"The disk of {out} has {free / 1e6:.0f} MB left, and the result needs about {needed_bytes / 1e6:.0f} MB."
        raise ResourceError(message, "Free some space or choose a result folder on another disk.")


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold a result folder for one process; the system lets go of it when the process ends, however it ends.

    Args:
        out: The folder; it is made.

    Raises:
        InputError: Another process holds it.
        OSError: It cannot be made or written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, until = out / _LOCK, time.monotonic() + _LOCK_SECONDS
    while (handle := _locked(path)) is None:
        if time.monotonic() > until:
            raise InputError(f"Another run is writing to {out}.", "Wait until it is done, or choose another result folder.")
        time.sleep(0.1)
    try:
        yield
    finally:
        if sys.platform == "win32":  # which removes no open file
            os.close(handle)
            with suppress(OSError):
                path.unlink()
        else:
            path.unlink(missing_ok=True)
            os.close(handle)


def _locked(path: Path) -> int | None:
    """Return the handle of a lock file, made where needed; None if another process holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.exists(path) or not os.path.samestat(os.stat(path), os.fstat(handle)):  # removed by the last that held it
                os.close(handle)
                return None
    except OSError as error:
        if error.errno in _TAKEN:
            os.close(handle)
            return None
        # a file system without locks: better one run without than none at all
    return handle


def write_together(out: Path, names: Sequence[str], write: Callable[[Path], None], obsolete: Sequence[str] = ()) -> None:
    """Write files beside their final place first, then rename them; if anything fails, an earlier result stays as it was.

    Args:
        out: The folder; it is made, and files of other names in it are left alone.
        names: The files.
        write: Writes all of them into the folder that it is given.
        obsolete: Files of an earlier result, which are removed.

    Raises:
        InputError: The folder cannot be made or written to.
        ResourceError: The disk is full or fails.
    """
    out = Path(out)
    staging = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        for other in out.glob(f"{_STAGING}*{_PARTIAL}"):
            with suppress(FileNotFoundError):  # another run may be done with it by now
                if time.time() - other.stat().st_mtime > _LEFT_BEHIND_S:
                    shutil.rmtree(other, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, suffix=_PARTIAL, dir=out))
        write(staging)
        _replace(staging, out, names, obsolete)
    except OSError as error:
        raise _explained(error, out) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _replace(staging: Path, out: Path, names: Sequence[str], obsolete: Sequence[str]) -> None:
    """Put staged files into their place; if one will not go, as where another program holds it open, those before it go back."""
    before, changed = staging / "before", []
    try:
        for name in (*names, *obsolete):
            if os.path.lexists(out / name):
                _keep(out / name, before / name)
            changed.append(name)
            if name in names:
                os.replace(staging / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)
    except OSError:
        for name in changed:
            if os.path.lexists(before / name):
                with suppress(OSError):  # what could not be replaced is still there
                    os.replace(before / name, out / name)
            elif name in names:
                (out / name).unlink(missing_ok=True)
        raise


def _keep(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, copy)
    except OSError:  # some file systems know no links
        shutil.copyfile(file, copy)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that becomes `out` at the end, or vanishes if anything fails.

    Args:
        out: The folder; it must not be there, or be empty.

    Raises:
        InputError: It is not empty, or cannot be made.
        ResourceError: The disk is full or fails.
    """
    out = Path(out).absolute()
    temporary = None
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} exists and is not empty.", "Choose another folder for --out, or remove this one.")
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=_PARTIAL, dir=out.parent))
        temporary.chmod(0o755)
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        raise _explained(error, out) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _explained(error: OSError, out: Path) -> InputError | ResourceError:
    while error.errno is None and isinstance(error.__context__, OSError):  # as pydicom wraps what it meets while it writes
        error = error.__context__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"The disk of {out} is full; nothing was changed there.", "Free some space or choose another folder, then run again."
        )
    if isinstance(error, FileExistsError | NotADirectoryError | PermissionError) or error.errno in _MENDED_BY_ANOTHER_FOLDER:
        return InputError(f"The result cannot be written to {out}: {error.strerror}.", "Choose a folder that you may write to.")
    return ResourceError(
        f"The result could not be written to {out}: {error.strerror or type(error).__name__}.", "Check the disk, then run again."
    )
