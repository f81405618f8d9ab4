"""What the worker does around a reconstruction: devices and region before it, files for the scene, pictures, exports after it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.worker import Job

_REMEDY = "Update the panel and the worker together."
_volumes: dict[tuple[str, int], Any] = {}  # the last volume that a surface was wanted of, by its file and that one's time


def device(job: Job) -> dict[str, Path]:
    """Choose the device `wanted` and write what is used and why into the file `out`."""
    from IntraopReconLib.core.device import choose_device
    from SparseAnatomyLib.devices import DEVICES

    wanted, out = job.text("wanted"), Path(job.text("out"))
    if wanted not in DEVICES:
        raise InputError(f"There is no device {wanted}.", f"Choose one of {', '.join(DEVICES)}.")
    chosen = choose_device(wanted, lambda message: job.report(0.0, message))
    return {"device": _write_json(out, {"device": chosen.device, "sentence": chosen.sentence})}


def cards(job: Job) -> dict[str, Path]:
    """Write the names of the NVIDIA cards that there are, by device, into the file `out`; nothing is tried."""
    from SparseAnatomyLib.devices import cards as names_by_device

    return {"cards": _write_json(Path(job.text("out")), names_by_device())}


def region(job: Job) -> dict[str, Path]:
    """Write the region that is reconstructed where none is drawn, of the case folder `case`, into the file `out`."""
    from IntraopReconLib.core.calibration.poses import read_poses
    from IntraopReconLib.core.coverage import default_region

    poses = [posed for posed in read_poses(Path(job.text("case")) / "poses.json") if posed.grade != "red"]
    found = default_region([posed.view for posed in poses])
    values = {"center_lps_mm": found.center_lps_mm, "extent_mm": found.extent_mm, "direction": found.direction}
    return {"region": _write_json(Path(job.text("out")), values)}


def prepare(job: Job) -> dict[str, Path]:
    """Lay the result folder `result` ready for the scene in the folder `scene`."""
    from IntraopReconLib.core.scene_files import write_scene_files

    job.report(0.0, "Reading the result")
    return write_scene_files(Path(job.text("result")), Path(job.text("scene")))


def bone(job: Job) -> dict[str, Path]:
    """Write voxels and surface of the bone at `threshold_per_mm` into the folder `out`; `volume` is a .npy file and `grid` says where."""
    from IntraopReconLib.core.scene_files import LABELS, SURFACE, write_bone

    out = Path(job.text("out"))
    out.mkdir(parents=True, exist_ok=True)
    volume, grid = _volume(job)
    write_bone(out, volume, grid, _number(job, "threshold_per_mm"))
    return {"labels": out / LABELS, "surface": out / SURFACE}


def compare(job: Job) -> dict[str, Path]:
    """Draw the X-ray `view` of the result folder `result` into the file `out`: `picture` is measured, reprojected or difference."""
    from IntraopReconLib.core.report_figures import view_picture
    from IntraopReconLib.core.result_folder import read_comparison

    out, kind = Path(job.text("out")), job.text("picture")
    pictures = view_picture(*read_comparison(Path(job.text("result")), job.text("view")))
    if kind not in pictures:
        raise InputError(f"There is no picture {kind}.", f"Choose one of {', '.join(pictures)}.")
    pictures[kind].save(out, "PNG")
    return {"picture": out}


def export(job: Job) -> dict[str, Path]:
    """Write a volume and its bone for other programs into the folder `out`; its files begin with `name`.

    `format` is nrrd, stl or dicom; `volume`, `grid` and `threshold_per_mm` as for `bone`; for DICOM `result` and `case` (may be null) are
    the folders that say whose X-rays these are.
    """
    from IntraopReconLib.core.export import export_nrrd, export_stl

    out, name, kind = Path(job.text("out")), job.text("name"), job.text("format")
    volume, grid = _volume(job)
    job.report(0.1, "Writing the files")
    match kind:
        case "nrrd":
            return {"volume": export_nrrd(out / f"{name}-volume.nrrd", volume, grid)}
        case "stl":
            return {"surface": export_stl(out / f"{name}-bone.stl", volume, grid, _number(job, "threshold_per_mm"))}
        case "dicom":
            return _export_dicom(job, out / f"{name}-dicom", volume, grid)
    raise InputError(f"There is no format {kind}.", "Choose nrrd, stl or dicom.")


def _export_dicom(job: Job, out: Path, volume, grid) -> dict[str, Path]:
    from IntraopReconLib.core.dicom_export import DicomSource, export_dicom, identity_of_result
    from IntraopReconLib.core.dicom_identity import is_case_of

    result, case = _folder(job, "result"), _folder(job, "case")
    identity = identity_of_result(result, case if result and case and is_case_of(result, case) else None)
    source = DicomSource(volume, grid, _number(job, "threshold_per_mm"), identity)
    return export_dicom(out, source, lambda fraction, message, _=None: job.report(fraction, message))


def _folder(job: Job, name: str) -> Path | None:
    return Path(job.text(name)) if job.payload.get(name) else None


def _volume(job: Job) -> tuple:
    """Return the request's volume, float32 [k, j, i], and its grid; the last one is kept."""
    import numpy as np

    from IntraopReconLib.core.scene_files import grid_from_values

    path = Path(job.text("volume"))
    try:
        grid = grid_from_values(job.payload.get("grid"))
        key = (str(path), path.stat().st_mtime_ns)
        if key not in _volumes:
            array = np.load(path, allow_pickle=False)
            _volumes.clear()
            _volumes[key] = np.ascontiguousarray(array, np.float32)
        if _volumes[key].shape != grid.shape_kji:
            raise ValueError("the shapes differ")
    except (OSError, TypeError, KeyError, ValueError, EOFError) as error:
        raise InputError(f"{path} is missing or no volume.", "Load the result again.") from error
    return _volumes[key], grid


def _number(job: Job, name: str) -> float:
    value = job.payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(f"The request's {name} is no number above zero.", _REMEDY)
    return float(value)


def _write_json(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


RESULTS = {"device": device, "cards": cards, "region": region, "prepare": prepare, "bone": bone, "compare": compare, "export": export}
