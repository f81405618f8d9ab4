"""Poses from simulated beads of unknown matching: how many views are solved, how exactly, beside what the noise allows, and how fast.

    python -m Testing.benchmarks.calibration [--views 200] [--setting "NAME" ...]

A run of all settings writes Testing/benchmarks/results/calibration.json; every run prints its table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from IntraopReconLib.core.calibration.camera import Camera, rotation_angle_deg, rotation_matrix
from IntraopReconLib.core.calibration.correspondence import BeadPoints, Beads, PoseHypothesis, match_view
from IntraopReconLib.core.calibration_config import MatchSettings
from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.geometry import XrayView

from .provenance import provenance, write_result
from .scenes import REPOSITORY
from .table import provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "calibration.json"
SIZE_PX = 512
SOLVED_DEG = 2.0  # a pose further from the truth is a wrong one
BOUND_DRAWS = 50
ERRORS = ("rotation ° median", "p95", "at best", "p95", "source mm median", "p95", "at best", "p95")
HEADER = ("", "views", "solved %", "of those with 6 beads", "wrong %", "rivals %", *ERRORS, "s a view median", "max")


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        name: Of the row.
        edge_mm: Edges of the box that holds the beads.
        beads: Number.
        spread: Whether the beads are drawn far apart, as a jig is built, or anywhere in the box.
        missing: Share of the beads that are not detected; exactly, or each with that chance.
        exactly: Which of the two.
        false: Points that are no beads, anywhere in the image.
        noise_px: Standard deviation of each coordinate of a point; the error of the point is longer by the root of two.
        prior_deg: Largest error of the prior's rotation; None for no prior.
        wrong_jig: Whether the coordinates are those of another jig; then solved means accepted by mistake.
    """

    name: str
    edge_mm: tuple[float, float, float] = (150.0, 150.0, 150.0)
    beads: int = 10
    spread: bool = False
    missing: float = 0.3
    exactly: bool = True
    false: int = 5
    noise_px: float = 0.5
    prior_deg: float | None = 25.0
    wrong_jig: bool = False


SETTINGS = (
    Setting("anywhere in a 150 mm cube"),
    Setting("anywhere in a 150 mm cube, no prior", prior_deg=None),
    Setting("spread over a 150 mm cube", spread=True),
    Setting("spread over a 180 mm cube", (180.0,) * 3, spread=True),
    Setting("spread over a 150 mm cube, no prior", spread=True, prior_deg=None),
    Setting("spread over a 150 mm cube, 0.5 px long", spread=True, noise_px=0.5 / np.sqrt(2)),
    Setting("each bead missing by chance", spread=True, exactly=False),
    Setting("1 px noise, 8 false", spread=True, noise_px=1.0, false=8),
    Setting("18 beads in a thin belt", (120.0, 80.0, 14.0), beads=18),
    Setting("another jig's coordinates", wrong_jig=True),
    Setting("another jig's coordinates, no prior", prior_deg=None, wrong_jig=True),
)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=200, help="of each setting (default: 200)")
    parser.add_argument("--setting", nargs="+", choices=[setting.name for setting in SETTINGS], help="only these (default: all)")
    options = parser.parse_args()
    chosen = [setting for setting in SETTINGS if not options.setting or setting.name in options.setting]
    result: dict[str, Any] = {"provenance": provenance(1, sys.argv[1:], "calibration"), "rows": []}
    for setting in chosen:
        result["rows"].append(measure(setting, options.views))
        print(json.dumps(result["rows"][-1]), flush=True)
    print(f"\n{markdown(result)}")
    if not options.setting:
        write_result(RESULT, result)
    return 0


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as a table, with where they come from."""
    lines = []
    for row in result["rows"]:
        pairs = [f"{row[name][key]:.2f}" if row[name] else "" for name in FIGURES for key in ("median", "p95")]
        shares = [f"{100 * row[name]:.1f}" for name in ("solved", "solved_of_solvable", "wrong", "rivals")]
        lines.append(
            [row["setting"]["name"], row["views"], *shares, *pairs, f"{row['seconds']['median']:.3f}", f"{row['seconds']['max']:.3f}"]
        )
    return f"{table(HEADER, lines)}\n\n{provenance_line(result['provenance'])}"


FIGURES = ("rotation_deg", "rotation_bound_deg", "source_mm", "source_bound_mm")


def measure(setting: Setting, views: int, seed: int = 0) -> dict[str, Any]:
    """Solve simulated views of one setting.

    Returns:
        Shares solved (of all views, and of those with six beads in the image), wrong and with rivals; of the solved ones the errors and
        what no unbiased estimate of the same beads could beat (Cramér and Rao's bound), each as median and p95; seconds a view.
    """
    rng = np.random.default_rng(seed)
    config = SimulationConfig(views=views, size_px=SIZE_PX)
    settings = MatchSettings(inlier_px=max(MatchSettings.inlier_px, 4 * setting.noise_px))
    figures: dict[str, list[float]] = {name: [] for name in FIGURES}
    seconds, wrong, rivals, solved, solvable = [], 0, 0, [], 0
    for view in [random_poses(config, np.zeros(3), rng)[0], *random_poses(config, np.zeros(3), rng)]:  # the first one compiles
        jig, points, seen = _simulated(setting, view, rng)
        start = time.process_time()
        found = match_view(points, jig, Camera.of(view), settings)
        seconds.append(time.process_time() - start)
        if len(seconds) == 1:
            continue
        enough = len(seen) >= settings.least_beads
        solvable += enough
        if not found:
            continue
        rivals += len(found) > 1
        rotation, source = _errors(found[0], view)
        wrong += rotation > SOLVED_DEG
        if rotation <= SOLVED_DEG:
            solved.append(enough)
            bounds = _bound(view, jig.position_lps_mm[seen], setting.noise_px, rng)
            for name, values in zip(FIGURES, ([rotation], bounds[0], [source], bounds[1]), strict=True):
                figures[name].extend(values)
    quantiles = {name: {"median": float(np.median(v)), "p95": float(np.quantile(v, 0.95))} if v else None for name, v in figures.items()}
    spent = {"median": float(np.median(seconds[1:])), "max": float(np.max(seconds[1:]))}
    shares = {
        "solved": len(solved) / views,
        "solved_of_solvable": sum(solved) / max(1, solvable),
        "wrong": wrong / views,
        "rivals": rivals / views,
    }
    return {"setting": asdict(setting), "views": views, **shares, **quantiles, "seconds": spent}


def _simulated(setting: Setting, view: XrayView, rng: np.random.Generator) -> tuple[Beads, BeadPoints, np.ndarray]:
    """Return the jig as the file says, the points of one view, and which beads are among them."""
    position = _positions(setting, rng)
    count = round((1 - setting.missing) * setting.beads)
    seen = rng.permutation(setting.beads)[:count] if setting.exactly else np.flatnonzero(rng.random(setting.beads) >= setting.missing)
    pixel = view.project(position[seen]) + rng.normal(0, setting.noise_px, (len(seen), 2))
    inside = ((pixel >= 0) & (pixel <= SIZE_PX - 1)).all(1)
    pixel = rng.permutation(np.concatenate([pixel[inside], rng.uniform(0, SIZE_PX - 1, (setting.false, 2))]))
    prior = None
    if setting.prior_deg is not None:
        axis = rng.normal(size=3)
        turn = rotation_matrix(axis / np.linalg.norm(axis) * np.deg2rad(rng.uniform(0, setting.prior_deg)))
        prior = affine(turn @ view.lps_from_camera[:3, :3].T, np.zeros(3))
    listed = _positions(setting, rng) if setting.wrong_jig else position
    return Beads(listed), BeadPoints("simulated", pixel, camera_from_lps=prior), seen[inside]


def _positions(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Return bead positions in the box, [B, 3]; spread ones each furthest from those before it, of 200 draws."""
    if not setting.spread:
        return rng.uniform(-0.5, 0.5, (setting.beads, 3)) * setting.edge_mm
    position = rng.uniform(-0.5, 0.5, (1, 3)) * setting.edge_mm
    while len(position) < setting.beads:
        draws = rng.uniform(-0.5, 0.5, (200, 3)) * setting.edge_mm
        nearest = np.linalg.norm(draws[:, None] - position, axis=-1).min(1)
        position = np.concatenate([position, draws[nearest.argmax()][None]])
    return position


def _errors(found: PoseHypothesis, view: XrayView) -> tuple[float, float]:
    """Return the errors of the rotation in degrees and of the source in mm."""
    lps_from_camera = np.linalg.inv(found.camera_from_lps)
    rotation = rotation_angle_deg(lps_from_camera[:3, :3], view.lps_from_camera[:3, :3])
    return rotation, float(np.linalg.norm(lps_from_camera[:3, 3] - view.source_lps_mm))


def _bound(view: XrayView, seen_lps_mm: np.ndarray, noise_px: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation errors (degrees) and source errors (mm) drawn from the least covariance that the beads seen allow."""
    camera = Camera.of(view)
    pose = np.linalg.inv(view.lps_from_camera)

    def pixels(step: np.ndarray) -> np.ndarray:
        local = transform_points(pose, seen_lps_mm) @ rotation_matrix(step[:3]).T + step[3:]
        return (camera.principal_point_px + camera.focal_px * local[:, :2] / local[:, 2:]).ravel()

    sizes = np.array([1e-6] * 3 + [1e-3] * 3)
    jacobian = np.stack([(pixels(step) - pixels(-step)) / (2 * size) for step, size in zip(np.diag(sizes), sizes, strict=True)], 1)
    scaled = np.linalg.inv((jacobian * sizes).T @ (jacobian * sizes)) * noise_px**2
    draws = rng.multivariate_normal(np.zeros(6), scaled, BOUND_DRAWS) * sizes
    # the camera turns about the source, so the source itself moves by the translation alone
    return np.rad2deg(np.linalg.norm(draws[:, :3], axis=1)), np.linalg.norm(draws[:, 3:], axis=1)


if __name__ == "__main__":
    sys.exit(main())
