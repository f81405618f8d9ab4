"""A result folder read as values, whole and checked, before the scene is touched. Imports nothing that a desktop Slicer lacks."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from IntraopReconLib.core.config import SMALLEST_ISLAND_MM3
from IntraopReconLib.core.scene_files import COVERAGE, LABELS, SURFACE, VALUES, VOLUME, grid_from_values
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import ResultFiles
from SparseAnatomyLib.host.Nodes import Box
from SparseAnatomyLib.mesh import TriangleMesh, read_surface, voxels_above

_REMEDY = "Reconstruct the case again."
_GEOMETRY = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px")


@dataclass(frozen=True, eq=False)
class ResultXray:
    """An X-ray that went into a result.

    Attributes:
        name: The view's name within the case.
        attenuation: Line integrals, float32 [row, column].
        mask: False where a pixel says nothing, bool [row, column].
        geometry: Source and detector.
    """

    name: str
    attenuation: np.ndarray
    mask: np.ndarray
    geometry: XrayView


class BoneSource(Protocol):
    """Where the bone of a result comes from.

    Attributes:
        labels: 1 inside the bone, uint8 [k, j, i].
        mesh: Its surface; it may be empty.
        normals: Of the mesh's points, float32 [n, 3]; None where they are still to be computed.
        boneThresholdPerMm: Above it is bone.
    """

    labels: np.ndarray
    mesh: TriangleMesh
    normals: np.ndarray | None
    boneThresholdPerMm: float


class ResultSource(BoneSource, Protocol):
    """What comes into the scene; each part may be read when it is asked for.

    Attributes:
        grid: Where the voxels of volume and coverage lie.
        attenuationPerMm: float32 [k, j, i].
        coverage: float32 [k, j, i]; 0 is unknown.
        windowPerMm: Attenuation shown white.
        xrays: In the order of the case.
        region: The box that was reconstructed.
        grade: `good` or `poor`.
        warnings: Sentences for the user.
        folder: The result folder; empty where it is not known.
    """

    grid: VoxelGrid
    attenuationPerMm: np.ndarray
    coverage: np.ndarray
    windowPerMm: float
    xrays: Sequence[ResultXray]
    region: Box
    grade: str
    warnings: list[str]
    folder: str


@dataclass(frozen=True, eq=False)
class Result:
    """What a result folder holds, read at once: a ResultSource."""

    grid: VoxelGrid
    attenuationPerMm: np.ndarray
    coverage: np.ndarray
    mesh: TriangleMesh
    boneThresholdPerMm: float
    xrays: list[ResultXray]
    region: Box
    grade: str
    warnings: list[str]
    folder: str = ""
    normals: np.ndarray | None = None

    @cached_property
    def labels(self) -> np.ndarray:
        """1 inside the bone, uint8 [k, j, i]."""
        return voxels_above(self.attenuationPerMm, self.grid, self.boneThresholdPerMm, SMALLEST_ISLAND_MM3).astype(np.uint8)

    @cached_property
    def windowPerMm(self) -> float:
        """Attenuation shown white."""
        return max(float(np.percentile(self.attenuationPerMm, 99.95)), 1.2 * self.boneThresholdPerMm)


class PreparedBone:
    """Bone that the worker has laid ready, read when it is asked for: a BoneSource."""

    def __init__(self, folder: Path, shape: tuple[int, ...], boneThresholdPerMm: float) -> None:
        """Begin; nothing is read yet.

        Args:
            folder: Where the files are.
            shape: Of the volume, [k, j, i].
            boneThresholdPerMm: Above it is bone.
        """
        self._folder, self._shape = Path(folder), tuple(shape)
        self.boneThresholdPerMm = boneThresholdPerMm

    @cached_property
    def labels(self) -> np.ndarray:
        """1 inside the bone, uint8 [k, j, i]."""
        return self._array(LABELS, np.uint8)

    @property
    def mesh(self) -> TriangleMesh:
        """The surface."""
        return self._surface[0]

    @property
    def normals(self) -> np.ndarray:
        """Of its points, [n, 3]."""
        return self._surface[1]

    @cached_property
    def _surface(self) -> tuple[TriangleMesh, np.ndarray]:
        with _readable(self._folder / SURFACE):
            return read_surface(self._folder / SURFACE)

    def _array(self, name: str, kind: type) -> np.ndarray:
        with _readable(self._folder / name):
            array = np.load(self._folder / name, allow_pickle=False)
            if array.shape != self._shape or array.dtype != kind:
                raise ValueError(f"{name}: expected {self._shape}, got {array.shape} {array.dtype}.")
        return array


class PreparedResult(PreparedBone):
    """What the worker has laid ready of a result: a ResultSource each of whose parts takes a few milliseconds to read."""

    def __init__(self, folder: Path, viewsFile: Path) -> None:
        """Read what is small.

        Args:
            folder: Where `core.scene_files` has written.
            viewsFile: `views.npz` of the result folder.

        Raises:
            InputError: A file is missing or damaged.
        """
        with _readable(Path(folder) / VALUES):
            values = json.loads((Path(folder) / VALUES).read_text(encoding="utf-8"))
            self.grid = grid_from_values(values["grid"])
            self.region = _regionBox(values["region"], self.grid)
            self.windowPerMm = float(values["window_per_mm"])
            self.grade, self.warnings = str(values["grade"]), [str(text) for text in values["warnings"]]
            super().__init__(folder, self.grid.shape_kji, float(values["threshold_per_mm"]))
        self.folder = str(Path(viewsFile).parent)
        self._viewsFile = Path(viewsFile)

    @property
    def attenuationPerMm(self) -> np.ndarray:
        """float32 [k, j, i]."""
        return self._array(VOLUME, np.float32)

    @property
    def coverage(self) -> np.ndarray:
        """float32 [k, j, i]."""
        return self._array(COVERAGE, np.float32)

    @cached_property
    def xrays(self) -> XrayFile:
        """In the order of the case; each is read when it is asked for."""
        return XrayFile(self._viewsFile)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say what is wrong with a file that was to be read in the block."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is missing or damaged.", _REMEDY) from error


def readResult(folder: Path) -> Result:
    """Read a result folder.

    Raises:
        InputError: The folder or one of its files is missing, incomplete or damaged.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # of a path too long for a file system, Path.is_dir raises an OSError
        raise InputError(f"There is no result folder {folder}.", "Choose a folder that a reconstruction has written.")
    volume, grid = readVolume(folder / "volume.nrrd")
    coverage, coverageGrid = readVolume(folder / "coverage.nrrd")
    ResultFiles.requireSameGrid(folder / "coverage.nrrd", coverageGrid, "volume.nrrd", grid, _REMEDY)
    report = ResultFiles.readReport(folder / "report.json", _REMEDY)
    try:
        threshold = float(report["bone"]["threshold_per_mm"])
        region = _regionBox(report["settings"].get("region"), grid)
        grade, warnings = str(report["grade"]), [str(text) for text in report["warnings"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'report.json'} is incomplete or damaged.", _REMEDY) from error
    mesh = ResultFiles.readMesh(folder / "bone.vtp", _REMEDY)
    return Result(grid, volume, coverage, mesh, threshold, readXrays(folder / "views.npz"), region, grade, warnings, str(folder))


def readVolume(path: Path) -> tuple[np.ndarray, VoxelGrid]:
    """Return the voxels of a scalar volume, float32 [k, j, i], and where they lie; raises as `ResultFiles.readVolume`."""
    return ResultFiles.readVolume(path, _REMEDY)


def readXrays(path: Path) -> list[ResultXray]:
    """Return the X-rays of `views.npz`.

    Raises:
        InputError: The file is missing, incomplete or damaged.
    """
    return list(XrayFile(path))


class XrayFile(Sequence):
    """The X-rays of `views.npz`, each read when it is asked for; what is asked for raises an InputError where the file is damaged."""

    def __init__(self, path: Path) -> None:
        """Read the geometry."""
        ResultFiles.require(path, _REMEDY)
        self._path = path
        with self._arrays() as arrays:
            self._geometry = {key: arrays[key] for key in _GEOMETRY}
            self.names = [str(name) for name in arrays["name"]]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> ResultXray:
        name = self.names[index]
        with self._arrays() as arrays:
            return _xray(arrays, self._geometry, index, name)

    @contextmanager
    def _arrays(self) -> Iterator[Any]:
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a damaged file open
                yield arrays
        except (OSError, KeyError, IndexError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{self._path} is incomplete or damaged.", _REMEDY) from error


def _xray(arrays, geometry: dict[str, np.ndarray], index: int, name: str) -> ResultXray:
    view = XrayView(**{key: values[index] for key, values in geometry.items()})
    attenuation = arrays[f"attenuation_{index:03d}"].astype(np.float32)
    mask = arrays[f"mask_{index:03d}"].astype(bool)
    if attenuation.shape != view.size_px[::-1] or mask.shape != attenuation.shape:
        raise ValueError(f"{name}: expected {view.size_px[::-1]} pixels, got {attenuation.shape} and {mask.shape}.")
    return ResultXray(name, np.nan_to_num(attenuation), mask, view)


def _regionBox(region: dict[str, Any] | None, grid: VoxelGrid) -> Box:
    if region is None:
        return Box(grid.center_lps_mm, grid.extent_mm, grid.direction)
    values = (np.array(region[key], float) for key in ("center_lps_mm", "extent_mm", "direction"))
    return Box(*values)
