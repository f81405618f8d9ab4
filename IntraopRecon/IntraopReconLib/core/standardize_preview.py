"""What a standardization would make of a case's X-rays, as pictures for the panel; the case stays as it is."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from SparseAnatomyLib.provenance import json_ready
from SparseAnatomyLib.staging import write_together

from .case import load_case
from .config import Standardize
from .reconstruction import Report, silent
from .standardization.pictures import view_tiles
from .standardization.standardize import StandardizedView
from .standardized_case import standardized_case

FILE = "standardization.json"
KINDS = ("before", "bone", "taken_away", "uncertainty")
"""The pictures of a view, in the order of `standardization.pictures.TITLES`."""
PICTURE_PX = 1024  # the longer side at most
_LOOKED = 0.9  # of the work, before the pictures are written


def preview_standardization(
    case: Path, out: Path, asked: Standardize, skipped: Collection[str] = (), report: Report = silent
) -> dict[str, Path]:
    """Standardize the X-rays of a case as a reconstruction would, and write pictures of each.

    Args:
        case: Case folder with poses.
        out: Folder for the files; it is made.
        asked: Whether the X-rays are standardized; `auto` looks at them.
        skipped: Names of X-rays that the user leaves out.
        report: Told about the progress.

    Returns:
        Path by role. `standardization`: standardization.json, what reports say (see `Standardization.to_json`), with the names of four
        pictures a view (`KINDS`).

    Raises:
        InputError: The case will not do.
        ResourceError: The disk is full.
        Cancelled: From `report`.
    """
    report(0.0, "Reading the X-rays")
    done = standardized_case(load_case(Path(case), skipped), asked, report=lambda share, what, _=None: report(_LOOKED * share, what))
    views = done.standardization.views
    data = done.standardization.to_json()

    def write(folder: Path) -> None:
        for number, (view, entry) in enumerate(zip(views, data["views"], strict=True)):
            report(_LOOKED + (1 - _LOOKED) * number / len(views), f"Drawing X-ray {number + 1} of {len(views)}")
            entry |= _write_pictures(folder, number, view)
        (folder / FILE).write_text(json.dumps(json_ready(data), allow_nan=False), encoding="utf-8")

    names = [_name(kind, number) for number in range(len(views)) for kind in KINDS]
    write_together(Path(out), [*names, FILE], write)
    report(1.0, "Done")
    return {"standardization": Path(out) / FILE}


def _write_pictures(folder: Path, number: int, view: StandardizedView) -> dict[str, Any]:
    """Write the pictures of a view and return what is said of them."""
    for kind, tile in zip(KINDS, view_tiles(view), strict=True):
        picture = Image.fromarray(np.ascontiguousarray(tile))
        picture.thumbnail((PICTURE_PX, PICTURE_PX), Image.Resampling.BOX)
        picture.save(folder / _name(kind, number), format="PNG", compress_level=1)
    rows, columns = view.view.mask.shape
    return {"size_px": [columns, rows], "pictures": {kind: _name(kind, number) for kind in KINDS}}


def _name(kind: str, number: int) -> str:
    return f"{kind}_{number:03d}.png"
