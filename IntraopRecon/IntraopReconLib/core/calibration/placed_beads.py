"""Lists of beads placed by hand, and the X-ray that each was first used for: one that has replaced it since shows its beads elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.provenance import sha256
from SparseAnatomyLib.staging import write_together
from SparseAnatomyLib.textfiles import read_json

RECORD_FILE = "placed_beads.json"


@dataclass(frozen=True)
class PlacedList:
    """The beads of an X-ray that were placed by hand.

    Attributes:
        path: Slicer point list.
        sha256: Of the list.
        image_sha256: Of the X-ray that the list, as it is, was first used for.
        is_stale: Whether another X-ray has taken its place.
    """

    path: Path
    sha256: str
    image_sha256: str
    is_stale: bool


def hand_file(key: str) -> str:
    """Return the name of the file with the beads of an X-ray that were placed by hand, in the folder of the calibration."""
    return f"beads_{key}.mrk.json"


def placed_lists(folder: Path, images: Mapping[str, Path]) -> dict[str, PlacedList]:
    """Return the lists of a case by the key of the X-ray; X-rays without one are left out.

    Args:
        folder: Folder of the calibration.
        images: File of each X-ray, by its key.
    """
    recorded = _recorded(folder / RECORD_FILE)
    found = {}
    for key, image in images.items():
        path = folder / hand_file(key)
        if path.is_file():
            digest, now = sha256(path), sha256(image)
            known = recorded.get(path.name)
            first = known[1] if known is not None and known[0] == digest else now
            found[key] = PlacedList(path, digest, first, first != now)
    return found


def record_placed_lists(folder: Path, lists: Iterable[PlacedList]) -> None:
    """Write down which X-ray each list was first used for.

    Raises:
        InputError: The folder may not be written to.
        ResourceError: The disk is full or fails.
    """
    content = json.dumps({one.path.name: [one.sha256, one.image_sha256] for one in lists}, indent=1)
    write_together(folder, [RECORD_FILE], lambda staging: (staging / RECORD_FILE).write_text(content + "\n", encoding="utf-8"))


def _recorded(path: Path) -> dict[str, tuple[str, str]]:
    """Return the checksums of list and X-ray by the name of the list; a damaged record says nothing."""
    try:
        content = read_json(path, RECORD_FILE) if path.is_file() else {}
        return {name: (str(digest), str(image)) for name, (digest, image) in content.items()}
    except (InputError, AttributeError, TypeError, ValueError):
        return {}
