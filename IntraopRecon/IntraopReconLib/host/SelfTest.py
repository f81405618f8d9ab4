"""The self-test of the module: the same in the Slicer application and in the project's test host, on the sample case."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

import slicer

from IntraopReconLib.demo import sample_case
from SparseAnatomyLib.host.Environment import environmentSentence, isReady

from .ParameterNode import ParameterNode
from .ResultNodes import ResultNodes

CASE = "lumbar"
_PAUSE_S, _PATIENCE_S = 0.02, 600.0


def reconstructInPanel(widget, resultFolder: Path) -> ResultNodes:
    """Reconstruct the sample case as a user does, quickly, and return what is in the scene.

    Args:
        widget: The module's widget object.
        resultFolder: Where the result goes.

    Raises:
        SkipTest: Packages are missing, as before the first installation.
    """
    if not isReady():
        raise SkipTest(environmentSentence())
    ParameterNode(slicer.mrmlScene).update(caseFolder=str(sample_case(CASE)), resultFolder=str(resultFolder))
    widget.onSceneChanged()
    _wait(lambda: widget.panel.prepared is not None)
    assert widget.ui.viewsTable.rowCount == len(list((sample_case(CASE) / "xrays").iterdir())), widget.ui.statusLabel.text
    widget.ui.qualityComboBox.setCurrentText("preview")
    widget.ui.methodComboBox.setCurrentText("voxel")
    assert widget.ui.reconstructButton.enabled, widget.ui.statusLabel.text
    widget.ui.reconstructButton.click()
    assert widget.ui.reconstructButton.text == "Cancel", widget.ui.statusLabel.text
    _wait(lambda: not widget.logic.recon.isRunning)
    assert widget.nodes is not None, widget.ui.statusLabel.text
    widget.ui.showXraysCheckBox.click()
    assert all(node.GetDisplayVisibility() for node in widget.nodes.xrays.planes)
    return widget.nodes


def _wait(isSo: Callable[[], bool]) -> None:
    """Let the application go on until something is so."""
    until = time.monotonic() + _PATIENCE_S
    while not isSo():
        assert time.monotonic() < until, "waited too long"
        slicer.app.processEvents()
        time.sleep(_PAUSE_S)


def checkResult(nodes: ResultNodes) -> None:
    """Check what a reconstruction of the sample case has brought into the scene."""
    volume, image = nodes.volume, nodes.volume.GetImageData()
    assert image is not None
    lowest, highest = image.GetScalarRange()
    assert lowest >= 0, lowest
    assert 0.01 < highest < 1, highest  # attenuation of bone per mm
    assert nodes.bone.GetPolyData().GetNumberOfPolys() > 1000
    assert nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert nodes.grade in ("good", "poor"), nodes.grade
    count = len(list((sample_case(CASE) / "xrays").iterdir()))
    assert len(nodes.xrays.planes) == len(nodes.xrays.images) == count
    bounds, inner = [0.0] * 6, [0.0] * 6
    volume.GetRASBounds(bounds)
    nodes.bone.GetRASBounds(inner)
    assert all(bounds[n] <= inner[n] and inner[n + 1] <= bounds[n + 1] for n in (0, 2, 4)), (bounds, inner)


def checkReset(widget) -> None:
    """Close the scene and check that the panel begins anew."""
    slicer.mrmlScene.Clear()
    assert widget.nodes is None
    assert widget.ui.caseFolderPath.currentPath == "", widget.ui.caseFolderPath.currentPath
    assert not widget.ui.reconstructButton.enabled
    assert not widget.ui.showXraysCheckBox.enabled
