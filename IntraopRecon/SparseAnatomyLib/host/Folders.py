"""Subject hierarchy folders, the tree of data that the user sees, and what comes into the scene whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import slicer


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


def removeItem(scene, item: int) -> None:
    """Remove a folder; data nodes that are in it stay in the scene."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    removeData, removeChildren = False, True
    hierarchy.RemoveItem(item, removeData, removeChildren)


def isInScene(scene, node) -> bool:
    """Return whether a node, or None, is in the scene."""
    return node is not None and node.GetScene() is scene and scene.IsNodePresent(node)


@contextmanager
def allOrNothing(scene, folder: int | None = None):
    """Remove what was added to the scene, and the folder, if the block fails."""
    before = set(_nodes(scene))
    try:
        yield
    except BaseException:
        for node in _nodes(scene):
            if node not in before:
                scene.RemoveNode(node)
        if folder is not None:
            removeItem(scene, folder)
        raise


def _nodes(scene) -> list[Any]:
    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
