"""What the views of a case share of their camera: from a file, or from the tags of the X-rays, and which X-rays differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from IntraopReconLib.core.calibration_config import CaseSettings
from IntraopReconLib.core.xrays.radiograph import Radiograph
from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.textfiles import read_json

from .camera import Camera
from .jig_checks import Problem
from .poses import PIXEL_PITCH_RANGE_MM, SOURCE_TO_DETECTOR_RANGE_MM

EXAMPLE = '{"source_to_detector_mm": 1000, "pixel_pitch_mm": 0.2}'
KEYS = ("source_to_detector_mm", "pixel_pitch_mm", "principal_point_px", "measured")
_REMEDY = f"It holds {', '.join(KEYS)}, the latter two optional; the least is {EXAMPLE}."
_CHOOSE = "the intrinsics file of the C-arm (JSON)"


@dataclass(frozen=True)
class Intrinsics:
    """What an intrinsics file states.

    Attributes:
        source_to_detector_mm: SDD.
        pixel_pitch_mm: Between columns and between rows, at the detector.
        principal_point_px: (column, row); None for the middle of the image.
        measured: Whether the values were measured for this C-arm and are to be kept; otherwise they are nominal, and are adjusted.
    """

    source_to_detector_mm: float
    pixel_pitch_mm: tuple[float, float]
    principal_point_px: tuple[float, float] | None = None
    measured: bool = False


@dataclass(frozen=True, eq=False)
class CameraGroup:
    """X-rays of one camera.

    Attributes:
        camera: Intrinsics as stated.
        measured: Whether they are to be kept; otherwise they are rough.
        origin: Where they came from, in words.
        numbers: Of the X-rays.
    """

    camera: Camera
    measured: bool
    origin: str
    numbers: tuple[int, ...]


def read_intrinsics(path: Path) -> Intrinsics:
    """Read the intrinsics of a C-arm: a small JSON file that a user may write by hand.

    `source_to_detector_mm` and `pixel_pitch_mm` (one number, or [between columns, between rows]) must be there, `principal_point_px`
    ([column, row], 0 = center of the first pixel) and `measured` (true keeps the values, false, the default, lets the calibration adjust
    them over all X-rays) may.

    Raises:
        InputError: The file cannot be read, or a value is missing or wrong; names the file and the value.
    """
    path = Path(path)
    document = read_json(path, _CHOOSE)
    if not isinstance(document, dict):
        raise InputError(f"{path.name} is not an intrinsics file.", _REMEDY)
    unknown = [str(name) for name in document if name not in KEYS]
    if unknown:
        raise InputError(f"{path.name}: {unknown[0][:60]!r} is no value that it may hold.", _REMEDY)
    measured = document.get("measured", False)
    if not isinstance(measured, bool):
        raise InputError(f"{path.name}: measured must be true or false.", _REMEDY)
    pitch = document.get("pixel_pitch_mm")
    pitch = pitch if isinstance(pitch, list) else [pitch, pitch]
    distance = _numbers(path, "source_to_detector_mm", [document.get("source_to_detector_mm")], 1, SOURCE_TO_DETECTOR_RANGE_MM)
    pitches = _numbers(path, "pixel_pitch_mm", pitch, 2, PIXEL_PITCH_RANGE_MM)
    point = document.get("principal_point_px")
    if point is not None:
        point = _numbers(path, "principal_point_px", point, 2, (-1e5, 1e5))
    return Intrinsics(float(distance[0]), (float(pitches[0]), float(pitches[1])), point and (point[0], point[1]), measured)


def _numbers(path: Path, name: str, value: Any, count: int, limits: tuple[float, float]) -> list[float]:
    if isinstance(value, list) and any(isinstance(one, bool | str) for one in value):
        value = None
    try:
        array = check_array(name, value, (count,))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path.name}: {name} is missing or is not made of numbers.", _REMEDY) from error
    if (array < limits[0]).any() or (array > limits[1]).any():
        shown = ", ".join(f"{one:g}" for one in array)
        raise InputError(f"{path.name}: {name} is {shown}, expected {limits[0]:g} to {limits[1]:g}.", "Give it in millimeters.")
    return array.tolist()


def camera_groups(
    radiographs: Sequence[Radiograph], stated: Intrinsics | None, settings: CaseSettings
) -> tuple[list[CameraGroup], dict[int, Problem]]:
    """Find out which X-rays share a camera.

    The size and the pixel pitch of most X-rays hold; others look cropped or zoomed. The source-detector distance may differ.

    Args:
        radiographs: X-rays.
        stated: What an intrinsics file says; it goes before the tags.
        settings: Tolerances.

    Returns:
        Groups of X-rays, the largest first, and why an X-ray belongs to none, by its number.

    Raises:
        InputError: Nothing tells the pixel pitch or the source-detector distance.
    """
    size = Counter(radiograph.size_px for radiograph in radiographs).most_common(1)[0][0]
    pitches = [_tag_pitch(radiograph) for radiograph in radiographs]
    known = [pitch for pitch, radiograph in zip(pitches, radiographs, strict=True) if pitch and radiograph.size_px == size]
    pitch = Counter(known).most_common(1)[0][0] if known else None
    problems = {}
    for number, radiograph in enumerate(radiographs):
        problem = _differs(radiograph, pitches[number], size, pitch, settings)
        if problem:
            problems[number] = problem
    numbers = [number for number in range(len(radiographs)) if number not in problems]
    if stated is not None:
        camera = Camera(size, stated.pixel_pitch_mm, stated.source_to_detector_mm, stated.principal_point_px)
        return [CameraGroup(camera, stated.measured, "intrinsics file", tuple(numbers))], problems
    return _groups_by_tags(radiographs, numbers, (size, pitch), settings), problems


def _groups_by_tags(
    radiographs: Sequence[Radiograph],
    numbers: Sequence[int],
    detector: tuple[tuple[int, int], tuple[float, float] | None],
    settings: CaseSettings,
) -> list[CameraGroup]:
    """Return the X-rays by their source-detector distance; one that does not tell it goes with most."""
    size, pitch = detector
    distances = {number: radiographs[number].source_to_detector_mm for number in numbers}
    steps = {number: round(distance.value / settings.distance_step_mm) for number, distance in distances.items() if distance}
    missing = [words for words, value in (("pixel pitch", pitch), ("source-detector distance", steps)) if not value]
    if missing:
        raise InputError(
            f"The X-rays do not tell their {' and '.join(missing)}.",
            f"Write a file such as {EXAMPLE} with the nominal values of the C-arm and name it with --intrinsics.",
        )
    common = Counter(steps.values()).most_common(1)[0][0]
    groups: dict[int, list[int]] = {}
    for number in numbers:
        groups.setdefault(steps.get(number, common), []).append(number)
    found = []
    for members in sorted(groups.values(), key=len, reverse=True):
        distance = float(np.median([distances[number].value for number in members if distances[number]]))
        low, high = SOURCE_TO_DETECTOR_RANGE_MM
        if not low <= distance <= high:
            raise InputError(
                f"{radiographs[members[0]].name} states a source-detector distance of {distance:g} mm, expected {low:g} to {high:g} mm.",
                f"Write a file such as {EXAMPLE} and name it with --intrinsics.",
            )
        found.append(CameraGroup(Camera(size, pitch, distance), False, "tags of the X-rays", tuple(members)))
    return found


def _tag_pitch(radiograph: Radiograph) -> tuple[float, float] | None:
    """Return the pitch (between columns, between rows) that the tags state; they have it the other way round."""
    spacing = radiograph.pixel_spacing_mm
    return None if spacing is None else (spacing.value[1], spacing.value[0])


def _differs(
    radiograph: Radiograph,
    own: tuple[float, float] | None,
    size: tuple[int, int],
    pitch: tuple[float, float] | None,
    settings: CaseSettings,
) -> Problem | None:
    """Say so if an X-ray has another size or pitch than most."""
    remedy = "Export the whole image as it was taken, neither cropped nor zoomed."
    if radiograph.size_px != size:
        text = f"{radiograph.name} has {radiograph.size_px[0]} × {radiograph.size_px[1]} pixels, most X-rays {size[0]} × {size[1]}"
        return Problem(f"{text}: it looks cropped or zoomed.", remedy)
    if own and pitch and (np.abs(np.divide(own, pitch) - 1) > settings.pitch_share).any():
        text = f"{radiograph.name} has a pixel pitch of {own[0]:.3g} × {own[1]:.3g} mm, most X-rays {pitch[0]:.3g} × {pitch[1]:.3g} mm"
        return Problem(f"{text}: it looks cropped or zoomed.", remedy)
    return None
