"""Turn the raw shapes of the data folder into label volumes that `shape-completion train` and `evaluate` take.

    python -m Testing.benchmarks.shapes.prepare DATA OUT

OUT gets a folder for each structure: `vertebra`, `hippocampus`, `pancreas`, `abdomen/ORGAN` and `unseen` (sacrum and pelvis, which no prior
is trained on). Every volume holds label 1 and is as large as its structure and a margin. The patients of the vertebrae are what
VERTEBRA_PATIENTS finds in their names.

Headers of the abdomen and the pancreas have lost which way the axes run. In the abdomen anatomy tells, file by file: the spleen is left of
the liver, the left kidney behind it and below it. Pancreata were held against those of the abdomen in all eight ways: in files with slices
of 1 mm the second and the third axis run backwards, in the others the first and the second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPolyData
from vtkmodules.vtkCommonTransforms import vtkTransform
from vtkmodules.vtkFiltersGeneral import vtkTransformPolyDataFilter
from vtkmodules.vtkImagingStencil import vtkImageStencil, vtkPolyDataToImageStencil
from vtkmodules.vtkIOGeometry import vtkOBJReader
from vtkmodules.vtkIOPLY import vtkPLYReader

from SparseAnatomyLib.errors import InputError

ORGANS = ("spleen", "pancreas", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "duodenum")  # labels 1 to 8
VERTEBRA_PATIENTS = r"verse\d+|visible_human"
SPACING_MM = 1.0
MARGIN_MM = 6.0
# The Visible Human's meshes: metres; x to the front, y to the left, z up.
VISIBLE_HUMAN_LPS_MM = np.array([[0, 1000, 0, 0], [-1000, 0, 0, 0], [0, 0, 1000, 0], [0, 0, 0, 1]], float)
VERSE_LPS_MM = np.eye(4)
_LOST_AXES_THIN, _LOST_AXES_THICK = (1, -1, -1), (-1, -1, 1)  # of the pancreas: whether each axis i, j, k runs as its header says
_THIN_MM = 1.25
_VOLUMES = "*.nii.gz"

Named = tuple[str, SimpleITK.Image]


def prepare(data: Path, out: Path, structures: Sequence[str] | None = None) -> dict[str, list[Path]]:
    """Write the label volumes.

    Args:
        data: The data folder, with `shapes/` in it.
        out: Gets a folder for each structure.
        structures: Of STRUCTURES; all by default.

    Returns:
        The volumes by folder, such as `abdomen/liver`.

    Raises:
        InputError: A folder is missing or holds no shapes.
    """
    written: dict[str, list[Path]] = {}
    for structure in structures or STRUCTURES:
        folder, convert = STRUCTURES[structure]
        source = Path(data) / "shapes" / folder
        if not source.is_dir():
            raise InputError(f"There is no folder {source}.", "Name the data folder with --data or SPARSEANATOMY_DATA.")
        for name, image in convert(source):
            path = Path(out) / f"{name}.nrrd"
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(image, str(path), useCompression=True)
            written.setdefault(path.parent.relative_to(out).as_posix(), []).append(path)
        if not any(name.startswith(structure) for name in written):
            raise InputError(f"{source} holds no shapes of {structure}.", "Copy the data folder again.")
    return written


def read_mesh(path: Path, lps_mm_from_file: np.ndarray) -> vtkPolyData:
    """Read a mesh (.ply, .obj).

    Args:
        path: The file.
        lps_mm_from_file: Maps its points, [4, 4].

    Raises:
        InputError: It holds no surface.
    """
    reader = vtkPLYReader() if path.suffix == ".ply" else vtkOBJReader()
    reader.SetFileName(str(path))
    transform = vtkTransform()
    transform.SetMatrix(lps_mm_from_file.ravel().tolist())
    moved = vtkTransformPolyDataFilter()
    moved.SetTransform(transform)
    moved.SetInputConnection(reader.GetOutputPort())
    moved.Update()
    if moved.GetOutput().GetNumberOfPolys() == 0:
        raise InputError(f"{path} holds no surface.", "Copy the data folder again.")
    return moved.GetOutput()


def voxelized(mesh: vtkPolyData, spacing_mm: float = SPACING_MM) -> SimpleITK.Image:
    """Return the voxels whose centers lie inside a closed surface, with a margin, uint8.

    Args:
        mesh: LPS mm.
        spacing_mm: Of the isotropic voxels along the patient's axes.
    """
    bounds = np.array(mesh.GetBounds()).reshape(3, 2)
    origin = np.floor(bounds[:, 0] - MARGIN_MM)
    size = np.ceil((bounds[:, 1] + MARGIN_MM - origin) / spacing_mm).astype(int)
    solid = vtkImageData()
    solid.SetDimensions(*size.tolist())
    solid.SetSpacing(*[spacing_mm] * 3)
    solid.SetOrigin(*origin.tolist())
    solid.AllocateScalars(3, 1)  # VTK_UNSIGNED_CHAR
    solid.GetPointData().GetScalars().Fill(1)
    stencil = vtkPolyDataToImageStencil()
    stencil.SetInputData(mesh)
    stencil.SetOutputOrigin(*origin.tolist())
    stencil.SetOutputSpacing(*[spacing_mm] * 3)
    stencil.SetOutputWholeExtent(solid.GetExtent())
    cut = vtkImageStencil()
    cut.SetInputData(solid)
    cut.SetStencilConnection(stencil.GetOutputPort())
    cut.SetBackgroundValue(0)
    cut.Update()
    array = vtk_to_numpy(cut.GetOutput().GetPointData().GetScalars()).reshape(size[::-1])
    return _image(array, [spacing_mm] * 3, origin.tolist())


def abdomen_axes(labels: np.ndarray, spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    """Return for each axis i, j, k whether it runs left, posterior, superior (1) or the other way (-1), by where the organs lie.

    Args:
        labels: [k, j, i], organs by their place in ORGANS, counted from 1.
        spacing_mm: Along i, j, k.

    Raises:
        InputError: Spleen, left kidney or liver is missing.
    """
    centers = {}
    for name in ("spleen", "left_kidney", "liver"):
        inside = np.argwhere(labels == 1 + ORGANS.index(name))
        if not len(inside):
            raise InputError(f"The abdomen holds no {name}, so nobody can tell which way its axes run.", "Take the file out.")
        centers[name] = inside.mean(0)[::-1] * spacing_mm
    left = centers["spleen"] - centers["liver"]
    behind = centers["left_kidney"] - centers["liver"]
    return int(np.sign(left[0])), int(np.sign(behind[1])), -int(np.sign(behind[2]))


def _vertebrae(source: Path) -> Iterator[Named]:
    for path in sorted(source.glob("sub-*.ply")):
        yield f"vertebra/{path.stem.removeprefix('sub-').replace('segment_', '')}", voxelized(read_mesh(path, VERSE_LPS_MM))
    for path in sorted(source.glob("visible_human_L*.obj")):
        yield f"vertebra/{path.stem}", voxelized(read_mesh(path, VISIBLE_HUMAN_LPS_MM))
    for path in sorted(source.glob(_VOLUMES)):
        yield f"vertebra/{_stem(path)}", _cropped(SimpleITK.ReadImage(str(path)) > 0)


def _unseen(source: Path) -> Iterator[Named]:
    for name in ("S1", "Pelvis"):
        for path in source.glob(f"visible_human_{name}.obj"):
            yield f"unseen/{path.stem}", voxelized(read_mesh(path, VISIBLE_HUMAN_LPS_MM))


def _hippocampi(source: Path) -> Iterator[Named]:
    for path in sorted(source.glob(_VOLUMES)):
        yield f"hippocampus/{_stem(path)}", _cropped(SimpleITK.ReadImage(str(path)) > 0)


def _pancreata(source: Path) -> Iterator[Named]:
    for path in sorted(source.glob(_VOLUMES)):
        image = SimpleITK.ReadImage(str(path))
        axes = _LOST_AXES_THIN if image.GetSpacing()[2] < _THIN_MM else _LOST_AXES_THICK
        yield f"pancreas/{_stem(path)}", _cropped(_reoriented(SimpleITK.GetArrayFromImage(image) > 0, image, axes))


def _organs(source: Path) -> Iterator[Named]:
    for path in sorted(source.glob(_VOLUMES)):
        image = SimpleITK.ReadImage(str(path))
        labels = SimpleITK.GetArrayFromImage(image)
        axes = abdomen_axes(labels, image.GetSpacing())
        for number, organ in enumerate(ORGANS, 1):
            if (labels == number).any():
                yield f"abdomen/{organ}/{_stem(path)}", _cropped(_reoriented(labels == number, image, axes))


STRUCTURES: dict[str, tuple[str, Callable[[Path], Iterator[Named]]]] = {
    "vertebra": ("vertebra", _vertebrae),
    "unseen": ("vertebra", _unseen),
    "hippocampus": ("hippocampus", _hippocampi),
    "pancreas": ("pancreas", _pancreata),
    "abdomen": ("abdomen", _organs),
}


def _reoriented(mask: np.ndarray, image: SimpleITK.Image, axes: Sequence[int]) -> SimpleITK.Image:
    """Return a mask [k, j, i] along the patient's axes, where `axes` says which of i, j, k run the other way in the file."""
    return _image(mask[:: axes[2], :: axes[1], :: axes[0]], image.GetSpacing(), [0.0, 0.0, 0.0])


def _cropped(image: SimpleITK.Image) -> SimpleITK.Image:
    """Return the structure and a margin."""
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.Execute(SimpleITK.Cast(image, SimpleITK.sitkUInt8))
    box = statistics.GetBoundingBox(1)
    margin = [int(np.ceil(MARGIN_MM / spacing)) for spacing in image.GetSpacing()]
    return SimpleITK.ConstantPad(SimpleITK.RegionOfInterest(image, box[3:], box[:3]), margin, margin, 0)


def _image(array: np.ndarray, spacing_mm: Sequence[float], origin_lps_mm: Sequence[float]) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array, np.uint8))
    image.SetSpacing([float(x) for x in spacing_mm])
    image.SetOrigin([float(x) for x in origin_lps_mm])
    return image


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def main(arguments: Sequence[str]) -> int:
    """Prepare what the command line names; return 2 where the data are not there."""
    if len(arguments) != 2:
        print("Usage: python -m Testing.benchmarks.shapes.prepare DATA OUT", file=sys.stderr)
        return 2
    try:
        for folder, paths in prepare(Path(arguments[0]), Path(arguments[1])).items():
            print(f"{folder:24s} {len(paths)}")
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
