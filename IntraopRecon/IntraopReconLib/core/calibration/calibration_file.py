"""What a calibration leaves in the case, `calibration/calibration.json` (format "SparseAnatomy calibration", version 1), as far as a
reconstruction reads it: which beads to take out of each X-ray, and whether its distortion was corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.textfiles import read_json

from .beads import Bead
from .distortion import Distortion
from .distortion_file import read_distortion
from .poses import VECTORS

FORMAT = "SparseAnatomy calibration"
VERSION = 1
FOLDER = "calibration"
FILE = "calibration.json"
DISTORTION_FILE = "distortion.json"
LARGEST_SIZE_PX = 16_384
SAME_POSE_MM = 1e-4  # what a pose may change by where another program has written it again
_REMEDY = "Calibrate the case again, or remove its folder calibration if the poses came from elsewhere."


@dataclass(frozen=True, eq=False)
class RecordedView:
    """What a calibration knows of one X-ray.

    Attributes:
        sha256: Of the image's file when it was calibrated.
        beads: Found, placed by hand, or put where the pose has one; in the image as it was measured.
        has_pose: Whether a pose was found: the beads of a view without one may be none.
        geometry: Source, first pixel and pixel steps of that pose, [4, 3], LPS mm; None in records that do not state it.
    """

    sha256: str
    beads: tuple[Bead, ...]
    has_pose: bool = True
    geometry: np.ndarray | None = None

    def is_posed_as(self, view: XrayView) -> bool:
        """Return whether a pose is the one that was found, so that it holds for the image as the calibration corrected it."""
        return self.geometry is None or np.allclose(self.geometry, [getattr(view, name) for name in VECTORS], rtol=0, atol=SAME_POSE_MM)


@dataclass(frozen=True)
class CalibrationRecord:
    """What a reconstruction needs of a calibration.

    Attributes:
        views: By image (path within the case) and frame.
        distortion: Correction under which the poses hold; None for none.
    """

    views: Mapping[tuple[str, int], RecordedView]
    distortion: Distortion | None


def read_record(case: Path) -> CalibrationRecord | None:
    """Read what the calibration of a case left.

    Args:
        case: The case folder.

    Returns:
        The record; None where the case was not calibrated from beads.

    Raises:
        InputError: The file is damaged or of another version; names the view and the field.
    """
    path = Path(case) / FOLDER / FILE
    if not path.exists():
        return None
    document = read_json(path, "a calibration that this program wrote")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f'{FOLDER}/{FILE} is no calibration: "format" must be "{FORMAT}".', _REMEDY)
    if isinstance(document.get("version"), bool) or document.get("version") != VERSION:
        raise InputError(f"{FOLDER}/{FILE} has another version than {VERSION}, which this program reads.", _REMEDY)
    entries = document.get("views")
    if not isinstance(entries, list):
        raise InputError(f"{FOLDER}/{FILE} has no list of views.", _REMEDY)
    views = {}
    for number, entry in enumerate(entries):
        try:
            key, recorded = _recorded(entry)
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
            raise InputError(f"{FOLDER}/{FILE}, view {number} is damaged: {error}", _REMEDY) from error
        views[key] = recorded
    distorted = document.get("distortion_corrected") is True
    return CalibrationRecord(views, read_distortion(path.with_name(DISTORTION_FILE)) if distorted else None)


def _recorded(entry: Any) -> tuple[tuple[str, int], RecordedView]:
    """Check one entry.

    Raises:
        ValueError: A value is wrong. TypeError, KeyError, OverflowError, AttributeError: It has another form.
    """
    image, frame, digest = entry["image"], entry["frame"], entry["sha256"]
    if not (isinstance(image, str) and isinstance(frame, int) and isinstance(digest, str)):
        raise ValueError("image, frame, sha256: expected a path, a number and a checksum.")
    beads = []
    for one in entry["beads"]:
        center = check_array("center_px", one["center_px"], (2,))
        radius = float(check_array("radius_px", one["radius_px"], ()))
        if abs(center).max() > 2 * LARGEST_SIZE_PX or not 0 < radius < LARGEST_SIZE_PX:
            raise ValueError("center_px, radius_px: expected a place and a size in pixels.")
        beads.append(Bead((float(center[0]), float(center[1])), radius, "large" if one.get("size") == "large" else "small", 1.0, 0.0))
    geometry = entry.get("geometry")
    if geometry is not None:
        geometry = np.stack([check_array(name, geometry[name], (3,)) for name in VECTORS])
    return (image, frame), RecordedView(digest, tuple(beads), entry.get("has_pose") is not False, geometry)
