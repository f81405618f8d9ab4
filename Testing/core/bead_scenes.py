"""Simulated beads as a detector with unequal pitches and an off-center principal point sees them, for the tests of calibration."""

from __future__ import annotations

import numpy as np

from IntraopReconLib.core.calibration.camera import Camera, rotation_matrix
from IntraopReconLib.core.calibration.correspondence import BeadPoints, Beads
from SparseAnatomyLib.frames import affine

CAMERA = Camera((512, 480), (0.7, 0.72), 1020.0, (262.0, 231.0))
FRONT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # camera from LPS with the source in front of the patient


def volume_jig(seed: int = 0, count: int = 12, extent_mm: tuple[float, float, float] = (140.0, 140.0, 140.0)) -> Beads:
    """Return beads far from each other in a box, without symmetry; the first two are large."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(-0.5, 0.5, (1, 3)) * extent_mm
    while len(position) < count:
        draws = rng.uniform(-0.5, 0.5, (30, 3)) * extent_mm
        position = np.concatenate([position, draws[np.linalg.norm(draws[:, None] - position, axis=-1).min(1).argmax()][None]])
    return Beads(position + [10, -20, 30], np.where(np.arange(count) < 2, 2, 1))


def pose(orbit_deg: float = 0.0, tilt_deg: float = 0.0, roll_deg: float = 0.0, jig: Beads | None = None) -> np.ndarray:
    """Return camera from LPS [4, 4], 620 mm from the source to the jig's centroid."""
    turn = rotation_matrix(np.array([0, 0, np.deg2rad(roll_deg)])) @ rotation_matrix(np.array([np.deg2rad(tilt_deg), 0, 0]))
    rotation = turn @ rotation_matrix(np.array([0, np.deg2rad(orbit_deg), 0])) @ FRONT
    center = np.zeros(3) if jig is None else jig.position_lps_mm.mean(0)
    return affine(rotation, np.array([4.0, -7.0, 620.0]) - rotation @ center)


def pixels(camera_from_lps: np.ndarray, jig: Beads, camera: Camera = CAMERA) -> np.ndarray:
    """Return where the beads appear, [B, 2], by the projection of XrayView."""
    return camera.distorted_px(camera.view(camera_from_lps).project(jig.position_lps_mm))


def shot(
    name: str,
    camera_from_lps: np.ndarray,
    jig: Beads,
    seed: int = 0,
    missing: int = 0,
    false: int = 0,
    noise_px: float = 0.2,
    kinds: bool = False,
) -> BeadPoints:
    """Return the points of one X-ray, shuffled, with a prior 15 degrees off."""
    rng = np.random.default_rng(seed)
    seen = rng.permutation(len(jig))[missing:]
    pixel = pixels(camera_from_lps, jig)[seen] + rng.normal(0, noise_px, (len(seen), 2))
    pixel = np.concatenate([pixel, rng.uniform(20, 460, (false, 2))])
    kind = np.concatenate([jig.kind[seen], np.ones(false, int)]) if kinds else None
    order = rng.permutation(len(pixel))
    axis = rng.normal(size=3)
    prior = affine(rotation_matrix(np.deg2rad(15) * axis / np.linalg.norm(axis)) @ camera_from_lps[:3, :3], np.zeros(3))
    return BeadPoints(name, pixel[order], None if kind is None else kind[order], prior)
