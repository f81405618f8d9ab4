"""A result folder: written whole or not at all, and its volume read back."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK

from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import mesh_from_field, write_stl, write_vtp

from .bone import bone_threshold
from .reconstruction import Reconstruction
from .report import render_report, report_data

if TYPE_CHECKING:
    from .case import Case

SMALLEST_ISLAND_MM3 = 100.0  # specks of less than about 5 mm across are noise, not anatomy
_NAMES = ("volume.nrrd", "coverage.nrrd", "bone.vtp", "bone.stl", "views.npz", "report.html", "report.json")
_OF_AN_EARLIER_RESULT = ("metrics.json",)
_STAGING, _PARTIAL = ".result-", ".partial"


def write_result(out: Path, reconstruction: Reconstruction, case: Case, bone_threshold_per_mm: float | None = None) -> dict[str, Path]:
    """Write the result folder of INTERFACES, with `views.npz` for the scene.

    Everything is written beside its final place first. If anything fails, an earlier result in the folder stays as it was.

    Args:
        out: The folder; it is made, and files of other names in it are left alone.
        reconstruction: The result.
        case: What was reconstructed; its views in the order of the reconstruction's.
        bone_threshold_per_mm: The user's own bone threshold; chosen from the volume by default.

    Returns:
        Path by name: `volume`, `coverage`, `mesh_vtp`, `mesh_stl`, `views`, `report_html`, `report_json`.

    Raises:
        InputError: The folder cannot be made or written to.
        ResourceError: The disk is full or fails.
    """
    out = Path(out)
    staging = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in out.glob(f"{_STAGING}*{_PARTIAL}"):
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, suffix=_PARTIAL, dir=out))
        _write_files(staging, reconstruction, case, bone_threshold_per_mm)
        for name in _NAMES:
            os.replace(staging / name, out / name)
        for name in _OF_AN_EARLIER_RESULT:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise _explained(error, out) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    keys = ("volume", "coverage", "mesh_vtp", "mesh_stl", "views", "report_html", "report_json")
    return {key: out / name for key, name in zip(keys, _NAMES, strict=True)}


def write_volume(path: Path, array: np.ndarray, grid: VoxelGrid) -> None:
    """Write an array [k, j, i] as compressed NRRD, float32, LPS space, and read it back to be sure of it.

    Raises:
        OSError: It could not be written.
    """
    image = sitk_image(array, grid)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
        SimpleITK.ReadImage(str(path))  # a full disk may show only in the last block
    except RuntimeError as error:
        code = errno.ENOSPC if shutil.disk_usage(path.parent).free < image.GetNumberOfPixels() * 4 else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def read_volume(path: Path) -> tuple[np.ndarray, VoxelGrid]:
    """Read a scalar volume in any format that SimpleITK reads.

    Returns:
        float32 [k, j, i], and where its voxels lie.

    Raises:
        InputError: No such file, or not a finite scalar 3D image.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not there.", "Check the path, or run the step that writes this file again.")
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as an image.", "Give a complete volume file, such as .nrrd or .nii.gz.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path} is not a volume with one value per voxel.", "Give a 3D scalar image.")
    array = SimpleITK.GetArrayFromImage(SimpleITK.Cast(image, SimpleITK.sitkFloat32))
    if not np.isfinite(array).all():
        raise InputError(f"{path} holds voxels that are not numbers.", "Export the volume again without NaN or infinite values.")
    try:
        grid = VoxelGrid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    except ValueError as error:
        raise InputError(f"{path} has no valid position in space: {error}", "Export the volume again with perpendicular axes.") from error
    return array, grid


def sitk_image(array: np.ndarray, grid: VoxelGrid) -> SimpleITK.Image:
    """Return an array [k, j, i] as a float32 SimpleITK image."""
    image = SimpleITK.GetImageFromArray(check_array("array", array, grid.shape_kji, dtype=np.float32))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def _write_files(folder: Path, reconstruction: Reconstruction, case: Case, bone_threshold_per_mm: float | None) -> None:
    volume, grid = reconstruction.attenuation_per_mm, reconstruction.grid
    write_volume(folder / "volume.nrrd", volume, grid)
    write_volume(folder / "coverage.nrrd", reconstruction.coverage, grid)
    threshold = bone_threshold(volume, reconstruction.coverage, bone_threshold_per_mm)
    mesh = mesh_from_field(volume, grid, threshold.value_per_mm, SMALLEST_ISLAND_MM3)
    write_vtp(mesh, folder / "bone.vtp")
    write_stl(mesh, folder / "bone.stl")
    _write_views(folder / "views.npz", case)
    data = report_data(reconstruction, case, threshold, mesh)
    (folder / "report.json").write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")
    (folder / "report.html").write_text(render_report(data, reconstruction, case), encoding="utf-8")


def _write_views(path: Path, case: Case) -> None:
    """Write the X-rays with their geometry, for the scene: attenuation in half precision is exact to 0.4 % of a grey level of 8 bits."""
    arrays: dict[str, np.ndarray] = {"name": np.array([view.name for view in case.views])}
    for attribute in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px"):
        arrays[attribute] = np.array([getattr(view.geometry, attribute) for view in case.views])
    for index, view in enumerate(case.views):
        arrays[f"attenuation_{index:03d}"] = view.attenuation.astype(np.float16)
        arrays[f"mask_{index:03d}"] = view.mask
    np.savez_compressed(path, **arrays)


def _explained(error: OSError, out: Path) -> InputError | ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"The disk of {out} is full; nothing was changed there.", "Free some space or choose another folder, then run again."
        )
    if isinstance(error, FileExistsError | NotADirectoryError | PermissionError) or error.errno == errno.EROFS:
        return InputError(f"The result cannot be written to {out}: {error.strerror}.", "Choose a folder that you may write to.")
    return ResourceError(f"The result could not be written to {out}: {error.strerror or error}.", "Check the disk, then run again.")
