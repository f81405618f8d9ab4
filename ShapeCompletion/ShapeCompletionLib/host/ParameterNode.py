"""The panel's settings, kept in the scene."""

from __future__ import annotations

from dataclasses import dataclass

from ShapeCompletionLib.core.config import MAX_STEPS, METHODS, CompletionConfig, Method
from ShapeCompletionLib.core.config_check import SPACING_RANGE_MM
from SparseAnatomyLib.host.SettingsNode import SettingsNode

MODULE_NAME = "ShapeCompletion"
_SEGMENTATION = "Segmentation"


@dataclass(frozen=True)
class Settings:
    """What the user has chosen in the panel.

    Attributes:
        segmentId: Of the segmentation node; empty for none yet.
        prior: Name of the prior.
        method: As in CompletionConfig.
        live: Whether every edit completes the shape again.
        showNextSlice: Whether the plane of the next slice is shown.
        showConfidence: Whether the surface is colored by its confidence.
        steps: As in CompletionConfig.
        spacingMm: Voxel spacing of the result; 0 for that of the segmentation.
        saveFolder: Where results are saved; empty for nowhere yet.
    """

    segmentId: str = ""
    prior: str = "vertebra"
    method: Method = CompletionConfig.method
    live: bool = False
    showNextSlice: bool = True
    showConfidence: bool = True
    steps: int = CompletionConfig.steps
    spacingMm: float = 0.0
    saveFolder: str = ""


class ParameterNode(SettingsNode[Settings]):
    """Reads and writes the settings of one scene."""

    def __init__(self, scene) -> None:
        """Take the scene's parameter node, a new one if it has none."""
        super().__init__(scene, MODULE_NAME, Settings(), {"method": METHODS, "steps": range(1, MAX_STEPS + 1)})

    @property
    def segmentationNode(self):
        """The segmentation node to complete, or None."""
        return self.node.GetNodeReference(_SEGMENTATION)

    @segmentationNode.setter
    def segmentationNode(self, node) -> None:
        self.node.SetNodeReferenceID(_SEGMENTATION, node.GetID() if node else None)

    def config(self) -> CompletionConfig:
        """Return the settings of the completion."""
        settings, (low, high) = self.settings, SPACING_RANGE_MM
        spacing_mm = min(max(settings.spacingMm, low), high) if settings.spacingMm > 0 else None
        return CompletionConfig(method=settings.method, steps=settings.steps, spacing_mm=spacing_mm)
