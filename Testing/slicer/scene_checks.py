"""What a scene with the result of the balls must hold."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer")

import vtk
from small_scene import BALLS, CENTER_LPS_MM, THRESHOLD_PER_MM, balls_per_mm, oblique_grid, views, xray
from vtk.util.numpy_support import vtk_to_numpy

from SparseAnatomyLib.host import Nodes


def folder_names(scene) -> dict[str, str]:
    """Return the subject hierarchy: parent's name by the item's."""
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    ids = [items.GetId(n) for n in range(items.GetNumberOfIds())]
    return {hierarchy.GetItemName(item): hierarchy.GetItemName(hierarchy.GetItemParent(item)) for item in ids}


def check_content(scene) -> None:
    """Compare the nodes of the balls, by name, with the values that they were made from."""
    grid = oblique_grid()
    volume, where = Nodes.arrayFromVolumeNode(scene.GetFirstNodeByName("balls volume"))
    np.testing.assert_array_equal(volume, balls_per_mm(grid))
    np.testing.assert_allclose(where.lps_from_ijk, grid.lps_from_ijk, atol=1e-4)
    coverage, where = Nodes.arrayFromVolumeNode(scene.GetFirstNodeByName("balls coverage"))
    assert (coverage[:, :, :5] == 0).all()
    assert (coverage[:, :, 5:] == 1).all()
    np.testing.assert_allclose(where.lps_from_ijk, grid.lps_from_ijk, atol=1e-4)
    mesh = Nodes.meshFromModelNode(scene.GetFirstNodeByName("balls bone"))
    segmentation = scene.GetFirstNodeByName("balls segmentation")
    segment = segmentation.GetSegmentation().GetNthSegmentID(0)
    assert segmentation.GetSegmentation().GetNthSegment(0).GetName() == "Bone"
    labels, where = Nodes.labelsFromSegmentationNode(segmentation, segment)
    np.testing.assert_allclose(where.lps_from_ijk, grid.lps_from_ijk, atol=1e-4)
    np.testing.assert_array_equal(labels, balls_per_mm(grid) > THRESHOLD_PER_MM)
    volumes = [4 / 3 * np.pi * radius**3 for _, radius in BALLS.values()]
    assert labels.sum() * grid.voxel_volume_mm3 == pytest.approx(sum(volumes), rel=0.02)
    surface = Nodes.meshFromSegmentationNode(segmentation, segment)
    np.testing.assert_allclose(surface.points_lps_mm.min(0), mesh.points_lps_mm.min(0), atol=2.5)
    box = Nodes.boxFromRoiNode(scene.GetFirstNodeByName("balls region"))
    np.testing.assert_allclose(box.center_lps_mm, CENTER_LPS_MM, atol=1e-4)
    np.testing.assert_allclose(box.extent_mm, grid.extent_mm, atol=1e-4)
    np.testing.assert_allclose(box.direction, grid.direction, atol=1e-5)
    sources = Nodes.arrayFromPointsNode(scene.GetFirstNodeByName("X-ray sources"))
    np.testing.assert_allclose(sources, [view.source_lps_mm for view in views()], atol=1e-4)
    for name, view in zip(("front", "oblique"), views(), strict=True):
        _check_xray(scene, name, view)


def _check_xray(scene, name: str, view) -> None:
    image, where = Nodes.arrayFromVolumeNode(scene.GetFirstNodeByName(name))
    np.testing.assert_allclose(image[0], xray(view), atol=2e-3)
    np.testing.assert_allclose(where.lps_from_ijk[:3, 0], view.column_step_lps_mm, atol=1e-4)
    np.testing.assert_allclose(where.lps_from_ijk[:3, 1], view.row_step_lps_mm, atol=1e-4)
    np.testing.assert_allclose(where.origin_lps_mm, view.detector_origin_lps_mm, atol=1e-3)
    plane = scene.GetFirstNodeByName(f"{name} plane").GetPolyData()
    points = vtk_to_numpy(plane.GetPoints().GetData()) * [-1, -1, 1]
    np.testing.assert_allclose(points, view.all_pixels_lps_mm().reshape(-1, 3), atol=1e-3)
    grey = vtk_to_numpy(plane.GetPointData().GetArray("X-ray"))[:, 0].reshape(image.shape[1:])
    assert np.corrcoef(grey[4:].ravel(), xray(view)[4:].ravel())[0, 1] > 0.99
    assert (grey[:4, :9] == 0).all()  # masked
    frustum = vtk_to_numpy(scene.GetFirstNodeByName(f"{name} frustum").GetPolyData().GetPoints().GetData()) * [-1, -1, 1]
    np.testing.assert_allclose(frustum[0], view.source_lps_mm, atol=1e-3)
    columns, rows = view.size_px
    np.testing.assert_allclose(frustum[1:].mean(0), view.pixel_lps_mm([(columns - 1) / 2, (rows - 1) / 2]), atol=1e-3)
