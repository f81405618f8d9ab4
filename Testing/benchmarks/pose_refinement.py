"""Wrong poses refined while reconstructing: how far they are off before and after, what that costs in PSNR, and how long it takes.

    python -m Testing.benchmarks.pose_refinement [--scene lumbar thorax ...] [--draws 2]

A run of all scenes writes Testing/benchmarks/results/pose_refinement.json; every run prints its table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.acquisition import prepare
from IntraopReconLib.core.calibration.camera import rotation_matrix
from IntraopReconLib.core.checkpoint import Checkpoint
from IntraopReconLib.core.config import Method, ReconstructionConfig
from IntraopReconLib.core.pose_refinement import with_refined_poses
from IntraopReconLib.core.reconstruct import reconstruct
from IntraopReconLib.core.reconstruction import Reconstruction
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.metrics import psnr_db

from .anatomies import ANATOMIES, build_scene
from .provenance import provenance, write_result
from .scenes import REPOSITORY, STANDING, Scene, data_folder, load_scene
from .table import provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "pose_refinement.json"
FURTHER = ("hip with a metal screw", "upper lumbar spine", "thoracic spine, whole chest in the beam")
HEADER = (
    "",
    "error mm, °",
    "off at the isocenter, mm",
    "largest",
    "along the beam",
    "rotation, °",
    "shared, mm",
    "PSNR-3D dB true poses",
    "as calibrated",
    "refined",
    "cost, dB",
    "CPU s",
    "of a reconstruction",
)
LEGEND = (
    "Every view's pose is perturbed on its own: shifted and turned about the isocenter by normal errors of the given standard deviation "
    "along each axis, right on average. Before → after, what all views share taken away (no image shows it): off at the isocenter, mean "
    "over views and the largest, across the beam; along the beam, where it hardly shows; mean angle. Shared: the shift of the refined "
    "poses that all views have in common, which only fiducials can hold. Means over the draws. PSNR-3D of the first draw, with the method "
    "that `auto` takes at the true poses. CPU seconds of a refinement, and over those of a reconstruction."
)


@dataclass(frozen=True)
class Perturbation:
    """Standard deviations along each axis; the second is of rotations."""

    mm: float
    deg: float


WRONG, SMALL, NONE = Perturbation(1.5, 0.7), Perturbation(0.3, 0.15), Perturbation(0.0, 0.0)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.pose_refinement", description=__doc__.splitlines()[0])
    parser.add_argument("--scene", nargs="+", choices=[*STANDING, *FURTHER], help="only these (default: all)")
    parser.add_argument("--draws", type=int, default=2, help="of perturbations, for each scene (default: 2)")
    options = parser.parse_args()
    result: dict[str, Any] = {"provenance": provenance(1, sys.argv[1:], "pose_refinement"), "rows": []}
    for scene in _scenes(options.scene or [*STANDING, *FURTHER]):
        for perturbation in (WRONG, SMALL, NONE) if scene.name in STANDING else (WRONG,):
            compared = scene.name in STANDING and perturbation is WRONG
            result["rows"].append(measure(scene, perturbation, options.draws, compared))
            print(json.dumps(result["rows"][-1]), flush=True)
    print(f"\n{markdown(result)}")
    if not options.scene:
        write_result(RESULT, result)
    return 0


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as a table, with what they mean and where they come from."""
    lines = []
    for row in result["rows"]:
        before, after, psnr = row["before"], row["after"], row["psnr_3d_db"]
        pairs = [f"{before[name]:.2f} → {after[name]:.2f}" for name in ("across_mm", "largest_mm", "along_mm", "rotation_deg")]
        levels = [f"{psnr[name]:.2f}" if psnr else "" for name in ("true", "calibrated", "refined")]
        cost = f"{psnr['true'] - psnr['refined']:.2f}" if psnr else ""
        share = f"{row['cpu_s'] / row['cpu_s_reconstruction']:.2f}" if psnr else ""
        error = f"{row['sd_mm']:g}, {row['sd_deg']:g}"
        lines.append([row["scene"], error, *pairs, f"{after['shared_mm']:.2f}", *levels, cost, f"{row['cpu_s']:.1f}", share])
    return f"{LEGEND}\n\n{table(HEADER, lines)}\n\n{provenance_line(result['provenance'])}"


def measure(scene: Scene, perturbation: Perturbation, draws: int, compared: bool) -> dict[str, Any]:
    """Perturb, refine and reconstruct.

    Args:
        scene: With its true poses.
        perturbation: Of the poses.
        draws: Of the perturbation.
        compared: Whether volumes are reconstructed too: from true, from perturbed and from refined poses of the first draw.

    Returns:
        Errors before and after as means over the draws, PSNR-3D of the first, processor seconds of a refinement and a reconstruction.
    """
    befores, afters, volumes, seconds, found = [], [], {}, [], []
    for draw in range(draws if perturbation.mm else 1):
        views = perturbed(scene, perturbation, draw)
        acquisition, config = prepare(views, scene.region, draw), _config(scene, "auto")
        start = time.process_time()
        _, poses, sentences = with_refined_poses(acquisition, views, config, lambda share: None, Checkpoint(None))
        seconds.append(time.process_time() - start)
        found += sentences
        geometries = {"calibrated": [view.geometry for view in views], "refined": [pose.geometry for pose in poses]}
        befores.append(errors(scene, geometries["calibrated"]))
        afters.append(errors(scene, geometries["refined"]))
        if compared and draw == 0:
            start = time.process_time()
            volumes["true"] = reconstruct(scene.views, config)
            rest = time.process_time() - start
            method = volumes["true"].method
            alike = method if method in get_args(Method) else "auto"  # the mean of two cannot be asked for
            for name, placed in geometries.items():
                moved = [replace(view, geometry=pose) for view, pose in zip(scene.views, without_shared(scene, placed), strict=True)]
                volumes[name] = reconstruct(moved, _config(scene, alike))
    return {
        "scene": scene.name,
        "views": len(scene.views),
        "method": volumes["true"].method if compared else None,
        "sd_mm": perturbation.mm,
        "sd_deg": perturbation.deg,
        "draws": len(befores),
        "before": _means(befores),
        "after": _means(afters),
        "psnr_3d_db": {name: _psnr_3d_db(volume, scene) for name, volume in volumes.items()},
        "cpu_s": float(np.median(seconds)),
        "cpu_s_reconstruction": rest if compared else None,
        "sentences": found,
    }


def perturbed(scene: Scene, perturbation: Perturbation, seed: int) -> list[MeasuredView]:
    """Return the scene's X-rays with wrong poses, right on average."""
    rng = np.random.default_rng(seed)
    count, center = len(scene.views), scene.grid.center_lps_mm
    turns = np.deg2rad(perturbation.deg) * rng.normal(size=(count, 3))
    shifts = perturbation.mm * rng.normal(size=(count, 3))
    result = []
    for view, turn, shift in zip(scene.views, turns - turns.mean(0), shifts - shifts.mean(0), strict=True):
        rotation = rotation_matrix(turn)
        rigid = affine(rotation, center - rotation @ center + shift)
        result.append(replace(view, geometry=view.geometry.transformed(rigid)))
    return result


def errors(scene: Scene, poses: Sequence[XrayView]) -> dict[str, float]:
    """Hold poses against the scene's true ones; what all share counts on its own."""
    shifts, turns, shared = _off(scene, poses)
    beams = np.array([view.geometry.lps_from_camera[:3, 2] for view in scene.views])
    own = shifts - shared
    along = (own * beams).sum(1)
    across = np.linalg.norm(own - along[:, None] * beams, axis=1)
    return {
        "across_mm": float(across.mean()),
        "largest_mm": float(across.max()),
        "along_mm": float(np.abs(along).mean()),
        "rotation_deg": float(np.rad2deg(np.linalg.norm(turns - turns.mean(0), axis=1)).mean()),
        "shared_mm": float(np.linalg.norm(shared)),
        "shared_deg": float(np.rad2deg(np.linalg.norm(turns.mean(0)))),
    }


def without_shared(scene: Scene, poses: Sequence[XrayView]) -> list[XrayView]:
    """Take from poses the rigid motion against the true ones that all share: no image shows it."""
    _, turns, shared = _off(scene, poses)
    center, turn = scene.grid.center_lps_mm, rotation_matrix(turns.mean(0))
    back = np.linalg.inv(affine(turn, center - turn @ center + shared))
    return [pose.transformed(back) for pose in poses]


def _off(scene: Scene, poses: Sequence[XrayView]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every pose's shift of the isocenter in mm and its turn (rotation vector), [view, 3], and the shift that fits all best."""
    center = scene.grid.center_lps_mm
    rigid = [pose.lps_from_camera @ np.linalg.inv(view.geometry.lps_from_camera) for pose, view in zip(poses, scene.views, strict=True)]
    shifts = np.array([motion[:3, :3] @ center + motion[:3, 3] - center for motion in rigid])
    turns = np.array([Rotation.from_matrix(motion[:3, :3]).as_rotvec() for motion in rigid])
    beams = np.array([view.geometry.lps_from_camera[:3, 2] for view in scene.views])
    across = np.eye(3) - beams[:, :, None] * beams[:, None, :]
    return shifts, turns, np.linalg.solve(across.sum(0), np.einsum("vij,vj->i", across, shifts))


def _scenes(names: Sequence[str]) -> Iterator[Scene]:
    for name in names:
        if name in STANDING:
            yield load_scene(data_folder() / "scenes" / f"{name}.npz")
        else:
            yield build_scene(next(anatomy for anatomy in ANATOMIES if anatomy.name == name))


def _config(scene: Scene, method: str) -> ReconstructionConfig:
    return ReconstructionConfig(method, device="cpu", spacing_mm=float(scene.grid.spacing_mm[0]), region=scene.region)


def _psnr_3d_db(result: Reconstruction, scene: Scene) -> float:
    return psnr_db(result.attenuation_per_mm, scene.ground_truth_per_mm, scene.peak_per_mm, scene.compared)


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


if __name__ == "__main__":
    sys.exit(main())
