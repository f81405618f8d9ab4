"""Paths that no file can have, and paths without a folder: a sentence or a file, whatever a user types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import slicer
from fake_worker import FakeWorker

from IntraopReconLib.host.ReconLogic import ReconLogic
from IntraopReconLib.host.ResultFolder import readResult
from ShapeCompletionLib.host.CompletionFolder import readCompletion
from SparseAnatomyLib.errors import InputError, SparseAnatomyError
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene
from SparseAnatomyLib.staging import check_result_folder, write_together

TOO_LONG = "ø" * 300  # more than 255 bytes: what file systems take of a name


def _start(path: Path) -> None:
    ReconLogic(slicer.vtkMRMLScene(), FakeWorker([])).start(path, path / "result")


@pytest.mark.parametrize("read", [readResult, readCompletion, _start])
@pytest.mark.parametrize("name", [TOO_LONG, "a\0b"])
def test_a_path_that_no_folder_can_have_is_a_sentence(read: Callable[[Path], object], name: str):
    with pytest.raises(InputError, match="There is no"):
        read(Path(name))


def test_a_result_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    check_result_folder(tmp_path / TOO_LONG, 1.0)
    with pytest.raises(SparseAnatomyError):
        write_together(tmp_path / TOO_LONG, ["a"], lambda folder: (folder / "a").touch())


def test_a_scene_is_saved_and_loaded_by_a_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    headless = HeadlessScene()
    scene = headless.scene
    scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Points")
    saveScene(scene, Path("scene.mrb"))
    scene.Clear()
    loadScene(scene, Path("scene.mrb"))
    assert scene.GetFirstNodeByName("Points") is not None
