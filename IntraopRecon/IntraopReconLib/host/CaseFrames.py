"""The X-rays of a case in the 3D view before anything is reconstructed: coarse pictures at their detectors, sources, frusta of rays.

They are made from the case again whenever it is opened, and so are neither saved with the scene nor shown among its data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from SparseAnatomyLib.host.Folders import Added, isInScene
from SparseAnatomyLib.host.WorkerLogic import REST, Adding

from .ResultFolder import ResultXray
from .XRays import frustumNode, planeNode

_ATTRIBUTE = "IntraopRecon.CaseFrame"
_OPACITY, _OPACITY_OF_CURRENT = 0.35, 1.0


@dataclass(frozen=True, eq=False)
class CaseFrames:
    """The nodes of a case's X-rays.

    Attributes:
        planes, frusta: vtkMRMLModelNodes by the name of the X-ray.
    """

    planes: dict[str, Any]
    frusta: dict[str, Any]


def addFrames(scene, xrays: Sequence[ResultXray]) -> Adding:
    """Add the frames of X-rays step by step, hidden, in the place of those of an earlier case; returns the CaseFrames."""
    removeFrames(scene)
    frames = CaseFrames({}, {})
    with Added(scene) as added:
        for xray in xrays:
            yield
            with added.step():
                frames.planes[xray.name] = _helper(planeNode(scene, xray, xray.name, isHelper=True))
                frames.frusta[xray.name] = _helper(frustumNode(scene, xray, xray.name, isHelper=True))
        yield REST
    return frames


def showFrames(scene, frames: CaseFrames, shown: Collection[str], current: str) -> None:
    """Show the frames of some X-rays and hide the others; the frustum of the current one stands out."""
    for nodes in (frames.planes, frames.frusta):
        for name, node in nodes.items():
            if isInScene(scene, node):
                node.GetDisplayNode().SetVisibility(name in shown)
    for name, node in frames.frusta.items():
        if isInScene(scene, node):
            node.GetDisplayNode().SetOpacity(_OPACITY_OF_CURRENT if name == current else _OPACITY)


def removeFrames(scene) -> None:
    """Take the frames of a case out of the scene."""
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLModelNode") for n in range(scene.GetNumberOfNodesByClass("vtkMRMLModelNode"))]
    for node in nodes:
        if node.GetAttribute(_ATTRIBUTE):
            scene.RemoveNode(node)


def _helper(node):
    """Mark a node as one that belongs to the panel, not to the user's data."""
    node.SetAttribute(_ATTRIBUTE, "1")
    for part in (node, node.GetDisplayNode()):
        part.SetSaveWithScene(False)
    node.GetDisplayNode().SetVisibility(False)
    return node
