"""Training shapes: segmentations as smooth signed distance fields on isotropic grids along the patient's axes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.volume_files import SUFFIXES, name_of

from .segmentation_file import check_label, read_labels

_MARGIN_MM = 8.0
_VOXELS = 100  # along the longest edge: twice as fine as the cube that a prior looks at


@dataclass(frozen=True, eq=False)
class TrainingShape:
    """A structure of one patient.

    Attributes:
        name: Of the file, with the folders that it is in.
        patient: Who it is from; shapes of one patient are never on both sides of a split.
        signed_distance_mm: Positive inside, float32 [k, j, i].
        grid: Where its voxels lie; isotropic, along the patient's axes.
    """

    name: str
    patient: str
    signed_distance_mm: np.ndarray
    grid: VoxelGrid

    @cached_property
    def center_lps_mm(self) -> np.ndarray:
        """Centroid, [3]."""
        inside = np.argwhere(self.signed_distance_mm > 0)
        return self.grid.origin_lps_mm + inside.mean(0)[::-1] * self.grid.spacing_mm

    @cached_property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths of the bounding box along the patient's axes, [3]."""
        inside = np.argwhere(self.signed_distance_mm > 0)
        return (np.ptp(inside, 0) + 1)[::-1] * self.grid.spacing_mm


def load_shapes(folder: Path, label: int, patient_pattern: str = "") -> list[TrainingShape]:
    """Load all segmentations of a folder, and of the folders in it, that hold a label.

    Args:
        folder: With label volumes.
        label: Which one is the structure.
        patient_pattern: Regular expression whose first match in the file's name is the patient; by default each file is a patient.

    Raises:
        InputError: The folder has no such segmentation, or a file in it is damaged or no label volume.
    """
    check_label(label)
    names = (path for path in Path(folder).rglob("*") if path.name.endswith(SUFFIXES) and not path.name.startswith("."))
    paths = sorted(path for path in names if path.is_file())
    shapes = []
    for path in paths:
        match = re.search(patient_pattern, path.name) if patient_pattern else None
        field = signed_distance_field(_read(path, label))
        if field is not None:
            stem = name_of(path)
            name = (path.parent / stem).relative_to(folder).as_posix()
            shapes.append(TrainingShape(name, match.group() if match else stem, *field))
    if not shapes:
        raise InputError(
            f"{folder} holds no segmentation with label {label}.",
            f"Give a folder with label volumes ({', '.join(SUFFIXES)}) and the number of the structure in them.",
        )
    return shapes


def _read(path: Path, label: int) -> SimpleITK.Image:
    """Return a label of a file as a mask."""
    try:
        image, _ = read_labels(path)
    except InputError as error:
        raise InputError(error.message, f"Take it out of the folder, or mend it: {error.remedy}") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        message = f"{path} holds overlapping segments in several layers."
        raise InputError(message, "Export the structure alone as a label volume.")
    inside = SimpleITK.GetImageFromArray((SimpleITK.GetArrayViewFromImage(image) == label).astype(np.uint8))  # ITK would wrap the label
    inside.CopyInformation(image)
    return inside


def signed_distance_field(mask: SimpleITK.Image, spacing_mm: float | None = None) -> tuple[np.ndarray, VoxelGrid] | None:
    """Return the signed distance to a mask's border on an isotropic grid along the patient's axes.

    Args:
        mask: 3D, zero outside.
        spacing_mm: Of the field; a hundredth of the structure's longest edge by default, or of twice the margin where it is smaller.

    Returns:
        Millimeters, positive inside, float32 [k, j, i], and where the voxels lie; None where the mask is empty.
    """
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.Execute(mask)
    if not statistics.HasLabel(1):
        return None
    box = statistics.GetBoundingBox(1)
    image = SimpleITK.RegionOfInterest(mask, box[3:], box[:3])
    edge_mm = max(size * spacing for size, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True))
    margin = [int(np.ceil(_MARGIN_MM / s)) for s in image.GetSpacing()]
    image = SimpleITK.ConstantPad(image, margin, margin, 0)
    settings = {"squaredDistance": False, "useImageSpacing": True}
    outside = SimpleITK.SignedMaurerDistanceMap(image, insideIsPositive=False, **settings)  # 0 on the mask's own border voxels
    inside = SimpleITK.SignedMaurerDistanceMap(image == 0, insideIsPositive=False, **settings)
    signed = SimpleITK.Cast((inside - outside) / 2, SimpleITK.sitkFloat32)  # 0 halfway between border voxels of both sides
    grid = _grid_around(image, spacing_mm or max(edge_mm, 2 * _MARGIN_MM) / _VOXELS)  # a speck needs no microscope
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize(grid.size_ijk)
    resampler.SetOutputSpacing(grid.spacing_mm.tolist())
    resampler.SetOutputOrigin(grid.origin_lps_mm.tolist())
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.SetDefaultPixelValue(-_MARGIN_MM)
    return SimpleITK.GetArrayFromImage(resampler.Execute(signed)), grid


def _grid_around(image: SimpleITK.Image, spacing_mm: float) -> VoxelGrid:
    size = image.GetSize()
    corners = np.array(
        [image.TransformContinuousIndexToPhysicalPoint([(size[a] - 1) * ((n >> a) & 1) * 1.0 for a in range(3)]) for n in range(8)]
    )
    lowest, highest = corners.min(0), corners.max(0)
    return VoxelGrid.box((lowest + highest) / 2, highest - lowest + spacing_mm, spacing_mm)
