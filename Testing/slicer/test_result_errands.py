"""What the worker is sent on errands with: the voxels lie where it finds them for as long as it may look."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer")

from IntraopReconLib.host.ResultErrands import ResultErrands
from SparseAnatomyLib.errors import ResourceError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.WorkerLogic import Errand

GRID = VoxelGrid((4, 4, 4), np.full(3, 2.0), np.zeros(3))


class Asked:
    """A logic whose worker never gets to it."""

    def __init__(self) -> None:
        self.errands: list[tuple[Errand, Path]] = []

    def ask(self, kind: str, errand: Errand, /, **payload: Any) -> str:
        self.errands.append((errand, Path(payload.get("volume") or payload["out"])))
        return f"{kind} {len(self.errands)}"


@pytest.fixture
def asked():
    return Asked()


@pytest.fixture
def errands(asked):
    result = ResultErrands(asked)
    yield result
    result.close()


def _result(scene, value: float) -> SimpleNamespace:
    """Return as much of a result's nodes as an errand needs."""
    volume = Nodes.volumeNodeFromArray(scene, np.full((4, 4, 4), value, np.float32), GRID, "volume")
    return SimpleNamespace(volume=volume, thresholdPerMm=0.02, resultFolder="")


def _export(errands, nodes) -> list[Any]:
    told: list[Any] = []
    errands.export(nodes, "case", "nrrd", "out", None, Errand(told.append, told.append))
    return told


def test_an_export_that_waits_keeps_its_voxels_when_the_scene_is_closed_and_another_result_comes(headless, asked, errands):
    told = _export(errands, _result(headless.scene, 1.0))
    errands.forget()
    headless.scene.Clear()
    _export(errands, _result(headless.scene, 2.0))
    (first, path), (_, other) = asked.errands
    assert path != other
    assert np.load(path).max() == 1.0
    first.done({"volume": "x"})
    assert told == [{"volume": "x"}]
    assert not path.exists()
    assert np.load(other).max() == 2.0


def test_voxels_are_written_once_and_removed_with_the_last_errand_that_needs_them(headless, asked, errands):
    nodes = _result(headless.scene, 1.0)
    _export(errands, nodes)
    failed = _export(errands, nodes)
    (first, path), (second, same) = asked.errands
    assert path == same
    errands.forget()
    first.done({})
    assert path.exists()
    second.failed(ResourceError("The disk is full.", "Free some space."))
    assert [error.message for error in failed] == ["The disk is full."]
    assert not path.exists()


_BOX = {"center_lps_mm": [0, 0, 0], "extent_mm": [9, 9, 9], "direction": np.eye(3).tolist()}


@pytest.mark.parametrize(
    ("kind", "arguments", "answer"),
    [
        ("compare", (SimpleNamespace(resultFolder=""), "view", "measured"), {}),
        ("device", ("auto",), {"sentence": "On the CPU."}),
        ("cards", (), {}),
        ("region", ("case",), _BOX),
    ],
)
def test_an_answer_is_removed_once_it_is_taken(asked, errands, kind, arguments, answer):
    told: list[Any] = []
    getattr(errands, kind)(*arguments, told.append, told.append)
    errand, path = asked.errands[0]
    path.write_text(json.dumps(answer))
    errand.done({})
    assert len(told) == 1
    assert not any(path.parent.iterdir())


def test_nothing_is_left_when_the_panel_closes(headless, asked, errands):
    _export(errands, _result(headless.scene, 1.0))
    errands.close()
    assert not asked.errands[0][1].parent.exists()
