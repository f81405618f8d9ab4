"""Text files that users bring along: whatever is wrong with one is a sentence; what is written replaces a file at once or not at all."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .errors import InputError

LARGEST_BYTES = 1 << 26


def read_text(path: Path, what: str) -> str:
    """Read a text file in UTF-8.

    Args:
        path: The file.
        what: What the user should have chosen, such as "the markups file of the beads", for the remedy.

    Returns:
        Its text, without a byte order mark; line ends become line feeds.

    Raises:
        InputError: It is missing, cannot be read, is too large, or holds no text.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB, which is too large.", f"Choose {what}.")
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"There is no file {path.name} in {path.parent.name or path.parent}.", "Check the path.") from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.", "Check the file and its permissions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not a text file.", f"Choose {what}.") from error
    except ValueError as error:  # a path with a null character
        raise InputError(f"The path {str(path)!r} cannot be used.", "Check the path.") from error


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file; parameters and errors as in `read_text`, or it is no JSON."""
    try:
        return json.loads(read_text(path, what))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{Path(path).name} is not a valid JSON file: {error}.", f"Choose {what}.") from error


def writable(name: str) -> str:
    """Return a file's name as text files and pictures can hold it: bytes that are no UTF-8, which Linux allows, become U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", name)


def replace_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, replacing an older one at once or not at all.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
