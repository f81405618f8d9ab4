"""Off-screen pictures of a result: the anatomy and the X-ray setup in 3D, and three slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import vtk

from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SliceViews import framedPointsRas
from SparseAnatomyLib.host.Snapshot import SLICES, Note, PictureSize, View3D, pointsRas, requireOffscreen, slicePicture, writePictures

from . import XRays
from .ResultFolder import readResult
from .ResultNodes import UNKNOWN_COLOR, ResultNodes, addResult


def pictureResult(resultFolder: Path, pictureFolder: Path, size: PictureSize | None = None) -> dict[str, Path]:
    """Draw a result folder in a scene of its own.

    Args:
        resultFolder: Result folder.
        pictureFolder: Where the PNG files are written; it is made.
        size: Pixels.

    Returns:
        PNG files by title, as `core.report.add_pictures` takes them.

    Raises:
        InputError: The result folder is missing, incomplete or damaged.
        ResourceError: There is no off-screen OpenGL, or the files cannot be written.
    """
    result = readResult(resultFolder)
    headless = HeadlessScene()
    nodes = addResult(headless.scene, result, Path(resultFolder).resolve().name)
    return pictureScene(headless, nodes, pictureFolder, size)


def pictureScene(headless: HeadlessScene, nodes: ResultNodes, pictureFolder: Path, size: PictureSize | None = None) -> dict[str, Path]:
    """Draw a result that is in a headless scene: arguments after the second, returns and raises as `pictureResult`."""
    requireOffscreen()
    size = size or PictureSize()
    pictures: dict[str, vtk.vtkImageData] = {}
    view = View3D(headless, size.view3d)
    bone = framedPointsRas(nodes.bone, nodes.volume)
    pictures["Bone"] = view.picture(bone)
    if nodes.xrays.images:
        XRays.setVisible(nodes.xrays, True)
        pictures["Bone with X-ray setup"] = view.picture(np.vstack([pointsRas(node) for node in nodes.xrays.frusta]))
        XRays.setVisible(nodes.xrays, False)
    view.close()
    for orientation in SLICES:
        pictures[f"{orientation} slice"] = _slicePicture(headless, nodes, orientation, bone, size.slice)
    return writePictures(pictures, Path(pictureFolder))


def _slicePicture(headless: HeadlessScene, nodes: ResultNodes, orientation: str, framedRas: np.ndarray, size: int) -> vtk.vtkImageData:
    note = Note("shaded: unknown", tuple(0.5 + 0.5 * value for value in UNKNOWN_COLOR))
    return slicePicture(headless, orientation, (nodes.volume, nodes.coverage), framedRas, size, note)
