"""The panel's settings, kept in the scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from IntraopReconLib.core.calibration_config import CoordinateSystem, LengthUnit, PoseFileSettings
from IntraopReconLib.core.config import Device, Method, Quality, ReconstructionConfig, Standardize
from SparseAnatomyLib.host.SettingsNode import SettingsNode

from .ReconLogic import regionFromRoiNode

MODULE_NAME = "IntraopRecon"
_REGION = "Region"
_JIG = "Jig"
_RESULT = "Result"


@dataclass(frozen=True)
class Settings:
    """What the user has chosen in the panel.

    Attributes:
        caseFolder: Case folder; empty for none yet.
        resultFolder: Where results go; empty for `result` within the case folder.
        quality: As in ReconstructionConfig.
        method: As in ReconstructionConfig.
        skippedViews: Names of the X-rays that are left out, one a line.
        currentView: Name of the X-ray that is looked at; empty for the first one.
        showXrays: Whether the X-rays stand in the 3D view.
        jigFile: Markups file of the jig's beads; empty for that of the case.
        knownDistanceMm: Longest distance between two beads of a jig that nobody has measured; 0 for none.
        editedBeads: What the user has changed since the poses were found: see BeadMarks.BeadEdits.
        poseFile: Poses of another program, a file or a folder of such; empty for none.
        poseSystem, poseUnit, poseRowsUp: As in PoseFileSettings.
        standardize: As in ReconstructionConfig.
        device: As in ReconstructionConfig.
        showCoverage: Whether what the X-rays do not show is covered in the slice views.
        comparison: What is shown of an X-ray beside the result: measured, reprojected or difference.
        saveFormat: mrb, nrrd, stl or dicom.
        saveFolder: Where results are saved for other programs; empty for nowhere yet.
    """

    caseFolder: str = ""
    resultFolder: str = ""
    quality: Quality = ReconstructionConfig.quality
    method: Method = ReconstructionConfig.method
    skippedViews: str = ""
    currentView: str = ""
    showXrays: bool = True
    jigFile: str = ""
    knownDistanceMm: float = 0.0
    editedBeads: str = ""
    poseFile: str = ""
    poseSystem: CoordinateSystem = PoseFileSettings.coordinate_system
    poseUnit: LengthUnit = PoseFileSettings.unit
    poseRowsUp: bool = PoseFileSettings.rows_up
    standardize: Standardize = ReconstructionConfig.standardize
    device: Device = ReconstructionConfig.device
    showCoverage: bool = True
    comparison: str = "difference"
    saveFormat: str = "mrb"
    saveFolder: str = ""


_CHOICES = {
    "quality": get_args(Quality),
    "method": get_args(Method),
    "poseSystem": get_args(CoordinateSystem),
    "poseUnit": get_args(LengthUnit),
    "standardize": get_args(Standardize),
    "device": get_args(Device),
    "comparison": ("measured", "reprojected", "difference"),
    "saveFormat": ("mrb", "nrrd", "stl", "dicom"),
}


class ParameterNode(SettingsNode[Settings]):
    """Reads and writes the settings of one scene."""

    def __init__(self, scene) -> None:
        """Take the scene's parameter node, a new one if it has none."""
        super().__init__(scene, MODULE_NAME, Settings(), _CHOICES)

    @property
    def regionNode(self):
        """The markups ROI node of the region to reconstruct, or None."""
        return self.node.GetNodeReference(_REGION)

    @regionNode.setter
    def regionNode(self, node) -> None:
        self.node.SetNodeReferenceID(_REGION, node.GetID() if node else None)

    @property
    def resultNode(self):
        """The volume of the result that is shown, or None."""
        return self.node.GetNodeReference(_RESULT)

    @resultNode.setter
    def resultNode(self, node) -> None:
        self.node.SetNodeReferenceID(_RESULT, node.GetID() if node else None)

    @property
    def jigNode(self):
        """The markups node with a point at each bead of the jig, or None."""
        return self.node.GetNodeReference(_JIG)

    @jigNode.setter
    def jigNode(self, node) -> None:
        self.node.SetNodeReferenceID(_JIG, node.GetID() if node else None)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the X-rays that are left out of the reconstruction."""
        return tuple(name for name in self.settings.skippedViews.split("\n") if name)

    @property
    def resultFolder(self) -> Path:
        """Where the result goes."""
        settings = self.settings
        return Path(settings.resultFolder) if settings.resultFolder else Path(settings.caseFolder) / "result"

    def config(self) -> ReconstructionConfig:
        """Return the settings of the reconstruction.

        Raises:
            InputError: The region has not been placed, or is sheared.
        """
        region = regionFromRoiNode(self.regionNode) if self.regionNode else None
        settings = self.settings
        chosen = {name: getattr(settings, name) for name in ("method", "quality", "device", "standardize")}
        return ReconstructionConfig(region=region, **chosen)
