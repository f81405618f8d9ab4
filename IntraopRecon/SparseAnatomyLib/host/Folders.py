"""Subject hierarchy folders, the tree of data that the user sees, and what comes into the scene whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import slicer

from SparseAnatomyLib.errors import Cancelled


def folderItem(scene, name: str, parentItem: int | None = None) -> int:
    """Add a subject hierarchy folder, under the scene by default, and return its item."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return hierarchy.CreateFolderItem(hierarchy.GetSceneItemID() if parentItem is None else parentItem, name)


def moveToFolder(scene, node, folder: int) -> None:
    """Put a data node into a subject hierarchy folder."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, folder)
    else:  # without the desktop's plugins nobody has made one
        hierarchy.CreateItem(folder, node)


def parentItem(scene, node) -> int:
    """Return the item of the folder that a data node is in."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))


def itemName(scene, item: int) -> str:
    """Return the name of a subject hierarchy item."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene).GetItemName(item)


def removeItem(scene, item: int) -> None:
    """Remove a folder; data nodes that are in it stay in the scene."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    removeData, removeChildren = False, True
    hierarchy.RemoveItem(item, removeData, removeChildren)


def isInScene(scene, node) -> bool:
    """Return whether a node, or None, is in the scene."""
    return node is not None and node.GetScene() is scene and scene.IsNodePresent(node)


class Added:
    """What comes into a scene step by step, and is taken back as a whole if it does not get that far.

    Use each step's `with added.step():`, and the whole within `with added:`.
    """

    def __init__(self, scene, folder: int | None = None) -> None:
        """Begin.

        Args:
            scene: vtkMRMLScene.
            folder: Subject hierarchy folder that goes as well.
        """
        self._scene, self._folder, self._nodes = scene, folder, []

    @contextmanager
    def step(self):
        """Note which nodes the block adds.

        Raises:
            Cancelled: What earlier steps have added is gone: the scene was closed, or the user does not want it.
        """
        if not all(isInScene(self._scene, node) for node in self._nodes):
            raise Cancelled("The result was removed from the scene while it was being loaded.")
        before = set(_nodes(self._scene))
        try:
            yield
        finally:
            self._nodes += [node for node in _nodes(self._scene) if node not in before]

    def __enter__(self) -> Added:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        if kind is None:
            return
        for node in self._nodes:
            if isInScene(self._scene, node):
                self._scene.RemoveNode(node)
        if self._folder is not None:
            removeItem(self._scene, self._folder)


def _nodes(scene) -> list[Any]:
    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
