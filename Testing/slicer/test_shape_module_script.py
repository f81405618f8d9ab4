"""ShapeCompletion.py in the test host: metadata, samples, and a panel that does what its widgets say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer")

import slicer
from fake_worker import FakeWorker
from module_panels import choices, load_modules, used_widgets, widgets
from small_completion import SLICE_INDICES, grid_of_ct, outlined_labels, write_completion
from small_scene import write_nrrd
from Testing.host.desktop import desktop
from Testing.host.hands import wait_until

from ShapeCompletionLib.core.config import METHODS
from ShapeCompletionLib.host import Samples
from ShapeCompletionLib.host.CompletionFolder import readCompletion
from ShapeCompletionLib.host.Outlines import addOutlines, readOutline
from ShapeCompletionLib.host.ParameterNode import ParameterNode
from ShapeCompletionLib.host.Sentences import doneSentence, foundSentence
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene

NAME = "ShapeCompletion"


@pytest.fixture(scope="module")
def running(repository: Path):
    with desktop() as running:
        load_modules(repository, running)
        running.main_window.show()
        yield running


@pytest.fixture
def script(running):
    """Return the module script, as Slicer has imported it."""
    return sys.modules[NAME]


def test_metadata(running):
    module = slicer.modules.shapecompletion
    assert module.title == "Shape Completion"
    assert module.categories == ("SparseAnatomy",)
    assert module.dependencies == ("IntraopRecon",)
    assert "Research use only, not a medical device" in module.helpText
    assert "Research use only, not a medical device" in module.acknowledgementText


def test_the_four_classes_that_slicer_looks_for(script):
    for suffix in ("", "Widget", "Logic", "Test"):
        assert f"ScriptedLoadableModule{suffix}" in [base.__name__ for base in getattr(script, f"{NAME}{suffix}").__mro__]


def test_the_panel_has_every_widget_that_the_script_uses(repository: Path):
    used = used_widgets(repository, NAME)
    assert used
    assert used <= set(widgets(repository, NAME))
    assert choices(widgets(repository, NAME)["methodComboBox"]) == METHODS
    assert "not a medical device" in widgets(repository, NAME)["noticeLabel"].findtext("property/string")


# Samples


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    write_nrrd(tmp_path / "vertebra_slices.nrrd", outlined_labels(grid_of_ct()), grid_of_ct())
    return tmp_path / "vertebra_slices.nrrd"


def test_sample_data_are_the_bundled_outlines(script, running, monkeypatch, sample):
    import SampleData

    monkeypatch.setattr(Samples, "sampleFiles", lambda: [sample])
    script.registerSampleData()
    source = SampleData.SampleDataLogic.sources["ShapeCompletionVertebraSlices"]
    assert Path(source.thumbnailFileName).is_file()
    source.customDownloader(source)
    assert slicer.util.selectedModule() == NAME
    assert running.widget(NAME).ui.foundLabel.text == "5 axial slices, 8 mm apart"
    running.scene.Clear()


def test_a_sample_is_loaded_and_chosen(sample):
    headless = HeadlessScene()
    Samples.chooseSample(headless.scene, sample)
    parameters = ParameterNode(headless.scene)
    node = parameters.segmentationNode
    assert node.GetName() == "Vertebra slices"
    assert node.GetSegmentation().GetSegment(parameters.settings.segmentId).GetName() == "Vertebra"
    assert (readOutline(node, parameters.settings.segmentId).labels == outlined_labels(grid_of_ct())).all()


def test_samples_that_are_not_there_are_one_sentence(monkeypatch, tmp_path, sample):
    scene = HeadlessScene().scene
    with pytest.raises(InputError, match="missing"):
        Samples.loadSample(scene, tmp_path / "gone.nrrd")
    write_nrrd(sample, 0 * outlined_labels(grid_of_ct()), grid_of_ct())
    with pytest.raises(InputError, match="Nothing is outlined"):
        Samples.loadSample(scene, sample)
    monkeypatch.setattr(Samples, "sampleFiles", list)
    with pytest.raises(InputError, match="not installed"):
        Samples.loadSample(scene)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


# Words


def test_what_the_panel_says(tmp_path):
    shape = readCompletion(write_completion(tmp_path / "inr"))
    assert doneSentence(shape) == ("Done in 0.1 s, from what was learned of the anatomy (vertebra). The prior explains the slices.")
    plain = readCompletion(write_completion(tmp_path / "plain", method="interpolate", prior=None, reason="As you asked."))
    assert doneSentence(plain) == "Done in 0.1 s, by interpolation between the slices. As you asked."
    node, segmentId = addOutlines(HeadlessScene().scene, outlined_labels(grid_of_ct()), grid_of_ct(), "spine", "L3")
    assert foundSentence(node, segmentId) == "5 axial slices, 8 mm apart"
    assert foundSentence(None, "") == ""
    node.GetSegmentation().AddEmptySegment("empty", "empty")
    assert foundSentence(node, "empty")


# The panel


@pytest.fixture
def panel(running, monkeypatch, tmp_path):
    """Return the widget object at work on a scene with outlines, with a worker that says what a test has laid ready."""
    slicer.util.selectModule(NAME)
    panel = running.widget(NAME)
    panel.worker = FakeWorker([])
    completion = panel.logic.completion
    completion.close()
    monkeypatch.setattr(completion, "_makeWorker", panel.worker)
    node, segmentId = addOutlines(running.scene, outlined_labels(grid_of_ct()), grid_of_ct(), "spine", "L3")
    panel.ui.segmentSelector.setCurrentNode(node)
    panel.ui.segmentSelector.setCurrentSegmentID(segmentId)
    panel.windows = running.answers.shown
    folder = write_completion(tmp_path / "result")
    panel.answer = {"event": "result", "paths": {"shape": str(folder / "shape.nrrd")}}
    yield panel
    panel.ui.liveCheckBox.checked = False
    completion.close()
    running.scene.Clear()
    running.answers.shown.clear()


def test_the_panel_says_what_is_outlined_and_completes_it(panel):
    assert panel.ui.foundLabel.text == "5 axial slices, 8 mm apart"
    assert panel.ui.completeButton.enabled
    panel.onCompleteOrCancel()
    assert panel.ui.completeButton.text == "Cancel"
    assert panel.ui.progressBar.visible
    panel.worker.events = [{"event": "progress", "fraction": 0.5, "message": "One step"}, panel.answer]
    panel.logic.completion.poll()
    assert (panel.ui.progressBar.value, panel.ui.statusLabel.text) == (50, "One step")
    while panel.logic.completion.isRunning:  # the result comes in steps
        panel.logic.completion.poll()
    assert panel.ui.completeButton.text == "Complete"
    assert panel.ui.statusLabel.text.startswith("Done in 0.1 s")
    assert panel.ui.warningsLabel.text == "The outline touches the edge of the volume."
    assert panel.nodes.nextSlice.GetDisplayVisibility()
    panel.ui.nextSliceCheckBox.click()
    assert not panel.nodes.nextSlice.GetDisplayVisibility()
    assert not panel.parameters.settings.showNextSlice


def test_cancel_and_failures(panel):
    panel.onCompleteOrCancel()
    panel.onCompleteOrCancel()
    panel.logic.completion.poll()
    assert panel.ui.statusLabel.text == "Cancelled."
    assert panel.windows == []
    panel.onCompleteOrCancel()
    panel.worker.events = [{"event": "failure", "kind": "input", "message": "One slice.", "remedy": "Outline another."}]
    panel.logic.completion.poll()
    assert panel.ui.statusLabel.text == "One slice. Outline another."
    assert panel.windows == []  # it is said in the panel
    assert panel.ui.copyDetailsButton.visible


def test_the_panel_says_which_slices_are_being_completed(panel):
    node, segmentId = panel.parameters.segmentationNode, panel.parameters.settings.segmentId
    panel.ui.liveCheckBox.checked = True
    panel.logic.completion.poll()
    assert panel.ui.foundLabel.text == "5 axial slices, 8 mm apart"
    panel.worker.events = [{"event": "failure", "kind": "input", "message": "No.", "remedy": ""}]
    panel.logic.completion.poll()
    labels = outlined_labels(grid_of_ct())
    labels[SLICE_INDICES[-1]] = 0  # the eraser takes a slice
    labelmap = node.GetSegmentation().GetSegment(segmentId).GetRepresentation("Binary labelmap")
    labelmap.DeepCopy(Nodes.labelmapFromArray(labels, grid_of_ct()))
    labelmap.Modified()
    wait_until(lambda: len(panel.worker.requests) == 2)
    assert panel.ui.foundLabel.text == "4 axial slices, 8 mm apart"  # before the shape comes
    panel.worker.events = [{"event": "failure", "kind": "input", "message": "No.", "remedy": ""}]
    panel.logic.completion.poll()
    labelmap.DeepCopy(Nodes.labelmapFromArray(0 * labels, grid_of_ct()))
    labelmap.Modified()
    wait_until(lambda: panel.ui.foundLabel.text.startswith("Nothing is outlined"))
    assert len(panel.worker.requests) == 2


def test_live_follows_the_choice_and_shows_no_window(panel):
    panel.ui.liveCheckBox.checked = True
    assert panel.logic.completion.isLive
    assert not panel.ui.completeButton.enabled
    panel.logic.completion.poll()
    panel.worker.events = [{"event": "failure", "kind": "input", "message": "One slice.", "remedy": "Outline another."}]
    panel.logic.completion.poll()
    assert panel.windows == []
    assert panel.ui.statusLabel.text == "One slice. Outline another."
    panel.ui.methodComboBox.setCurrentText("interpolate")
    panel.logic.completion.poll()
    assert panel.worker.requests[-1][1]["config"]["method"] == "interpolate"
    panel.ui.liveCheckBox.checked = False
    assert not panel.logic.completion.isLive
