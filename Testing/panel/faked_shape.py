"""ShapeCompletion's panel on outlines, with a worker that says what a test has laid ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from fake_worker import FakeWorker
from small_completion import grid_of_ct, outlined_labels, write_completion
from Testing.host.hands import click, wait_until

from ShapeCompletionLib.host.Outlines import addOutlines
from SparseAnatomyLib.host import Nodes

NAME = "ShapeCompletion"
_FORMAT = "SparseAnatomy shape report"


@contextmanager
def faked_shape(running: Any, folder: Path) -> Iterator[Any]:
    """Give the open panel, its segment chosen; `panel.worker` is the worker, `panel.folder` the folder of its answers."""
    slicer.util.selectModule(NAME)
    panel = running.widget(NAME)
    completion, panel.worker, panel.folder = panel.logic.completion, FakeWorker([]), folder
    completion.close()
    real, completion._makeWorker = completion._makeWorker, panel.worker
    try:
        panel.onSceneChanged()
        node, segmentId = addOutlines(running.scene, outlined_labels(grid_of_ct()), grid_of_ct(), "spine", "L3")
        panel.ui.segmentSelector.setCurrentNode(node)
        panel.ui.segmentSelector.setCurrentSegmentID(segmentId)
        write_completion(folder, format=_FORMAT)
        yield panel
    finally:
        completion.close()
        completion._makeWorker = real
        panel.ui.aboutButton.collapsed = panel.ui.advancedButton.collapsed = True


def answer(panel: Any, **changes: Any) -> None:
    """Let the worker answer, and wait until the result is in the scene; its report may say something else."""
    write_completion(panel.folder, **{"format": _FORMAT, **changes})
    panel.worker.events = [{"event": "result", "paths": {"shape": str(panel.folder / "shape.nrrd")}}]
    wait_until(lambda: not panel.logic.completion.isRunning, 20)


def complete(panel: Any, **changes: Any) -> None:
    """Click Complete and wait for the answer."""
    click(panel.ui.completeButton)
    answer(panel, **changes)
    assert panel.ui.statusLabel.text.startswith("Done in")


def draw(panel: Any, index: int, inside: bool) -> np.ndarray:
    """Outline a slice or erase it, in the way of the Segment Editor at the end of a stroke; return the labels."""
    node, segmentId = panel.parameters.segmentationNode, panel.parameters.settings.segmentId
    labels, grid = Nodes.labelsFromSegmentationNode(node, segmentId)
    labels[index] = 0
    labels[index, 14:22, 16:24] = inside
    assert slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(Nodes.labelmapFromArray(labels, grid), node, segmentId)
    return labels
