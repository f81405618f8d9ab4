"""What the X-rays of a case look like, for the panel: small pictures, directions, grades and beads, in files that are quick to show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.provenance import json_ready, sha256
from SparseAnatomyLib.staging import write_together
from SparseAnatomyLib.textfiles import read_json

from .calibration.calibration_file import FILE, FOLDER, read_record
from .calibration.placed_beads import placed_lists
from .calibration.poses import PosedImage, read_poses
from .calibration.shots import poses_by_image, view_keys
from .case import POSES_FILE, XRAYS_FOLDER, check_case_folder
from .reconstruction import Report, silent
from .xrays.dicom import read_radiographs
from .xrays.dicom_writer import positioner_angles_deg
from .xrays.radiograph import AttenuationImage, Radiograph, attenuation

DESCRIPTION_FILE, FRAMES_FILE = "xrays.json", "frames.npz"
THUMBNAIL_PX, FRAME_PX, PICTURE_PX = 96, 160, 1024  # the longer side at most
WINDOW_PERCENT = (1.0, 99.5)
UNKNOWN_GRAY = 40  # of what the mask leaves out
BEAD_MARGIN_SHARE = 0.08  # of the image's width, around the beads: what the contrast is set for
BEAD_RADII = 1.6  # beads themselves are brighter than anything that is to be seen
_GEOMETRY = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px")


def describe_case(case: Path, out: Path, report: Report = silent) -> dict[str, Path]:
    """Write what a panel shows of a case's X-rays; the case itself stays as it is.

    Args:
        case: Case folder with X-rays; poses and a calibration may be there.
        out: Folder for the files; it is made.
        report: Told about the progress.

    Returns:
        Path by role. `description`: xrays.json, with a dictionary a view (name, key, image, frame, size_px, thumbnail, picture, angles,
        grade, reprojection_rms_px, has_pose, placed_by_hand, beads, problems) and sentences (`notes`). `frames`: frames.npz, coarse
        attenuation of the views with a pose, in the form of a result's views.npz.

    Raises:
        InputError: The folder holds no X-rays, or one of them cannot be read; names the file.
        ResourceError: Memory or disk are full.
        Cancelled: From `report`.
    """
    case = Path(case)
    report(0.0, "Reading the X-rays")
    notes: list[str] = []
    known = poses_by_image(_poses(case, notes))
    radiographs = _radiographs(case, {image for image, _ in known})
    entries = _calibrated(case, notes)
    keys = view_keys(radiographs)
    lists = placed_lists(case / FOLDER, {key: radiograph.path for key, radiograph in zip(keys, radiographs, strict=True)})
    views: list[dict[str, Any]] = []
    frames: list[tuple[str, AttenuationImage, XrayView]] = []

    def write(folder: Path) -> None:
        for number, (radiograph, key) in enumerate(zip(radiographs, keys, strict=True)):
            report(0.2 + 0.8 * number / len(radiographs), f"Looking at {radiograph.name}")
            posed = known.get((radiograph.image, radiograph.frame))
            entry = entries.get((radiograph.image, radiograph.frame), {})
            image, problem = _attenuation(radiograph, posed)
            view = {"name": radiograph.name, "key": key, "thumbnail": f"small_{number:03d}.png", "picture": f"large_{number:03d}.png"}
            view["placed_by_hand"] = key in lists and not lists[key].is_stale
            view |= _facts(radiograph, posed, entry) | {"problems": [*([problem] if problem else []), *_sentences(entry)]}
            views.append(view)
            _write_pictures(folder, view, radiograph, image)
            if image is not None and posed is not None and posed.size_px == radiograph.size_px:
                frames.append((radiograph.name, *_coarse(image, posed.view)))
        _write_frames(folder / FRAMES_FILE, frames)
        text = json.dumps(json_ready({"case": case.name, "notes": notes, "views": views}), allow_nan=False)
        (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")

    pictures = [f"{size}_{number:03d}.png" for number in range(len(radiographs)) for size in ("small", "large")]
    write_together(Path(out), [*pictures, FRAMES_FILE, DESCRIPTION_FILE], write)
    report(1.0, "Done")
    return {"description": Path(out) / DESCRIPTION_FILE, "frames": Path(out) / FRAMES_FILE}


def _radiographs(case: Path, posed: set[str]) -> list[Radiograph]:
    """Return the images in `xrays/` and those that have a pose elsewhere in the folder."""
    check_case_folder(case)
    xrays = case / XRAYS_FOLDER
    found = read_radiographs(xrays, case) if xrays.is_dir() else []
    others = sorted(posed - {radiograph.image for radiograph in found})
    inside = [image for image in others if (case / image).is_file() and (case / image).resolve().is_relative_to(case.resolve())]
    found += [radiograph for image in inside for radiograph in read_radiographs(case / image, case)]
    if not found:
        raise InputError(f"The folder {case.name} holds no X-rays.", "Choose the folder with the X-ray images (DICOM).")
    return found


def _poses(case: Path, notes: list[str]) -> list[PosedImage]:
    """Return the poses of a case; damaged ones are none, with a sentence."""
    if not (case / POSES_FILE).exists():
        return []
    try:
        return read_poses(case / POSES_FILE)
    except InputError as error:
        notes.append(str(error))
        return []


def _calibrated(case: Path, notes: list[str]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Return what the calibration says of the images that it saw, by image and frame; a damaged one says nothing."""
    try:
        record = read_record(case)
    except InputError as error:
        notes.append(str(error))
        return {}
    if record is None:
        return {}
    views = read_json(case / FOLDER / FILE, "a calibration that this program wrote")["views"]  # as `read_record` has checked
    known = {(view["image"], view["frame"]): view for view in views}
    return {key: view for key, view in known.items() if (case / key[0]).is_file() and sha256(case / key[0]) == record.views[key].sha256}


def _facts(radiograph: Radiograph, posed: PosedImage | None, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a view without looking at its pixels."""
    angles, origin = None, None
    if posed is not None:
        angles, origin = positioner_angles_deg(posed.view), "pose"
    elif radiograph.positioner_primary_deg is not None and radiograph.positioner_secondary_deg is not None:
        angles, origin = (radiograph.positioner_primary_deg.value, radiograph.positioner_secondary_deg.value), "tags"
    beads = entry.get("beads", ())
    return {
        "image": radiograph.image,
        "frame": radiograph.frame,
        "size_px": radiograph.size_px,
        "angles_deg": angles,
        "angles_origin": origin,
        "has_pose": posed is not None,
        "grade": (posed.grade if posed is not None else entry.get("grade")) or "",
        "reprojection_rms_px": posed.reprojection_rms_px if posed is not None else None,
        "is_calibrated": bool(entry),
        "beads": [{key: bead.get(key) for key in ("center_px", "radius_px", "size", "origin", "number", "residual_px")} for bead in beads],
    }


def _sentences(entry: Mapping[str, Any]) -> list[str]:
    problems = entry.get("problems")
    known = [problem for problem in problems if isinstance(problem, dict)] if isinstance(problems, list) else []
    return [f"{problem.get('message', '')} {problem.get('remedy', '')}".strip() for problem in known]


def _attenuation(radiograph: Radiograph, posed: PosedImage | None) -> tuple[AttenuationImage | None, str]:
    """Return the line integrals, or why there are none."""
    try:
        return attenuation(radiograph, posed.air_intensity if posed else None), ""
    except InputError as error:
        return None, str(error)


def _write_pictures(folder: Path, view: Mapping[str, Any], radiograph: Radiograph, image: AttenuationImage | None) -> None:
    """Write a view in two sizes, 8-bit, metal bright."""
    values, mask = (-radiograph.intensity, radiograph.mask) if image is None else (image.attenuation, image.mask)
    near = mask & _around_beads(view["beads"], mask.shape)
    low, high = np.percentile(values[near if near.any() else mask], WINDOW_PERCENT) if mask.any() else (0.0, 1.0)
    gray = (255 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(np.where(mask, gray, np.uint8(UNKNOWN_GRAY)))
    for name, largest in ((view["picture"], PICTURE_PX), (view["thumbnail"], THUMBNAIL_PX)):
        picture.thumbnail((largest, largest), Image.Resampling.BOX)
        picture.save(folder / name, format="PNG", compress_level=1)


def _around_beads(beads: list[Mapping[str, Any]], shape: tuple[int, ...]) -> np.ndarray:
    """Return the box around the beads and a margin, without the beads, bool [row, column]; everything where there are fewer than two."""
    if len(beads) < 2:
        return np.ones(shape, bool)
    pixel, margin = np.array([bead["center_px"] for bead in beads]), BEAD_MARGIN_SHARE * shape[1]
    (left, top), (right, bottom) = (pixel.min(0) - margin).clip(0).astype(int), (pixel.max(0) + margin).clip(0).astype(int)
    near = np.zeros(shape, bool)
    near[top : bottom + 1, left : right + 1] = True
    for (column, row), bead in zip(pixel, beads, strict=True):
        reach = BEAD_RADII * bead["radius_px"]
        rows, columns = (slice(max(int(center - reach), 0), max(int(center + reach) + 2, 0)) for center in (row, column))
        near[rows, columns] = False
    return near


def _coarse(image: AttenuationImage, view: XrayView) -> tuple[AttenuationImage, XrayView]:
    """Return an image and its geometry with pixels so large that it is as small as it appears in 3D."""
    factor = -(-max(view.size_px) // FRAME_PX)
    if factor == 1:
        return image, view
    binned = view.binned(factor)
    columns, rows = binned.size_px
    parts = (array[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor) for array in (image.attenuation, image.mask))
    values, mask = (part.astype(np.float32).mean((1, 3)) for part in parts)
    return AttenuationImage(values / np.maximum(mask, 1e-6), mask > 0, image.air_intensity), binned


def _write_frames(path: Path, frames: list[tuple[str, AttenuationImage, XrayView]]) -> None:
    """Write views in the form of a result's views.npz."""
    arrays = {"name": np.array([name for name, _, _ in frames], dtype=np.str_)}
    for attribute in _GEOMETRY:
        arrays[attribute] = np.array([getattr(view, attribute) for _, _, view in frames])
    for number, (_, image, _) in enumerate(frames):
        arrays[f"attenuation_{number:03d}"] = image.attenuation.astype(np.float16)
        arrays[f"mask_{number:03d}"] = image.mask
    np.savez(path, **arrays)
