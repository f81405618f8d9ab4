"""Step 5 of IntraopRecon's panel by mouse and keyboard: threshold, coverage, comparison, report, saving, and coming back with a scene."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
import slicer
from small_case import VIEWS, make_small_case
from Testing.host.hands import OutOfReach, choose, click, slide, wait_until, watch_blocks, write
from Testing.host.values import unwrap
from vtk.util.numpy_support import vtk_to_numpy

from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.xrays.simulate import WATER_PER_MM
from IntraopReconLib.host.CoarseBone import CoarseBone
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene
from SparseAnatomyLib.mesh import mesh_from_field

NAME = "IntraopRecon"
RUN_S = 200
CONFIG = ReconstructionConfig(method="voxel", quality="preview", spacing_mm=2.0)
WIDGETS = ("thresholdSlider", "chosenThresholdButton", "coverageCheckBox", "comparisonViewComboBox", "reportButton", "saveButton")


@pytest.fixture(scope="module")
def made(slicer_with_modules, tmp_path_factory) -> Path:
    """Return a case folder with its result, made once by the logic of the console."""
    case = make_small_case(tmp_path_factory.mktemp("result"))
    slicer.util.getModuleLogic(NAME).reconstruct(case, case / "result", CONFIG)
    slicer_with_modules.scene.Clear()
    return case


@pytest.fixture
def panel(running, made, tmp_path):
    """Return the open panel with a result, its step open."""
    slicer.util.selectModule(NAME)
    panel = running.widget(NAME)
    panel.case = shutil.copytree(made, tmp_path / "ball")
    nodes = panel.logic.recon.loadResult(panel.case / "result")
    panel.parameters.resultNode = nodes.volume
    panel.parameters.update(resultFolder=str(panel.case / "result"))
    panel.onSceneChanged()
    if panel.ui.resultButton.collapsed:
        click(panel.ui.resultButton)
    yield panel
    wait_until(lambda: not panel.logic.recon._errands, RUN_S)
    click(panel.ui.xraysButton)


def settle(panel) -> None:
    """Wait until the surface is that of the slider."""
    wait_until(lambda: panel.panel.error or panel.nodes.thresholdPerMm == pytest.approx(panel.ui.thresholdSlider.value), RUN_S)
    assert panel.panel.error is None


def is_usable(widget) -> bool:
    return unwrap(widget).isEnabled()


def test_without_a_result_nothing_can_be_done(panel, running):
    running.scene.Clear()
    for name in WIDGETS:
        assert not is_usable(getattr(panel.ui, name))
        assert "no result yet" in getattr(panel.ui, name).toolTip
    assert panel.nodes is None


def test_a_result_that_is_taken_away_is_let_go(panel, running):
    assert is_usable(panel.ui.thresholdSlider)
    running.scene.RemoveNode(panel.nodes.bone)
    assert panel.nodes is None
    assert not is_usable(panel.ui.thresholdSlider)


def test_the_surface_follows_the_threshold(panel):
    chosen = panel.nodes.chosenPerMm
    assert panel.ui.thresholdSlider.value == pytest.approx(chosen, abs=1e-4)
    before = Nodes.meshFromModelNode(panel.nodes.bone).volume_mm3
    points = panel.nodes.bone.GetPolyData().GetNumberOfPoints()
    slide(panel.ui.thresholdSlider, 3)
    assert 30 < panel.nodes.bone.GetPolyData().GetNumberOfPoints() < points / 2  # coarse, before the worker has answered
    assert panel.nodes.thresholdPerMm == chosen
    with watch_blocks() as blocks:
        settle(panel)
    print(f"GUI thread: computed {blocks.cpu_ms:.0f} ms at a stretch")
    assert panel.nodes.thresholdPerMm > chosen
    volume, grid = Nodes.arrayFromVolumeNode(panel.nodes.volume)
    expected = mesh_from_field(volume, grid, panel.nodes.thresholdPerMm, 100.0)
    fine = Nodes.meshFromModelNode(panel.nodes.bone)
    np.testing.assert_allclose(fine.points_lps_mm, expected.points_lps_mm, atol=1e-3)
    assert fine.volume_mm3 < before
    segmentation = panel.nodes.segmentation
    labels, _ = Nodes.labelsFromSegmentationNode(segmentation, segmentation.GetSegmentation().GetNthSegmentID(0))
    np.testing.assert_array_equal(labels, volume > np.float32(panel.nodes.thresholdPerMm))
    click(panel.ui.chosenThresholdButton)
    settle(panel)
    assert Nodes.meshFromModelNode(panel.nodes.bone).volume_mm3 == pytest.approx(before, rel=0.01)


def test_only_the_last_threshold_of_many_is_computed_finely(panel):
    asked = []
    errands = panel.panel.errands
    original = errands.bone
    errands.bone = lambda nodes, value, *rest: (asked.append(value), original(nodes, value, *rest))
    try:
        slide(panel.ui.thresholdSlider, 25)
        settle(panel)
    finally:
        errands.bone = original
    assert 1 <= len(asked) <= 3
    assert asked[-1] == pytest.approx(panel.ui.thresholdSlider.value)


def test_a_coarse_surface_lies_on_the_fine_one_and_is_cheap(panel):
    coarse = CoarseBone(panel.nodes.volume)
    coarse.surface(panel.nodes.chosenPerMm)
    start = time.thread_time()
    surface = coarse.surface(panel.nodes.chosenPerMm)
    assert time.thread_time() - start < 0.1
    points = vtk_to_numpy(surface.GetPoints().GetData())
    fine = Nodes.meshFromModelNode(panel.nodes.bone).points_lps_mm
    np.testing.assert_allclose(points.min(0), fine.min(0), atol=2.5)  # a coarse voxel has 4 mm
    np.testing.assert_allclose(points.max(0), fine.max(0), atol=2.5)


def test_coverage_comes_and_goes_in_the_slices(panel, running):
    composite = running.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetForegroundVolumeID() == panel.nodes.coverage.GetID()
    click(panel.ui.coverageCheckBox)
    assert composite.GetForegroundVolumeID() is None
    assert composite.GetBackgroundVolumeID() == panel.nodes.volume.GetID()
    click(panel.ui.coverageCheckBox)
    assert composite.GetForegroundVolumeID() == panel.nodes.coverage.GetID()


def test_an_xray_is_compared_with_the_volume(panel):
    images = []
    picture = panel.sections[4]._picture
    original = picture.show

    def show(path, size=(1, 1)):
        if path:  # it is there now, but not for long
            images.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
        original(path, size)

    picture.show = show
    try:
        assert unwrap(panel.ui.comparisonViewComboBox).count() == VIEWS
        for kind in ("Measured", "Reprojected", "Difference"):
            choose(panel.ui.comparisonKindComboBox, kind)
        choose(panel.ui.comparisonViewComboBox, "view_003")
        wait_until(lambda: not panel.logic.recon._errands, RUN_S)
    finally:
        picture.show = original
    assert panel.parameters.settings.currentView == "xrays/view_003.dcm"
    assert panel.parameters.settings.comparison == "difference"
    assert images[-1].shape == (64, 64, 3)
    measured = panel.nodes.xrays.images[3]
    assert measured.GetName() == "view_003"


def test_the_report_is_opened_in_the_browser(panel, running):
    click(panel.ui.reportButton)
    assert [Path(path) for path in running.answers.opened] == [panel.case / "result" / "report.html"]
    running.answers.opened.clear()
    shutil.rmtree(panel.case / "result")
    panel.onSceneChanged()
    for widget in (panel.ui.reportButton, panel.ui.comparisonViewComboBox):
        assert not is_usable(widget)
        assert "no longer there" in widget.toolTip
    assert is_usable(panel.ui.thresholdSlider)


# Saving


def save(panel, kind: str, folder: Path) -> None:
    choose(panel.ui.formatComboBox, kind)
    write(panel.ui.saveFolderPath, str(folder))
    click(panel.ui.saveButton)
    wait_until(lambda: panel.panel.error or panel.ui.statusLabel.text.startswith("Saved to"), RUN_S)
    assert panel.panel.error is None, panel.ui.statusLabel.text


def test_save_needs_a_folder(panel):
    assert "Choose the folder" in panel.ui.saveButton.toolTip
    with pytest.raises(OutOfReach):
        click(panel.ui.saveButton)
    write(panel.ui.saveFolderPath, "nowhere")
    click(panel.ui.saveButton)
    assert "full path" in panel.ui.statusLabel.text


def test_volume_and_surface_are_saved(panel, tmp_path):
    slide(panel.ui.thresholdSlider, 3)
    settle(panel)
    save(panel, "Volume (NRRD)", tmp_path / "out")
    image = SimpleITK.ReadImage(str(tmp_path / "out" / "result-volume.nrrd"))
    volume, grid = Nodes.arrayFromVolumeNode(panel.nodes.volume)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume)
    np.testing.assert_allclose(image.GetOrigin(), grid.origin_lps_mm, atol=1e-4)
    panel.panel.say("")
    save(panel, "Surface (STL)", tmp_path / "out")
    stl = (tmp_path / "out" / "result-bone.stl").read_bytes()
    assert b"SPACE=LPS" in stl[:80]
    assert int.from_bytes(stl[80:84], "little") == len(Nodes.meshFromModelNode(panel.nodes.bone).triangles)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["result-bone.stl", "result-volume.nrrd"]


def test_dicom_is_saved_by_the_worker(panel, tmp_path):
    if importlib.util.find_spec("highdicom") is None:
        pytest.skip("highdicom is not installed")
    wasThere = "highdicom" in sys.modules
    save(panel, "DICOM", tmp_path / "out")
    folder = tmp_path / "out" / "result-dicom"
    slices = [pydicom.dcmread(path) for path in sorted(folder.glob("CT_*.dcm"))]
    volume, _ = Nodes.arrayFromVolumeNode(panel.nodes.volume)
    stored = np.stack([dataset.pixel_array for dataset in slices]) + float(slices[0].RescaleIntercept)
    np.testing.assert_allclose(WATER_PER_MM * (1 + stored / 1000), volume, atol=1.1e-5)
    segmentation = pydicom.dcmread(folder / "SEG.dcm")
    assert segmentation.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert str(slices[0].PatientName) == "Simulated"  # the X-rays lie beside the result
    assert ("highdicom" in sys.modules) == wasThere  # it is the worker that needs it


def test_a_scene_is_saved_and_brings_the_result_back(panel, running, tmp_path):
    slide(panel.ui.thresholdSlider, 3)
    settle(panel)
    click(panel.ui.coverageCheckBox)
    save(panel, "Scene (.mrb)", tmp_path)
    threshold, points = panel.nodes.thresholdPerMm, panel.nodes.bone.GetPolyData().GetNumberOfPoints()
    running.scene.Clear()
    assert panel.nodes is None
    assert panel.ui.coverageCheckBox.checked
    loadScene(running.scene, tmp_path / "result.mrb")
    nodes = panel.nodes
    assert nodes.thresholdPerMm == threshold
    assert panel.ui.thresholdSlider.value == pytest.approx(threshold, abs=1e-4)
    assert nodes.bone.GetPolyData().GetNumberOfPoints() == points
    assert len(nodes.xrays.images) == len(nodes.xrays.planes) == len(nodes.xrays.frusta) == VIEWS
    assert not panel.ui.coverageCheckBox.checked
    assert nodes.grade in panel.ui.resultLabel.text
    slide(panel.ui.thresholdSlider, -3)  # and it goes on
    settle(panel)
    click(panel.ui.chosenThresholdButton)
    settle(panel)


def test_a_damaged_or_older_scene_opens(panel, running, tmp_path):
    panel.nodes.volume.SetAttribute("IntraopRecon.Result", '{"grade": "good"}')
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    loadScene(running.scene, tmp_path / "scene.mrb")
    assert panel.nodes is None
    assert not is_usable(panel.ui.thresholdSlider)


def test_a_folder_that_will_not_do_is_a_sentence(panel, running, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for kind in ("Volume (NRRD)", "Surface (STL)", "DICOM", "Scene (.mrb)"):
        panel.panel.say("")
        choose(panel.ui.formatComboBox, kind)
        write(panel.ui.saveFolderPath, str(tmp_path / "file"))
        click(panel.ui.saveButton)
        wait_until(lambda: panel.panel.error is not None, RUN_S)
        assert "file" in panel.ui.statusLabel.text
        assert "error of its own" not in panel.ui.statusLabel.text, kind
        assert is_usable(panel.ui.saveButton)
    assert running.answers.shown == []
    assert (tmp_path / "file").read_text() == "no folder"


def test_everything_lies_under_one_folder_of_the_subject_hierarchy(panel, running):
    hierarchy = running.scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    top = panel.nodes.folder
    parts = [
        panel.nodes.volume,
        panel.nodes.coverage,
        panel.nodes.segmentation,
        panel.nodes.bone,
        panel.nodes.roi,
        panel.nodes.xrays.sources,
    ]
    for node in (*parts, *panel.nodes.xrays.images, *panel.nodes.xrays.planes, *panel.nodes.xrays.frusta):
        item = hierarchy.GetItemByDataNode(node)
        while hierarchy.GetItemParent(item) != hierarchy.GetSceneItemID():
            item = hierarchy.GetItemParent(item)
        assert item == top, node.GetName()


def test_the_widgets_that_the_sections_use_are_in_the_panel(panel, repository: Path):
    from Testing.host.lint import problems

    for name in ("ReconstructionSection", "ResultSection"):
        source = (repository / NAME / "IntraopReconLib" / "host" / f"{name}.py").read_text(encoding="utf-8")
        assert problems(source, vars(panel.ui)) == []
