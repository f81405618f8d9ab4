"""The panel's settings, kept in the scene: a vtkMRMLScriptedModuleNode, saved with it and the same with and without the desktop.

Slicer's parameterNodeWrapper is part of the desktop alone; this needs the node only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from IntraopReconLib.core.config import Method, Quality, ReconstructionConfig

from .ReconLogic import regionFromRoiNode

MODULE_NAME = "IntraopRecon"
_REGION = "Region"
_SETTINGS = "Settings"


@dataclass(frozen=True)
class Settings:
    """What the user has chosen in the panel.

    Attributes:
        caseFolder: Case folder; empty for none yet.
        resultFolder: Where results go; empty for `result` within the case folder.
        quality: As in ReconstructionConfig.
        method: As in ReconstructionConfig.
    """

    caseFolder: str = ""
    resultFolder: str = ""
    quality: Quality = ReconstructionConfig.quality
    method: Method = ReconstructionConfig.method


_CHOICES = {"quality": get_args(Quality), "method": get_args(Method)}


class ParameterNode:
    """Reads and writes the settings of one scene."""

    def __init__(self, scene) -> None:
        """Take the scene's parameter node, a new one if it has none."""
        node = scene.GetSingletonNode(MODULE_NAME, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(MODULE_NAME)
            node.SetModuleName(MODULE_NAME)
            node.SetName(MODULE_NAME)
            node = scene.AddNode(node)
        self.node = node

    @property
    def settings(self) -> Settings:
        """What is stored; whatever is missing or not understood, as in a scene from another version, has its default."""
        try:
            stored = json.loads(self.node.GetParameter(_SETTINGS) or "{}")
        except ValueError:
            stored = {}
        known = stored.items() if isinstance(stored, dict) else ()
        names = {field.name for field in fields(Settings)}
        return Settings(**{name: value for name, value in known if name in names and _isValid(name, value)})

    def update(self, **changes: Any) -> None:
        """Store other values of some settings."""
        settings = replace(self.settings, **changes)
        for name in changes:
            if not _isValid(name, changes[name]):
                raise ValueError(f"{name}: expected text{' among ' + ', '.join(_CHOICES[name]) if name in _CHOICES else ''}.")
        self.node.SetParameter(_SETTINGS, json.dumps(vars(settings), sort_keys=True))

    @property
    def regionNode(self):
        """The markups ROI node of the region to reconstruct, or None."""
        return self.node.GetNodeReference(_REGION)

    @regionNode.setter
    def regionNode(self, node) -> None:
        self.node.SetNodeReferenceID(_REGION, node.GetID() if node else None)

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
        return ReconstructionConfig(method=self.settings.method, quality=self.settings.quality, region=region)


def _isValid(name: str, value: Any) -> bool:
    return isinstance(value, str) and value in _CHOICES.get(name, (value,))
