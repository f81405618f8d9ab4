"""The outlines that ship: label volumes in Resources/SampleShapes, in the repository or in the installed extension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host import ResultFiles
from SparseAnatomyLib.host.SliceViews import aimSliceViews
from SparseAnatomyLib.resources import resource

from .Outlines import addOutlines
from .ParameterNode import ParameterNode

_FOLDER = "SampleShapes"
_COLOR = (0.45, 0.78, 0.55)  # Slicer would take one by chance; seen on black, and beside the completed outline
_REMEDY = "Install the extension again, or run from a checkout of the repository."


def sampleFiles() -> list[Path]:
    """Return the files of the outlines that ship; none where they are not installed."""
    try:
        return sorted(resource(_FOLDER).glob("*.nrrd"))
    except InputError:
        return []


def sampleTitle(path: Path) -> str:
    """Return what the Sample Data module calls a file: `ShapeCompletionVertebraSlices` of `vertebra_slices.nrrd`."""
    return "ShapeCompletion" + _stem(path).title().replace("_", "")


def loadSample(scene, path: Path | None = None) -> tuple[Any, str]:
    """Add outlines as a segmentation node.

    Args:
        scene: vtkMRMLScene.
        path: One of `sampleFiles`; the first one if None.

    Returns:
        The vtkMRMLSegmentationNode and the id of its segment.

    Raises:
        InputError: The file is missing, damaged or empty.
    """
    path = path or next(iter(sampleFiles()), None)
    if path is None:
        raise InputError("The sample outlines are not installed.", _REMEDY)
    values, grid = ResultFiles.readVolume(path, _REMEDY)
    labels = (values > 0.5).astype(np.uint8)
    if not labels.any():
        raise InputError(f"Nothing is outlined in {path}.", _REMEDY)
    name = _stem(path).replace("_", " ").capitalize()
    node, segmentId = addOutlines(scene, labels, grid, name, name.split(" ")[0])
    node.GetSegmentation().GetSegment(segmentId).SetColor(*_COLOR)
    return node, segmentId


def chooseSample(scene, path: Path) -> None:
    """Load outlines, show them in the slice views and choose them in the panel's settings; raises as `loadSample`."""
    node, segmentId = loadSample(scene, path)
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    aimSliceViews(scene, node, np.stack([bounds[::2], bounds[1::2]]))
    parameters = ParameterNode(scene)
    parameters.segmentationNode = node
    parameters.update(segmentId=segmentId)


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
