"""Volumes on disk: written with their place in space, and read from any format that SimpleITK reads."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK

from .checks import check_array
from .errors import InputError
from .grid import VoxelGrid
from .volume_files import EXPORT_SPACING, check_whole, unreadable

_SPACING_COMPLAINTS = ("spacing", "SpaceVector")  # of ITK and of its NRRD reader


def write_volume(path: Path, array: np.ndarray, grid: VoxelGrid, dtype: type = np.float32, compressed: bool = True) -> None:
    """Write an array [k, j, i] as NRRD, LPS space, and read it back to be sure of it.

    Args:
        path: The file.
        array: Of the grid's shape.
        grid: Where its voxels lie.
        dtype: Of the pixels in the file: float32, or uint8 for shapes.
        compressed: Not so where it is read again at once.

    Raises:
        OSError: It could not be written.
    """
    image = sitk_image(array, grid, dtype)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=compressed)
        SimpleITK.ReadImage(str(path))  # a full disk may show only in the last block
    except RuntimeError as error:
        full = shutil.disk_usage(path.parent).free < image.GetNumberOfPixels() * image.GetSizeOfPixelComponent()
        code = errno.ENOSPC if full else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def read_volume(path: Path) -> tuple[np.ndarray, VoxelGrid]:
    """Read a scalar volume in any format that SimpleITK reads.

    Returns:
        float32 [k, j, i], and where its voxels lie.

    Raises:
        InputError: No such file, or not a finite scalar 3D image.
    """
    path = Path(path)
    image = read_image(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path} is not a volume with one value per voxel.", "Give a 3D scalar image.")
    array = SimpleITK.GetArrayFromImage(SimpleITK.Cast(image, SimpleITK.sitkFloat32))
    if not np.isfinite(array).all():
        raise InputError(f"{path} holds voxels that are not numbers.", "Export the volume again without NaN or infinite values.")
    return array, grid_of(image, path)


def read_image(path: Path) -> SimpleITK.Image:
    """Read any image that SimpleITK reads.

    Raises:
        InputError: No such file, or it is damaged.
    """
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a volume.", "Give the file in it.")
    if not os.path.isfile(path):  # of a path too long for a file system, Path.is_file raises an OSError
        raise InputError(f"{path} is not there.", "Check the path, or run the step that writes this file again.")
    check_whole(path)
    try:
        return SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        if "space origin" in str(error):
            raise InputError(f"{path} has an origin that is not three numbers.", "Export the volume again with its position.") from error
        if any(words in str(error) for words in _SPACING_COMPLAINTS):
            raise InputError(f"{path} has a voxel spacing that is not a number above zero.", EXPORT_SPACING) from error
        raise unreadable(path) from error


def grid_of(image: SimpleITK.Image, path: Path) -> VoxelGrid:
    """Return where the voxels of a 3D image lie; `path` is named where that makes no sense.

    Raises:
        InputError: Its spacing or its axes will not do.
    """
    try:
        return VoxelGrid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    except ValueError as error:
        raise InputError(f"{path} has no valid position in space: {error}", "Export the volume again with perpendicular axes.") from error


def sitk_image(array: np.ndarray, grid: VoxelGrid, dtype: type = np.float32) -> SimpleITK.Image:
    """Return an array [k, j, i] as a SimpleITK image."""
    image = SimpleITK.GetImageFromArray(check_array("array", array, grid.shape_kji, dtype=dtype))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def resampled(array: np.ndarray, grid: VoxelGrid, onto: VoxelGrid, outside: float) -> np.ndarray:
    """Return an array on another grid, linearly interpolated; averaged first where the other grid is at least twice as coarse.

    Args:
        array: [k, j, i] on `grid`.
        grid: Where its voxels lie.
        onto: The other grid.
        outside: Value where `grid` does not reach.

    Returns:
        float32 [k, j, i].
    """
    image = sitk_image(array, grid)
    shrink = np.clip((onto.spacing_mm.min() / grid.spacing_mm + 1e-6).astype(int), 1, grid.size_ijk)
    if (shrink > 1).any():
        image = SimpleITK.BinShrink(image, [int(factor) for factor in shrink])
    resample = SimpleITK.ResampleImageFilter()
    resample.SetSize(onto.size_ijk)
    resample.SetOutputSpacing(onto.spacing_mm.tolist())
    resample.SetOutputOrigin(onto.origin_lps_mm.tolist())
    resample.SetOutputDirection(onto.direction.ravel().tolist())
    resample.SetInterpolator(SimpleITK.sitkLinear)
    resample.SetDefaultPixelValue(outside)
    return SimpleITK.GetArrayFromImage(resample.Execute(image))
