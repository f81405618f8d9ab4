"""Subject hierarchy folders: the tree of data that the user sees."""

from __future__ import annotations

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
