"""X-rays of a phantom with many small bones, their poses perturbed, and how far poses are from the truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import phantom_scene
from phantom_scene import CENTER_LPS_MM, Ellipsoid
from scipy.spatial.transform import Rotation

from IntraopReconLib.core.calibration.camera import rotation_matrix
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView

VIEWS = 16


def _bones(count: int, seed: int) -> tuple[Ellipsoid, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        Ellipsoid(tuple(rng.uniform(-20, 20, 3)), tuple(rng.uniform(2, 6, 3)), tuple(rng.uniform(0, 180, 3)), rng.uniform(0.02, 0.05))
        for _ in range(count)
    )


BONES = (*phantom_scene.PHANTOM, *_bones(14, 1))
SOMEBODY_ELSE = (phantom_scene.PHANTOM[0], *_bones(14, 2))


@cache
def true_views() -> tuple[MeasuredView, ...]:
    """Return X-rays at their true poses."""
    return tuple(phantom_scene.measured(phantom_scene.poses(VIEWS, size_px=60, seed=5), BONES))


def about_center(turn_deg: np.ndarray, shift_mm: np.ndarray) -> np.ndarray:
    """Return a rigid motion [4, 4] in LPS that turns about the scene's center."""
    center = np.array(CENTER_LPS_MM)
    turn = rotation_matrix(np.deg2rad(turn_deg))
    return affine(turn, center - turn @ center + shift_mm)


def carried(view: MeasuredView, rigid: np.ndarray) -> MeasuredView:
    """Return the view with its pose carried along, the image as it was."""
    return replace(view, geometry=view.geometry.transformed(rigid))


def perturbed(sd_mm: float, sd_deg: float, seed: int) -> list[MeasuredView]:
    """Return the X-rays with random errors of their poses, of these standard deviations along each axis."""
    rng = np.random.default_rng(seed)
    return [carried(view, about_center(rng.normal(0, sd_deg, 3), rng.normal(0, sd_mm, 3))) for view in true_views()]


def errors(poses: list[XrayView], which: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return how far poses are off the truth, what all share taken away: at the center across the beam in mm, and in degrees, [view]."""
    which = np.arange(VIEWS) if which is None else which
    center = np.array(CENTER_LPS_MM)
    shifts, turns, beams = [], [], []
    for index in which:
        true = true_views()[index].geometry.lps_from_camera
        error = poses[index].lps_from_camera @ np.linalg.inv(true)
        shifts.append(error[:3, :3] @ center + error[:3, 3] - center)
        turns.append(Rotation.from_matrix(error[:3, :3]).as_rotvec(degrees=True))
        beams.append(true[:3, 2])
    shifts, turns, beams = (np.array(values) for values in (shifts, turns, beams))
    across = np.eye(3) - beams[:, :, None] * beams[:, None, :]
    shared = np.linalg.solve(across.sum(0), np.einsum("vij,vj->i", across, shifts))
    off = np.einsum("vij,vj->vi", across, shifts - shared)
    return np.linalg.norm(off, axis=1), np.linalg.norm(turns - turns.mean(0), axis=1)
