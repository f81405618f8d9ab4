"""The panel's settings, kept in the scene."""

from __future__ import annotations

from dataclasses import dataclass

from ShapeCompletionLib.core.config import METHODS, CompletionConfig, Method
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
    """

    segmentId: str = ""
    prior: str = "vertebra"
    method: Method = CompletionConfig.method
    live: bool = False
    showNextSlice: bool = True


class ParameterNode(SettingsNode[Settings]):
    """Reads and writes the settings of one scene."""

    def __init__(self, scene) -> None:
        """Take the scene's parameter node, a new one if it has none."""
        super().__init__(scene, MODULE_NAME, Settings(), {"method": METHODS})

    @property
    def segmentationNode(self):
        """The segmentation node to complete, or None."""
        return self.node.GetNodeReference(_SEGMENTATION)

    @segmentationNode.setter
    def segmentationNode(self, node) -> None:
        self.node.SetNodeReferenceID(_SEGMENTATION, node.GetID() if node else None)

    def config(self) -> CompletionConfig:
        """Return the settings of the completion."""
        return CompletionConfig(method=self.settings.method)
