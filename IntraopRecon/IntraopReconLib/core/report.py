"""The case report: report.json with the figures, and report.html, the same with pictures in one self-contained file.

Neither holds patient names, folder names or anything from the X-rays' headers: views go by their path within the case, inputs by their
hashes.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.mesh import TriangleMesh
from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY, json_ready, now_utc, package_versions

from . import report_figures
from .bone import BoneThreshold
from .reconstruction import Reconstruction
from .standardization.pictures import report_strip
from .templates import template

if TYPE_CHECKING:
    from .case import Case

_PACKAGES = ("numpy", "scipy", "numba", "torch", "warp-lang", "SimpleITK", "vtk", "pydicom", "scikit-image")
_PICTURES_BEGIN, _PICTURES_END = "<!-- pictures: begin -->", "<!-- pictures: end -->"


def report_data(reconstruction: Reconstruction, case: Case, threshold: BoneThreshold, mesh: TriangleMesh) -> dict[str, Any]:
    """Return the content of report.json.

    Args:
        reconstruction: The result.
        case: What was reconstructed.
        threshold: Where bone begins.
        mesh: The bone surface.

    Returns:
        JSON-ready values; numbers that are not finite are None.
    """
    grid = reconstruction.grid
    warnings = [*case.warnings, *reconstruction.warnings, *([threshold.warning] if threshold.warning else [])]
    if len(mesh.triangles) == 0:
        warnings.append("There is no bone surface: no piece of the volume exceeds the bone threshold.")
    data = {
        "format": "SparseAnatomy report",
        "version": 1,
        "notice": RESEARCH_USE_ONLY,
        "created_utc": now_utc(),
        "grade": reconstruction.grade,
        "warnings": list(dict.fromkeys(warnings)),
        "method": reconstruction.method,
        "candidates_withheld_rmse": reconstruction.candidates,
        "views": [{"name": fit.name, "withheld": fit.withheld, "psnr_db": fit.psnr_db, "ssim": fit.ssim} for fit in reconstruction.fits],
        "poses": _poses(reconstruction),
        "standardization": case.standardization.to_json() if case.standardization is not None else None,
        "fit": {"used": _mean_fit(reconstruction, withheld=False), "withheld": _mean_fit(reconstruction, withheld=True)},
        "curve": [{"seconds": p.seconds, "stage": p.stage, "withheld_rmse": p.withheld_rmse} for p in reconstruction.curve],
        "grid": {
            "size_ijk": list(grid.size_ijk),
            "spacing_mm": grid.spacing_mm.tolist(),
            "origin_lps_mm": grid.origin_lps_mm.tolist(),
            "direction_lps_from_ijk": grid.direction.tolist(),
        },
        "unknown_percent": 100 * float(np.mean(reconstruction.coverage <= 0)),
        "bone": {
            "threshold_per_mm": threshold.value_per_mm,
            "threshold_reason": threshold.reason,
            "volume_ml": mesh.volume_mm3 / 1000,
            "area_cm2": mesh.area_mm2 / 100,
            "triangles": len(mesh.triangles),
        },
        "seconds": reconstruction.seconds,
        "device": reconstruction.device,
        "settings": reconstruction.config.to_json(),
        "inputs_sha256": dict(case.input_hashes),
        "versions": package_versions(_PACKAGES),
    }
    return json_ready(data)


def render_report(data: Mapping[str, Any], reconstruction: Reconstruction, case: Case) -> str:
    """Return report.html.

    Args:
        data: What `report_data` returned.
        reconstruction: The result.
        case: What was reconstructed.
    """
    upper = report_figures.display_maximum(case.views)
    strips = [
        report_figures.view_strip(view.attenuation, reprojection, view.mask, upper)
        for view, reprojection in zip(case.views, reconstruction.reprojections, strict=True)
    ]
    views = [dict(view, strip=strip) for view, strip in zip(data["views"], strips, strict=True)]
    return template("report_template.html").render(
        report=data,
        views=sorted(views, key=lambda view: not view["withheld"]),
        difference_limit=report_figures.DIFFERENCE_SHARE * upper,
        upper=upper,
        slices=report_figures.slices(reconstruction, data["bone"]["threshold_per_mm"]),
        curve=report_figures.curve(reconstruction.curve),
        standardized=_standardized(data, case),
        pictures=f"{_PICTURES_BEGIN}{_PICTURES_END}",
    )


def _standardized(data: Mapping[str, Any], case: Case) -> list[dict[str, Any]]:
    """Return the views that were standardized, each with its pictures."""
    if case.standardization is None:
        return []
    pairs = zip(data["standardization"]["views"], case.standardization.views, strict=True)
    return [dict(entry, strip=report_strip(view)) for entry, view in pairs]


def add_pictures(result_folder: Path, pictures: Mapping[str, Path]) -> Path:
    """Put pictures, such as off-screen views of the 3D scene, into the report of a result; they replace those put there before.

    Args:
        result_folder: Where report.html lies.
        pictures: PNG or JPEG files by title, in the order in which they are to stand.

    Returns:
        The path of report.html.

    Raises:
        InputError: There is no report, or a picture is missing.
    """
    report = Path(result_folder) / "report.html"
    try:
        html = report.read_text(encoding="utf-8")
        encoded = [(title, _data_uri(Path(path))) for title, path in pictures.items()]
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is not there.", "Reconstruct the case again.") from error
    head, begin, rest = html.partition(_PICTURES_BEGIN)
    _, end, tail = rest.partition(_PICTURES_END)
    if not (begin and end):
        raise InputError(f"{report} is not a report with room for pictures.", "Reconstruct the case again.")
    partial = report.with_name("report.html.partial")
    try:
        partial.write_text(head + begin + template("report_pictures.html").render(pictures=encoded) + end + tail, encoding="utf-8")
        os.replace(partial, report)
    finally:
        partial.unlink(missing_ok=True)
    return report


def _poses(reconstruction: Reconstruction) -> list[dict[str, Any]]:
    """Return what the refinement did to each view; nothing where there was none."""
    names = ("name", "shift_mm", "turn_deg", "unexplained", "left_out")
    return [{name: getattr(pose, name) for name in names} for pose in reconstruction.poses]


def _mean_fit(reconstruction: Reconstruction, *, withheld: bool) -> dict[str, Any]:
    left_out = {pose.name for pose in reconstruction.poses if pose.left_out}
    fits = [fit for fit in reconstruction.fits if fit.withheld == withheld and fit.name not in left_out]
    if not fits:
        return {"views": 0, "psnr_db": None, "ssim": None}
    return {
        "views": len(fits),
        "psnr_db": float(np.mean([fit.psnr_db for fit in fits])),
        "ssim": float(np.mean([fit.ssim for fit in fits])),
    }


def _data_uri(path: Path) -> str:
    kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
