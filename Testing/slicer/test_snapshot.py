"""Off-screen pictures: the anatomy is on the right side, large, and nothing of the pictures stays in the scene."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer")

from PIL import Image
from small_scene import BALLS, CENTER_LPS_MM, write_result_folder
from vtk.util.numpy_support import vtk_to_numpy

from IntraopReconLib.host import Snapshot
from IntraopReconLib.host.ReconLogic import ReconLogic
from IntraopReconLib.host.ResultNodes import UNKNOWN_COLOR
from IntraopReconLib.host.Snapshot import pictureResult, pictureScene
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host import Snapshot as Drawing
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SliceViews import FRAME
from SparseAnatomyLib.host.Snapshot import PictureSize

TITLES = ["Bone", "Bone with X-ray setup", "Axial slice", "Coronal slice", "Sagittal slice"]
SIZE = PictureSize((400, 300), 300)

needs_opengl = pytest.mark.skipif(bool(Drawing.offscreenProblem()), reason=Drawing.offscreenProblem() or "can draw")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, np.ndarray]:
    """Return the pictures of the balls as RGB [row, column, 3]."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = pictureResult(write_result_folder(folder / "balls"), folder / "out", SIZE)
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(path.name for path in paths.values())
    return {title: np.asarray(Image.open(path).convert("RGB"), float) for title, path in paths.items()}


@needs_opengl
def test_all_pictures_are_there_in_their_sizes(pictures):
    assert list(pictures) == TITLES
    assert {pictures[title].shape for title in TITLES[:2]} == {(300, 400, 3)}
    assert {pictures[title].shape for title in TITLES[2:]} == {(300, 300, 3)}


def _slice(tmp_path: Path, orientation: str, edge_mm: float) -> np.ndarray:
    """Return the slice through CENTER_LPS_MM, RGB [row, column, 3] from the top, that shows a cube of this edge and its margin."""
    headless = HeadlessScene()
    nodes = ReconLogic(headless.scene).loadResult(write_result_folder(tmp_path / "balls"))
    cube = Nodes.rasFromLps(CENTER_LPS_MM + edge_mm / 2 * np.array([[-1, -1, -1], [1, 1, 1]]))
    image = Snapshot._slicePicture(headless, nodes, orientation, cube, 300)
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(300, 300, 3)[::-1].astype(float)


@needs_opengl
@pytest.mark.parametrize(
    ("orientation", "balls"),
    [  # where Slicer shows them: columns to the right, rows down, mm from the middle
        ("Axial", {"left": (22, 0), "posterior": (0, 18)}),
        ("Coronal", {"left": (22, 0), "superior": (0, -26)}),
        ("Sagittal", {"posterior": (18, 0), "superior": (0, -26)}),
    ],
)
def test_slices_are_in_radiological_convention(tmp_path, orientation: str, balls: dict[str, tuple[float, float]]):
    picture = _slice(tmp_path, orientation, 80.0)
    px_per_mm = 300 / (80.0 * FRAME)
    rows, columns = np.nonzero((picture.min(-1) > 140) & (np.ptp(picture, axis=-1) < 12))
    x, y = (columns - 149.5) / px_per_mm, (rows - 149.5) / px_per_mm
    for name, (right, down) in balls.items():
        near = np.hypot(x - right, y - down) < BALLS[name][1] + 1
        assert near.sum() > 30 * px_per_mm
        assert x[near].mean() == pytest.approx(right, abs=0.8)
        assert y[near].mean() == pytest.approx(down, abs=0.8)
    radius = max(BALLS[name][1] for name in balls)
    assert not any(np.hypot(x + right, y + down).min() < radius / 2 for right, down in balls.values())  # nothing at the mirrored places


@needs_opengl
def test_bone_fills_the_picture_and_is_not_clipped(pictures):
    picture = pictures["Bone"]
    bone = (picture[..., 0] - picture[..., 2]) > 12  # ivory on blue
    rows, columns = np.nonzero(bone)
    assert rows.min() > 4
    assert columns.min() > 4
    assert rows.max() < 295
    assert columns.max() < 395
    assert max(np.ptp(rows) / 300, np.ptp(columns) / 400) > 0.8


@needs_opengl
def test_left_is_right_and_up_is_up_in_3d(pictures):
    """From the front, the left ball is at the right; the superior ball, smaller, is on top and left of it."""
    picture = pictures["Bone"]
    rows, columns = np.nonzero((picture[..., 0] - picture[..., 2]) > 12)
    top, right = columns[rows < rows.min() + 20].mean(), rows[columns > columns.max() - 20].mean()
    assert top < columns.max() - 100
    assert right > rows.min() + 60


@needs_opengl
def test_setup_shows_planes_with_bright_bone_and_sources(pictures):
    picture = pictures["Bone with X-ray setup"]
    assert (picture.max(-1) < 12).sum() > 1000  # the open field of an X-ray
    assert ((picture[..., 0] - picture[..., 2]) > 60).sum() > 20  # sources and frusta
    assert (picture.min(-1) > 200).sum() > 20  # bone in the X-rays


@needs_opengl
def test_unknown_is_painted_and_known_air_is_not(tmp_path):
    picture = _slice(tmp_path, "Axial", 110.0)
    unknown = np.abs(picture - np.array(UNKNOWN_COLOR) * 255).max(-1) < 4
    _rows, columns = np.nonzero(unknown)
    assert 0.01 < unknown.mean() < 0.2
    assert columns.mean() < 100  # the first voxels along i, which points mostly to the patient's left
    assert (picture.max(-1) < 4).mean() > 0.2


@needs_opengl
def test_pictures_leave_the_scene_as_it_was(tmp_path):
    headless = HeadlessScene()
    nodes = ReconLogic(headless.scene).loadResult(write_result_folder(tmp_path / "balls"))
    before = [headless.scene.GetNthNode(n).GetID() for n in range(headless.scene.GetNumberOfNodes())]
    first = pictureScene(headless, nodes, tmp_path / "first", SIZE)
    assert [headless.scene.GetNthNode(n).GetID() for n in range(headless.scene.GetNumberOfNodes())] == before
    assert not any(node.GetDisplayVisibility() for node in nodes.xrays.planes)
    second = pictureScene(headless, nodes, tmp_path / "second", SIZE)
    for title in TITLES:
        assert first[title].read_bytes() == second[title].read_bytes(), title


@needs_opengl
def test_a_result_without_bone_is_drawn(tmp_path):
    paths = pictureResult(write_result_folder(tmp_path / "air", with_bone=False), tmp_path / "out", SIZE)
    assert list(paths) == TITLES


@needs_opengl
def test_bone_preset_draws_bone(tmp_path):
    headless = HeadlessScene()
    nodes = ReconLogic(headless.scene).loadResult(write_result_folder(tmp_path / "balls"))
    nodes.bone.GetDisplayNode().SetVisibility(False)
    nodes.volumeRendering.SetVisibility(True)
    paths = pictureScene(headless, nodes, tmp_path / "out", SIZE)
    picture = np.asarray(Image.open(paths["Bone"]).convert("RGB"), float)
    assert 0.01 < ((picture[..., 0] - picture[..., 2]) > 12).mean() < 0.6


def test_no_opengl_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(Drawing, "_PROBE", "raise SystemExit(1)")
    Drawing._probe.cache_clear()
    try:
        with pytest.raises(ResourceError, match="no off-screen OpenGL") as caught:
            pictureResult(write_result_folder(tmp_path / "balls"), tmp_path / "out")
    finally:
        Drawing._probe.cache_clear()
    assert "libosmesa6" in caught.value.remedy
    assert not (tmp_path / "out").exists()


@needs_opengl
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ResourceError, match="could not be written"):
        pictureResult(write_result_folder(tmp_path / "balls"), tmp_path / "out", SIZE)


def test_a_missing_result_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no result folder"):
        pictureResult(tmp_path / "nowhere", tmp_path / "out")


def test_importing_the_host_imports_no_torch(repository: Path):
    program = (
        f"import sys; sys.path.insert(0, {str(repository / 'IntraopRecon')!r})\n"
        "import IntraopReconLib.host.Snapshot, IntraopReconLib.host.ReconLogic, IntraopReconLib.host.ParameterNode\n"
        "import SparseAnatomyLib.host.Environment\n"
        "assert SparseAnatomyLib.host.Environment.environmentSentence()\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'skimage'} & set(sys.modules)\n"
        "raise SystemExit(', '.join(heavy) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
