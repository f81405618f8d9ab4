"""Case folders whose X-rays show metal balls, for the tests of the calibration from pixels to poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ball_images import bead_image
from bead_scenes import pose, volume_jig

from IntraopReconLib.core.calibration.camera import Camera
from IntraopReconLib.core.calibration.correspondence import Beads
from IntraopReconLib.core.calibration.distortion import Distortion
from IntraopReconLib.core.calibration.fiducials import write_fiducials
from IntraopReconLib.core.xrays.dicom_writer import XraySeries, write_xray

AIR = 50_000
CAMERA = Camera((256, 240), (1.3, 1.35), 1020.0, (129.5, 117.0))  # two pixels off the middle, of which the tags tell nothing
ANGLES = ((0, 0, 0), (40, 10, 5), (-40, -20, -8), (75, 20, 12), (-75, 5, 0))
JIG = replace(volume_jig(seed=4, count=10, extent_mm=(110.0, 110.0, 110.0)), kind=None)
BALL_MM = 2.5  # radius
SERIES = XraySeries("Beads", "X-rays of beads", np.zeros(3))


def make_bead_case(folder: Path, jig: Beads = JIG, angles: tuple[tuple[float, float, float], ...] = ANGLES) -> list[np.ndarray]:
    """Write X-rays of a jig and its `fiducials.mrk.json`.

    Returns:
        The true poses, camera from LPS [4, 4].
    """
    (folder / "xrays").mkdir(parents=True)
    poses = [pose(*one, jig) for one in angles]
    for number, camera_from_lps in enumerate(poses):
        write_bead_xray(folder, number, camera_from_lps, jig)
    write_fiducials(folder / "fiducials.mrk.json", jig)
    return poses


def bead_intensity(camera_from_lps: np.ndarray, jig: Beads, seed: int = 0, distortion: Distortion | None = None) -> np.ndarray:
    """Return the stored values of an X-ray of the jig, uint16 [row, column]."""
    view = CAMERA.view(camera_from_lps)
    pixel, depth = view.project(jig.position_lps_mm), view.depth_mm(jig.position_lps_mm)
    pixel = pixel if distortion is None else distortion.distorted(pixel)
    radius = BALL_MM * CAMERA.focal_px.mean() / depth
    image = bead_image(CAMERA.size_px[::-1], np.column_stack([pixel, radius]), bone=False, seed=seed)
    return np.clip(AIR * np.exp(-image), 1, 65_000).astype(np.uint16)


def write_bead_xray(
    folder: Path, number: int, camera_from_lps: np.ndarray | None = None, jig: Beads = JIG, intensity: np.ndarray | None = None
) -> Path:
    """Write one X-ray of the jig, or these stored values, as `xrays/view_00N.dcm`."""
    path = folder / "xrays" / f"view_{number:03d}.dcm"
    camera_from_lps = pose(jig=jig) if camera_from_lps is None else camera_from_lps
    stored = bead_intensity(camera_from_lps, jig, number) if intensity is None else intensity
    write_xray(path, stored, CAMERA.view(camera_from_lps), SERIES, number + 1)
    return path
