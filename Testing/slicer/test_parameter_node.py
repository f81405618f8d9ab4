"""The panel's settings, kept in the scene."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("slicer")


from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.host import ReconLogic as ReconLogicModule
from IntraopReconLib.host.ParameterNode import ParameterNode, Settings
from SparseAnatomyLib.host import SceneFiles
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene


def test_region_of_a_drawn_roi(headless):
    node = headless.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "drawn")
    node.SetCenter(-10.0, 20.0, 30.0)
    node.SetSize(40.0, 50.0, 60.0)
    region = ReconLogicModule.regionFromRoiNode(node)
    assert region.center_lps_mm == (10, -20, 30)
    assert region.extent_mm == (40, 50, 60)
    json.dumps(ReconstructionConfig(region=region).to_json())


def test_settings_are_saved_with_the_scene(headless, tmp_path):
    parameters = ParameterNode(headless.scene)
    assert parameters.settings == Settings()
    roi = headless.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "drawn")
    roi.SetCenter(-1.0, 2.0, 3.0)
    roi.SetSize(4.0, 5.0, 6.0)
    parameters.update(caseFolder="/data/case", quality="best")
    parameters.regionNode = roi
    other = HeadlessScene()
    SceneFiles.loadScene(other.scene, SceneFiles.saveScene(headless.scene, tmp_path / "settings.mrb"))
    read = ParameterNode(other.scene)
    assert read.settings == Settings(caseFolder="/data/case", quality="best")
    assert read.resultFolder == Path("/data/case/result")
    assert read.config().region.center_lps_mm == (1, -2, 3)
    assert read.config().quality == "best"
    read.regionNode = None
    assert read.config().region is None


@pytest.mark.parametrize("stored", ["nonsense", "[1]", '{"quality": "finest", "method": 3, "future": true}'])
def test_settings_of_another_version_fall_back_to_defaults(headless, stored: str):
    parameters = ParameterNode(headless.scene)
    parameters.node.SetParameter("Settings", stored)
    assert parameters.settings == Settings()


def test_settings_that_will_not_do_are_refused(headless):
    with pytest.raises(ValueError, match="quality"):
        ParameterNode(headless.scene).update(quality="finest")
