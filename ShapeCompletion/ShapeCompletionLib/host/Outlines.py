"""What the user has outlined in a segmentation node, as labels. The node is read only: nothing here changes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import slicer
import vtk

from ShapeCompletionLib.core.planes import Plane, find_planes
from ShapeCompletionLib.core.sampling import margins_mm
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes

MAX_VOXELS = 2**29  # of the volume that the labels are extended to
_ROUNDING_MM = 15.0  # the result's grid reaches farther than asked for by three of its voxels at most
_ORIENTATIONS = ("sagittal", "coronal", "axial")  # by the LPS axis that is normal to them
_ORIENTED_COSINE = 0.94  # 20 degrees from the axis; beyond that it is oblique
_BINARY_LABELMAP = "Binary labelmap"


@dataclass(frozen=True, eq=False)
class Outline:
    """What is outlined in one segment.

    Attributes:
        labels: 1 inside the structure, uint8 [k, j, i]; they reach as far beyond it as slices tell about it, or over the whole volume.
        grid: Where the voxels lie in the world.
    """

    labels: np.ndarray
    grid: VoxelGrid

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """The planes that were outlined, indices of `labels`.

        Raises:
            InputError: The structure is outlined everywhere.
        """
        return find_planes(self.labels, self.grid.spacing_mm[::-1])

    @cached_property
    def digest(self) -> bytes:
        """Tells whether two outlines are the same."""
        place = (*self.labels.shape, *self.grid.lps_from_ijk.ravel().round(6).tolist())
        return hashlib.blake2b(np.packbits(self.labels).tobytes() + repr(place).encode()).digest()


def segmentIdOf(node, segment: str = "") -> str:
    """Return the id of a segment.

    Args:
        node: vtkMRMLSegmentationNode.
        segment: Its id or its name; empty for the only one.

    Raises:
        InputError: There is no such segment, or several where none is named.
    """
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    if segment in ids:
        return segment
    byName = [segmentId for segmentId in ids if not segment or segmentation.GetSegment(segmentId).GetName() == segment]
    if len(byName) == 1:
        return byName[0]
    what = f"has no segment {segment}" if segment else f"has {len(ids)} segments"
    raise InputError(f"The segmentation {node.GetName()} {what}.", "Choose the segment that you have outlined.")


def readOutline(node, segmentId: str, whole: bool = False) -> Outline:
    """Return what is outlined in a segment.

    Slicer keeps of a segment only the box that has been drawn into. Here the labels reach beyond it within the segmentation's reference
    geometry, for in an outlined plane the background is known all the way: as far as it matters for the shape. A whole CT would take a
    second at each stroke.

    Args:
        node: vtkMRMLSegmentationNode.
        segmentId: Which of its segments.
        whole: Whether the labels are wanted over the whole reference geometry, so that indices are those of its voxels.

    Raises:
        InputError: The segment is empty, or its node has a transform that is not linear.
    """
    labels, grid = Nodes.labelsFromSegmentationNode(node, segmentId)
    if not labels.any():
        name = node.GetSegmentation().GetSegment(segmentId).GetName()
        raise InputError(f"Nothing is outlined in the segment {name} of {node.GetName()}.", "Outline the structure on two slices or more.")
    corners = _referenceCornersLps(node)
    if corners is None:
        return Outline(labels, grid)
    return _extended(Outline(labels, grid), corners, None if whole else _reach(Outline(labels, grid)))


def describeOutline(outline: Outline) -> str:
    """Return which slices are outlined, for people: `7 axial slices, 8 mm apart`.

    Raises:
        InputError: The structure is outlined everywhere.
    """
    parts = [_describe(outline.grid, [plane for plane in outline.planes if plane.axis == axis]) for axis in range(3)]
    sentences = [part for part in parts if part]
    return "; ".join(sentences) or "No slice that is large enough to count"


def addOutlines(scene, labels: np.ndarray, grid: VoxelGrid, name: str, segmentName: str) -> tuple[Any, str]:
    """Add labels [k, j, i] as a segmentation node of one segment, such as a user would have drawn; return it and the segment's id."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    labelmap = Nodes.labelmapFromArray(labels, grid)
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(_BINARY_LABELMAP)
    converter = slicer.vtkSegmentationConverter
    segmentation.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(labelmap))
    return node, node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, segmentName)


def _referenceCornersLps(node) -> np.ndarray | None:
    """Return the centers of the corner voxels of the volume that was segmented, [8, 3]; None where the node does not know it."""
    converter = slicer.vtkSegmentationConverter
    geometry = node.GetSegmentation().GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    image = slicer.vtkOrientedImageData()
    if not geometry or not converter.DeserializeImageGeometry(geometry, image, False):
        return None
    extent = np.array(image.GetExtent(), float).reshape(3, 2)
    ijk = np.stack(np.meshgrid(*extent, indexing="ij"), -1).reshape(-1, 3)
    rasFromIjk = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(rasFromIjk)
    ras = np.array([rasFromIjk.MultiplyPoint((*corner, 1.0))[:3] for corner in ijk])
    return Nodes.lpsFromRas(transform_points(Nodes.worldFromNode(node), ras))


def _reach(outline: Outline) -> np.ndarray | None:
    """Return the first and the last voxels i, j, k that tell anything about the structure, [2, 3]; None where that is not known."""
    try:
        planes = outline.planes
    except InputError:  # said when it is to be completed
        return None
    inside = np.argwhere(outline.labels)
    low, high = inside.min(0), inside.max(0)
    spacing_kji = outline.grid.spacing_mm[::-1]
    voxels = np.ceil((margins_mm(planes, low, high, spacing_kji) + _ROUNDING_MM) / spacing_kji).astype(int)
    return np.stack([low - voxels, high + voxels])[:, ::-1]


def _extended(outline: Outline, cornersLps: np.ndarray, reach: np.ndarray | None) -> Outline:
    """Return the labels on the same lattice, as far as the corners reach, and no farther than `reach`."""
    labels, grid = outline.labels, outline.grid
    ijk = transform_points(np.linalg.inv(grid.lps_from_ijk), cornersLps)
    size = np.array(grid.size_ijk)
    first = np.minimum(np.ceil(ijk.min(0) - 1e-3), 0).astype(int)
    last = np.maximum(np.floor(ijk.max(0) + 1e-3), size - 1).astype(int)
    if reach is not None:
        first, last = np.maximum(first, np.minimum(reach[0], 0)), np.minimum(last, np.maximum(reach[1], size - 1))
    if np.prod((last - first + 1).astype(float)) > MAX_VOXELS:
        return outline
    padding = np.stack([-first, last - size + 1], 1)[::-1]
    origin = transform_points(grid.lps_from_ijk, first.astype(float))
    return Outline(np.pad(labels, padding), VoxelGrid(tuple(last - first + 1), grid.spacing_mm, origin, grid.direction))


def _describe(grid: VoxelGrid, planes: list[Plane]) -> str:
    """Return what there is of parallel planes; empty where there are none."""
    if not planes:
        return ""
    column = 2 - planes[0].axis
    cosines = np.abs(grid.direction[:, column])
    kind = _ORIENTATIONS[int(cosines.argmax())] if cosines.max() > _ORIENTED_COSINE else "oblique"
    if len(planes) == 1:
        return f"1 {kind} slice"
    gaps = np.diff([plane.index for plane in planes]) * grid.spacing_mm[column]
    low, high = (f"{gap:.1f}".removesuffix(".0") for gap in (gaps.min(), gaps.max()))
    return f"{len(planes)} {kind} slices, {low if low == high else f'{low} to {high}'} mm apart"
