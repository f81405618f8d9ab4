"""The self-test of the module: the same in the Slicer application and in the project's test host, on the sample outlines."""

from __future__ import annotations

import time
from unittest import SkipTest

import slicer

from SparseAnatomyLib.host.Environment import environmentSentence, isReady

from . import Samples
from .CompletionNodes import CompletionNodes
from .ParameterNode import ParameterNode

_PAUSE_S = 0.02


def completeInPanel(widget) -> CompletionNodes:
    """Complete the sample as a user does and return what is in the scene.

    Args:
        widget: The module's widget object.

    Raises:
        SkipTest: Packages are missing, as before the first installation.
    """
    if not isReady():
        raise SkipTest(environmentSentence("completions"))
    Samples.chooseSample(slicer.mrmlScene, Samples.sampleFiles()[0])
    widget.onSceneChanged()
    assert "slices" in widget.ui.foundLabel.text, widget.ui.foundLabel.text
    assert widget.ui.completeButton.enabled, widget.ui.statusLabel.text
    widget.ui.completeButton.click()
    assert widget.ui.completeButton.text == "Cancel", widget.ui.statusLabel.text
    while widget.logic.completion.isRunning:
        slicer.app.processEvents()
        time.sleep(_PAUSE_S)
    assert widget.nodes is not None, widget.ui.statusLabel.text
    shown = widget.nodes.nextSlice.GetDisplayVisibility()
    widget.ui.nextSliceCheckBox.click()
    assert not (shown and widget.nodes.nextSlice.GetDisplayVisibility())
    return widget.nodes


def checkResult(nodes: CompletionNodes) -> None:
    """Check what the completion of the sample has brought into the scene."""
    source = ParameterNode(slicer.mrmlScene).segmentationNode
    surface = nodes.model.GetPolyData()
    assert surface.GetNumberOfPolys() > 1000
    lowest, highest = surface.GetPointData().GetScalars().GetRange()
    assert 0 <= lowest < highest <= 1, (lowest, highest)  # confidence
    assert nodes.probability.GetImageData().GetScalarRange()[1] > 0.9
    whole, outlined = [0.0] * 6, [0.0] * 6
    nodes.model.GetRASBounds(whole)
    source.GetRASBounds(outlined)
    middles = [(bounds[n] + bounds[n + 1]) / 2 for bounds in (whole, outlined) for n in (0, 2, 4)]
    assert all(abs(middles[n] - middles[n + 3]) < 20 for n in range(3)), middles  # mm: it lies where it was outlined
    assert source.GetSegmentation().GetNumberOfSegments() == 1  # what the user draws is left alone


def checkReset(widget) -> None:
    """Close the scene and check that the panel begins anew."""
    slicer.mrmlScene.Clear()
    assert widget.nodes is None
    assert widget.ui.foundLabel.text == ""
    assert not widget.ui.completeButton.enabled
