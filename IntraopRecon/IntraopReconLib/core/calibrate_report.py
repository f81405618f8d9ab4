"""The report of a calibration: calibration.json with every bead and residual, calibration.html with pictures and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY, json_ready, now_utc, package_versions

from .calibrate_pictures import headline
from .calibration.calibration_file import FORMAT, VERSION
from .calibration.camera import rotation_angle_deg
from .calibration.correspondence import project
from .calibration.distortion import Distortion
from .calibration.fiducials import KIND_OF_SIZE
from .calibration.intrinsics import CameraGroup
from .calibration.jig_checks import Problem
from .calibration.jig_layout import jig_layout
from .calibration.poses import GRADES, VECTORS
from .calibration.solve import Solution, SolvedShot
from .calibration_config import CaseSettings
from .templates import template

_PACKAGES = ("numpy", "scipy", "numba", "pydicom")
MOST_ALIKE = 3  # views with the same problem are named one by one
_UNSURE_RADIUS_PX = 3.0  # of a bead that no X-ray measured


def calibration_data(
    solution: Solution,
    groups: Sequence[CameraGroup],
    distortion: Distortion | None,
    settings: CaseSettings,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of calibration.json.

    Args:
        solution: The calibrated case.
        groups: Which X-rays share a camera.
        distortion: Correction of the image intensifier, if one was used.
        settings: Tolerances.
        origin: What the caller knows of its inputs: `jig` (file name or "found in the X-rays"), `known_distance_mm`, `inputs_sha256`, and
            `notes`, sentences about them.

    Returns:
        JSON-ready values. Each view's `beads` holds those found or placed by hand and, where the view has a pose, those of the jig that it
        puts into the image but that were not found (`origin` "expected"): centers as measured, residuals after the correction of
        distortion, projected bead minus point.
    """
    layout = jig_layout(solution.beads.position_lps_mm)
    views = [_view(solved, solution, distortion, origin["inputs_sha256"]) for solved in solution.shots]
    counts = Counter(view["grade"] for view in views)
    data = {
        "format": FORMAT,
        "version": VERSION,
        "notice": RESEARCH_USE_ONLY,
        "created_utc": now_utc(),
        "grades": {grade: counts[grade] for grade in GRADES},
        "without_pose": sum(not view["has_pose"] for view in views),
        "problems": [asdict(problem) for problem in solution.problems],
        "notes": list(origin["notes"]),
        "cameras": [_camera(group, solution) for group in groups],
        "distortion_corrected": distortion is not None,
        "jig": {
            "origin": origin["jig"],
            "known_distance_mm": origin["known_distance_mm"],
            "mirrored_rms_px": solution.unknown.mirrored_rms_px if solution.unknown else None,
            "position_lps_mm": solution.beads.position_lps_mm,
            "kind": solution.beads.kind,
            "extent_mm": layout.extent_mm,
            "longest_distance_mm": _longest_mm(solution.beads.position_lps_mm),
            "plane_rms_mm": layout.plane_rms_mm,
        },
        "views": views,
        "settings": asdict(settings),
        "inputs_sha256": dict(origin["inputs_sha256"]),
        "versions": package_versions(_PACKAGES),
    }
    return json_ready(data)


def render_calibration(data: Mapping[str, Any]) -> str:
    """Return calibration.html, which shows the pictures beside it; views that need a look come first."""
    views = [dict(view, headline=headline(view)) for view in data["views"]]
    views.sort(key=lambda view: -GRADES.index(view["grade"]))
    return template("calibrate_template.html").render(calibration=data, views=views)


def view_sentences(data: Mapping[str, Any]) -> list[str]:
    """Return what is wrong, with remedies: of all X-rays, then view by view; what many have in common is said once."""
    sentences = [*data["notes"], *(_sentence(problem) for problem in data["problems"])]
    alike: dict[str, list[str]] = {}
    for view in data["views"]:
        for problem in view["problems"]:
            sentence = _sentence(problem)
            alike.setdefault(sentence.replace(view["name"], "…"), []).append(sentence)
    for said in alike.values():
        sentences += said if len(said) <= MOST_ALIKE else [f"{said[0]} The same holds for {len(said) - 1} more X-rays."]
    return list(dict.fromkeys(sentences))


def _sentence(problem: Mapping[str, str]) -> str:
    return f"{problem['message']} {problem['remedy']}".strip()


def _longest_mm(position: np.ndarray) -> float:
    return float(np.linalg.norm(position[:, None] - position, axis=-1).max())


def _camera(group: CameraGroup, solution: Solution) -> dict[str, Any]:
    """Return the intrinsics as stated and as used."""
    used = next((one.camera for n in group.numbers if (one := solution.shots[n]).camera), group.camera)
    return {
        "origin": group.origin,
        "measured": group.measured,
        "size_px": used.size_px,
        "pixel_pitch_mm": used.pixel_pitch_mm,
        "stated": {"source_to_detector_mm": group.camera.source_to_detector_mm, "principal_point_px": group.camera.principal_point_px},
        "used": {"source_to_detector_mm": used.source_to_detector_mm, "principal_point_px": used.principal_point_px},
        "views": [solution.shots[number].shot.radiograph.name for number in group.numbers],
    }


def _view(solved: SolvedShot, solution: Solution, distortion: Distortion | None, hashes: Mapping[str, str]) -> dict[str, Any]:
    shot, calibrated = solved.shot, solved.calibrated
    pose = calibrated.hypotheses[0] if calibrated and calibrated.view is not None else None
    bead_of_point = dict(zip(pose.matches[:, 1].tolist(), pose.matches[:, 0].tolist(), strict=True)) if pose else {}
    residual = dict(zip(pose.matches[:, 1].tolist(), pose.residual_px.tolist(), strict=True)) if pose else {}
    beads = [
        {
            "center_px": bead.center_px,
            "radius_px": bead.radius_px,
            "size": bead.size,
            "score": bead.score,
            "origin": "by hand" if shot.by_hand else "detected",
            "number": None if point not in bead_of_point else bead_of_point[point] + 1,
            "residual_px": residual.get(point),
        }
        for point, bead in enumerate(shot.beads)
    ]
    rivals = calibrated.hypotheses[1:] if pose else ()
    return {
        "name": shot.radiograph.name,
        "image": shot.radiograph.image,
        "frame": shot.radiograph.frame,
        "sha256": hashes[shot.radiograph.image],
        "key": shot.key,
        "picture": f"{shot.key}.png",
        "grade": solved.grade,
        "looked_at": shot.image is not None,
        "has_pose": pose is not None,
        "geometry": {name: getattr(calibrated.view, name) for name in VECTORS} if pose else None,
        "explained": len(bead_of_point),
        "reprojection_rms_px": pose.rms_px if pose else None,
        "placed_by_hand": shot.by_hand,
        "beads": [*beads, *(_expected(solved, solution, distortion) if pose else [])],
        "rivals": [
            {
                "turned_deg": rotation_angle_deg(rival.camera_from_lps[:3, :3], pose.camera_from_lps[:3, :3]),
                "explained": len(rival.matches),
                "reprojection_rms_px": rival.rms_px,
                "camera_from_lps": rival.camera_from_lps,
            }
            for rival in rivals
        ],
        "problems": [asdict(problem) for problem in solved.problems],
    }


def _expected(solved: SolvedShot, solution: Solution, distortion: Distortion | None) -> list[dict[str, Any]]:
    """Return the beads that the pose puts into the image but that were not found: they are metal there all the same."""
    shot, pose = solved.shot, solved.calibrated.hypotheses[0]
    seen = project(pose.camera_from_lps, solution.beads, solved.camera)
    measured = seen if distortion is None else distortion.distorted(seen)
    columns, rows = shot.radiograph.size_px
    missing = np.setdiff1d(np.arange(len(seen)), pose.matches[:, 0])
    sizes = {number: size for size, number in KIND_OF_SIZE.items()}
    radii = {size: [bead.radius_px for bead in shot.beads if bead.size == size] for size in KIND_OF_SIZE}
    expected = []
    for bead in missing:
        column, row = measured[bead]
        if not (-0.5 < column < columns - 0.5 and -0.5 < row < rows - 0.5) or not shot.radiograph.mask[round(row), round(column)]:
            continue
        size = sizes.get(int(solution.beads.kind[bead]), "small")
        alike = radii[size] or [bead.radius_px for bead in shot.beads]
        radius = float(np.median(alike)) if alike else _UNSURE_RADIUS_PX
        entry = {"center_px": [column, row], "radius_px": radius, "size": size, "score": None, "origin": "expected"}
        expected.append(entry | {"number": int(bead) + 1, "residual_px": None})
    return expected


def problems_in_words(problems: Sequence[Problem]) -> str:
    """Return the first reasons, each once, as one text."""
    return " ".join(list(dict.fromkeys(problem.message for problem in problems))[:4])
