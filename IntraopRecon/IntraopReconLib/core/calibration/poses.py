"""Poses of X-ray images on disk: reads and writes `poses.json` (format "SparseAnatomy poses", version 1)."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.textfiles import replace_text

FORMAT = "SparseAnatomy poses"
VERSION = 1
GRADES = ("green", "amber", "red")
SOURCE_TO_DETECTOR_RANGE_MM = (200.0, 5000.0)
PIXEL_PITCH_RANGE_MM = (0.01, 20.0)
LARGEST_COORDINATE_MM = 100_000.0
LARGEST_SIZE_PX = 16_384
LARGEST_SKEW = 0.1  # cosine of the angle between columns and rows
VECTORS = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")
_FORMAT_REMEDY = "The README says what it holds, under Files and coordinates; write it again."
UNITS_REMEDY = "Coordinates are LPS millimeters; check the calibration that wrote the file."


@dataclass(frozen=True, eq=False)
class PosedImage:
    """One image (or one frame of it) with its calibrated geometry.

    Attributes:
        image: Path of the image within the case folder, with forward slashes.
        view: Source and detector; its `size_px` is the image's size.
        frame: Frame within the file, counted from 0.
        air_intensity: Stored value of an unattenuated pixel (I0), if it is known.
        reprojection_rms_px: Residual of the calibration, if it is known.
        grade: The calibration's grade, one of `GRADES`, if it was graded.
    """

    image: str
    view: XrayView
    frame: int = 0
    air_intensity: float | None = None
    reprojection_rms_px: float | None = None
    grade: str | None = None

    @property
    def size_px(self) -> tuple[int, int]:
        """(columns, rows)."""
        return self.view.size_px


def read_poses(path: Path) -> list[PosedImage]:
    """Read the poses of a case.

    Args:
        path: A `poses.json`.

    Returns:
        One posed image an entry, in the order of the file.

    Raises:
        InputError: The file cannot be read, or a view is wrong; names the view and the field.
    """
    path = Path(path)
    document = _load_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f'{path.name} is not a pose file: "format" must be "{FORMAT}".', _FORMAT_REMEDY)
    if isinstance(document.get("version"), bool) or document.get("version") != VERSION:
        raise InputError(
            f"{path.name} has version {_shown(document.get('version'))}, but this program reads version {VERSION}.",
            "Calibrate the case again, or update the program.",
        )
    for field, expected in (("coordinate_system", "LPS"), ("units", "mm")):
        if document.get(field) != expected:
            raise InputError(f'{path.name}: "{field}" must be "{expected}", not {_shown(document.get(field))}.', UNITS_REMEDY)
    entries = document.get("views")
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path.name}: "views" must be a list with at least one view.', "Calibrate the case.")
    posed = [_posed_image(f"{path.name}, view {number}", entry) for number, entry in enumerate(entries)]
    seen: set[tuple[str, int]] = set()
    for image in posed:
        if (image.image, image.frame) in seen:
            raise InputError(f"{path.name} holds two poses of {image.image}, frame {image.frame}.", "Remove one of them.")
        seen.add((image.image, image.frame))
    return posed


def write_poses(path: Path, posed_images: Sequence[PosedImage]) -> None:
    """Write `poses.json`, replacing the file at once or not at all.

    Args:
        path: The file to write; its folder exists.
        posed_images: What to write; absent optional values are left out.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "coordinate_system": "LPS",
        "units": "mm",
        "views": [_entry(image) for image in posed_images],
    }
    replace_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def _entry(posed: PosedImage) -> dict[str, Any]:
    entry: dict[str, Any] = {"image": posed.image, "frame": posed.frame, "size_px": list(posed.size_px)}
    entry |= {name: getattr(posed.view, name).tolist() for name in VECTORS}
    optional = {name: getattr(posed, name) for name in ("air_intensity", "reprojection_rms_px", "grade")}
    return entry | {name: value for name, value in optional.items() if value is not None}


def _load_json(path: Path) -> Any:
    """Return the parsed file; every way in which it can fail is an InputError."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing from {path.parent.name or path.parent}.", _FORMAT_REMEDY) from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.", "Check the file and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not a valid JSON file: {error}.", _FORMAT_REMEDY) from error


def _posed_image(where: str, entry: Any) -> PosedImage:
    """Check one entry of `views`; `where` names it."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object with an image and its geometry, not {_shown(entry)}.", UNITS_REMEDY)
    image = _image_path(where, entry.get("image"))
    where = f"{where} ({image})"
    grade = entry.get("grade")
    if grade is not None and grade not in GRADES:
        raise InputError(f'{where}: "grade" must be one of {", ".join(GRADES)}, not {_shown(grade)}.', "Correct or remove it.")
    rms = _optional_number(where, entry, "reprojection_rms_px")
    if rms is not None and rms < 0:
        raise InputError(f'{where}: "reprojection_rms_px" must not be negative.', "Correct or remove it.")
    air = _optional_number(where, entry, "air_intensity")
    return PosedImage(
        image=image,
        view=_view(where, entry),
        frame=_whole_number(f'{where}: "frame"', entry.get("frame", 0), 0, 2**31 - 1),
        air_intensity=air,
        reprojection_rms_px=rms,
        grade=grade,
    )


def _view(where: str, entry: dict[str, Any]) -> XrayView:
    """Check the geometry of one entry."""
    size = entry.get("size_px")
    if not isinstance(size, list) or len(size) != 2:
        raise InputError(f'{where}: "size_px" must be [columns, rows], not {_shown(size)}.', "State the size of the image.")
    columns, rows = (_whole_number(f'{where}: "size_px"', number, 1, LARGEST_SIZE_PX) for number in size)
    vectors = [_vector(where, entry, name) for name in VECTORS]
    try:
        view = XrayView(*vectors, (columns, rows))
    except ValueError as error:
        raise InputError(f"{where}: the pose is singular. {error}", UNITS_REMEDY) from error
    check_view(where, view)
    return view


def check_view(where: str, view: XrayView) -> None:
    """Refuse a geometry that no C-arm has.

    Args:
        where: What the message calls it.
        view: Source and detector.

    Raises:
        InputError: A pixel pitch or a distance that cannot be, pixels that are not perpendicular, or a mirrored image.
    """
    for name, pitch in zip(VECTORS[2:], view.pixel_pitch_mm, strict=True):
        low, high = PIXEL_PITCH_RANGE_MM
        if not low <= pitch <= high:
            raise InputError(f'{where}: "{name}" is {pitch:.3g} mm long, which is no pixel pitch ({low} to {high} mm).', UNITS_REMEDY)
    skew = abs(float(view.column_step_lps_mm @ view.row_step_lps_mm)) / float(np.prod(view.pixel_pitch_mm))
    if skew > LARGEST_SKEW:
        raise InputError(
            f'{where}: "column_step_lps_mm" and "row_step_lps_mm" are not perpendicular ({math.degrees(math.acos(skew)):.0f} degrees).',
            UNITS_REMEDY,
        )
    distance, (low, high) = view.source_to_detector_mm, SOURCE_TO_DETECTOR_RANGE_MM
    if not low <= distance <= high:
        raise InputError(
            f'{where}: the distance from "source_lps_mm" to the detector is {distance:.4g} mm, expected {low:.0f} to {high:.0f} mm.',
            UNITS_REMEDY,
        )
    if view.is_mirrored:
        raise InputError(
            f"{where}: the pose is mirrored: seen from the source, its columns run right to left while its rows run down.",
            'Reverse "column_step_lps_mm" (moving "detector_origin_lps_mm" to the other side), or store the image unmirrored.',
        )


def _vector(where: str, entry: dict[str, Any], name: str) -> np.ndarray:
    value = entry.get(name)
    if value is None:
        raise InputError(f'{where}: "{name}" is missing.', UNITS_REMEDY)
    if not isinstance(value, list) or len(value) != 3:
        raise InputError(f'{where}: "{name}" must be three numbers, not {_shown(value)}.', UNITS_REMEDY)
    numbers = [_number(f'{where}: "{name}"', number) for number in value]
    if max(map(abs, numbers)) > LARGEST_COORDINATE_MM:
        raise InputError(f'{where}: "{name}" lies {max(map(abs, numbers)) / 1000:.3g} m away from the origin.', UNITS_REMEDY)
    return np.array(numbers)


def _optional_number(where: str, entry: dict[str, Any], name: str) -> float | None:
    value = entry.get(name)
    return None if value is None else _number(f'{where}: "{name}"', value)


def _number(what: str, value: Any) -> float:
    """Return a finite number; JSON as Python reads it also holds NaN, Infinity, booleans and endless integers."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InputError(f"{what} must be finite numbers, not {_shown(value)}.", "Correct it.")


def _whole_number(what: str, value: Any, low: int, high: int) -> int:
    number = _number(what, value)
    if number != int(number) or not low <= number <= high:
        raise InputError(f"{what} must be whole numbers from {low} to {high}, not {_shown(value)}.", "Correct it.")
    return int(number)


def _image_path(where: str, value: Any) -> str:
    """Return the path with forward slashes; it must stay inside the case folder."""
    if not isinstance(value, str) or not value.strip() or any(unicodedata.category(character) == "Cc" for character in value):
        raise InputError(f'{where}: "image" must be the path of an image, not {_shown(value)}.', "State it, such as xrays/view_000.dcm.")
    path = PurePosixPath(value.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(value).drive or ".." in path.parts or not path.parts:
        raise InputError(f'{where}: "image" is {_shown(value)}, outside the case folder.', "Keep the images inside the case folder.")
    return str(path)


def _shown(value: Any) -> str:
    """Return a value as a message can show it: short, on one line."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return "a number with too many digits"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
