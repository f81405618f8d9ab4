"""From a case folder to one whose X-rays show bone alone; the originals go along, and a file says what was done to each view."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY, json_ready, now_utc, package_versions, sha256
from SparseAnatomyLib.staging import check_result_folder, new_folder

from .calibration.calibration_file import FOLDER as CALIBRATION_FOLDER
from .calibration.poses import PosedImage, read_poses, write_poses
from .case import POSES_FILE, XRAYS_FOLDER, Case, load_case
from .config import Device
from .coverage import default_region
from .reconstruction import Report, silent
from .standardization.pictures import write_picture
from .standardization.standardize import StandardizedView
from .standardization_config import StandardizationConfig, StandardizeMethod
from .standardized_case import Standardization, standardized_case, view_data
from .xrays.dicom_writer import XraySeries, write_standardized
from .xrays.stored import STANDARDIZED_MARK

FORMAT, VERSION = "SparseAnatomy standardization", 1
FILE, FOLDER, ORIGINAL_FOLDER = "standardization.json", "standardization", "original"
FIDUCIALS_FILE = "fiducials.mrk.json"
AIR_INTENSITY = 60_000
_FULL = 2**16 - 1  # a stored value that counts as saturated
_READ, _WRITE = 0.05, 0.85  # where the stages begin
_BYTES_PER_VIEW = 6_000_000
_PACKAGES = ("numpy", "scipy", "torch", "pydicom")


@dataclass(frozen=True)
class StandardizedFolder:
    """What came out.

    Attributes:
        paths: `case`, `standardization_json`, `poses`, `original`.
        used: Number of views by what was used for them: `network`, `classical`, `original`.
        warnings: Sentences for the user.
        device: Where the network ran, and why, in one sentence; None without a network.
    """

    paths: dict[str, Path]
    used: dict[str, int]
    warnings: list[str]
    device: str | None = None


def standardize_case(
    case: Path,
    out: Path,
    method: StandardizeMethod = "auto",
    report: Report = silent,
    weights: Path | None = None,
    device: Device = "auto",
) -> StandardizedFolder:
    """Standardize the X-rays of a case into a new case folder.

    Beads are taken out and distortion is corrected first, as for a reconstruction. The new folder holds `xrays/` (16 bit, proportional to
    the intensity behind the bone; 0 where a pixel says nothing), `poses.json`, `standardization.json`, a picture of each view in
    `standardization/`, and in `original/` the case as it was. It appears when it is complete, and not at all if anything fails.

    Args:
        case: Case folder with poses.
        out: The new case folder; new or empty.
        method: By what.
        report: Told about the progress.
        weights: Of a network of one's own; those that ship by default.
        device: Where the network runs.

    Raises:
        InputError: The case or the folder will not do, or the network is asked for and cannot be had.
        ResourceError: The disk is full, or a graphics card is asked for that cannot be used.
        Cancelled: From `report`.
    """
    case, out = Path(case), Path(out)
    if method not in get_args(StandardizeMethod):
        raise InputError(f"The setting method must be one of {', '.join(get_args(StandardizeMethod))}.", "Correct it.")
    if device not in get_args(Device):
        raise InputError(f"The setting device must be one of {', '.join(get_args(Device))}.", "Correct it.")
    if out.resolve().is_relative_to((case / XRAYS_FOLDER).resolve()):
        raise InputError(f"The folder {out} lies among the X-rays of the case.", "Choose a folder outside xrays.")
    report(0.0, "Reading the X-rays")
    loaded = load_case(case)
    check_result_folder(out, _BYTES_PER_VIEW * len(loaded.views))
    with new_folder(out) as folder:
        config = StandardizationConfig(method=method, weights=weights, device=device)
        done = standardized_case(loaded, "on", config, lambda share, what, _=None: report(_READ + (_WRITE - _READ) * share, what))
        posed = [one for one in read_poses(case / POSES_FILE) if one.grade != "red"]
        _write_case(folder, done, posed, report)
        _copy_original(case, folder / ORIGINAL_FOLDER)
    report(1.0, "Done")
    paths = {"case": out, "standardization_json": out / FILE, "poses": out / POSES_FILE, "original": out / ORIGINAL_FOLDER}
    used = dict(Counter(one.used for one in done.standardization.views))
    return StandardizedFolder(paths, used, done.warnings, done.standardization.device)


def _write_case(folder: Path, done: Case, posed: Sequence[PosedImage], report: Report) -> None:
    """Write the X-rays, their poses and pictures, and what was done to them."""
    (folder / XRAYS_FOLDER).mkdir()
    (folder / FOLDER).mkdir()
    views, names = done.standardization.views, _new_names(posed)
    center = np.array(default_region([view.geometry for view in done.views]).center_lps_mm)
    series = XraySeries(_fingerprint(views), f"{len(views)} standardized X-rays", center)
    entries = []
    for number, (view, before, name) in enumerate(zip(views, posed, names, strict=True)):
        report(_WRITE + (1 - _WRITE) * number / len(views), f"Writing X-ray {number + 1} of {len(views)}")
        picture = f"{FOLDER}/{PurePosixPath(name).stem}.png"
        write_standardized(folder / name, _stored(view), view.view.geometry, series, number + 1, _derivation(view))
        write_picture(folder / picture, view)
        hashes = {"original_sha256": done.input_hashes[before.image], "sha256": sha256(folder / name)}
        original = {"original": f"{ORIGINAL_FOLDER}/{before.image}", "original_frame": before.frame}
        entries.append(view_data(view) | {"image": name, "frame": 0, "picture": picture} | original | hashes)
    write_poses(folder / POSES_FILE, [_new_pose(before, name) for before, name in zip(posed, names, strict=True)])
    text = json.dumps(_document(done, done.standardization, entries), indent=1, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def _fingerprint(views: Sequence[StandardizedView]) -> str:
    """Return what tells these views from all others: the same result gets the same UIDs."""
    digest = hashlib.sha256()
    for view in views:
        digest.update(np.ascontiguousarray(view.view.attenuation).tobytes() + view.view.geometry.source_lps_mm.tobytes())
    return digest.hexdigest()


def _document(done: Case, standardization: Standardization, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return json_ready(
        {
            "format": FORMAT,
            "version": VERSION,
            "notice": RESEARCH_USE_ONLY,
            "created_utc": now_utc(),
            **standardization.to_json(),
            "warnings": done.warnings,
            "views": entries,
            "inputs_sha256": done.input_hashes,
            "versions": package_versions(_PACKAGES),
        }
    )


def _stored(view: StandardizedView) -> np.ndarray:
    """Return stored values, uint16 [row, column]: intensity behind what is left; 0, which says nothing, outside the mask."""
    intensity = AIR_INTENSITY * np.exp(-view.view.attenuation.astype(np.float64))
    return np.where(view.view.mask, np.clip(np.rint(intensity), 1, _FULL - 1), 0).astype(np.uint16)


def _derivation(view: StandardizedView) -> str:
    if view.used == "original":
        return "X-ray that was not standardized; beads taken out"
    return f"{STANDARDIZED_MARK} ({view.used}): soft tissue taken off; not as it was measured"


def _new_names(posed: Sequence[PosedImage]) -> list[str]:
    """Return a name for each view's own file: that of its image, with the frame where several views share one."""
    shared = Counter(one.image for one in posed)
    stems = [PurePosixPath(one.image).stem + (f"_{one.frame:03d}" if shared[one.image] > 1 else "") for one in posed]
    if len({stem.lower() for stem in stems}) < len(stems):  # of subfolders, or differing in what follows the dot
        stems = [f"{number:03d}_{stem}" for number, stem in enumerate(stems)]
    return [f"{XRAYS_FOLDER}/{stem}.dcm" for stem in stems]


def _new_pose(before: PosedImage, name: str) -> PosedImage:
    return replace(before, image=name, frame=0, air_intensity=AIR_INTENSITY)


def _copy_original(case: Path, folder: Path) -> None:
    """Copy what belongs to the case as it was, so that the folder is a case of its own."""
    wanted = {one.image for one in read_poses(case / POSES_FILE)} | {POSES_FILE, FIDUCIALS_FILE}
    if (case / CALIBRATION_FOLDER).is_dir():
        wanted |= {path.relative_to(case).as_posix() for path in (case / CALIBRATION_FOLDER).iterdir() if path.is_file()}
    for name in sorted(wanted):
        if (case / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(case / name, folder / name)
