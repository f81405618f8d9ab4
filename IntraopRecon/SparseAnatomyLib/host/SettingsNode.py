"""A panel's settings, kept in the scene: a vtkMRMLScriptedModuleNode, saved with it and the same with and without the desktop.

Slicer's parameterNodeWrapper is part of the desktop alone; this needs the node only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

_SETTINGS = "Settings"
_KINDS = {str: "text", bool: "True or False", int: "a whole number", float: "a number"}

Settings = TypeVar("Settings")


class SettingsNode(Generic[Settings]):
    """Reads and writes the settings of one module in one scene."""

    def __init__(self, scene, moduleName: str, defaults: Settings, choices: Mapping[str, Collection[Any]]) -> None:
        """Take the scene's parameter node, a new one if it has none.

        Args:
            scene: vtkMRMLScene.
            moduleName: Name of the Slicer module.
            defaults: A frozen dataclass of texts, booleans and numbers; a value of another type is not taken.
            choices: The values that a setting may have, by its name; any where it is not listed.
        """
        node = scene.GetSingletonNode(moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(moduleName)
            node.SetModuleName(moduleName)
            node.SetName(moduleName)
            node = scene.AddNode(node)
        self.node = node
        self._defaults = defaults
        self._choices = choices

    @property
    def settings(self) -> Settings:
        """What is stored; whatever is missing or not understood, as in a scene from another version, has its default."""
        try:
            stored = json.loads(self.node.GetParameter(_SETTINGS) or "{}")
        except ValueError:
            stored = {}
        known = stored.items() if isinstance(stored, dict) else ()
        names = {field.name for field in fields(self._defaults)}
        return replace(self._defaults, **{name: value for name, value in known if name in names and self._isValid(name, value)})

    def update(self, **changes: Any) -> None:
        """Store other values of some settings."""
        settings = replace(self.settings, **changes)
        for name, value in changes.items():
            if not self._isValid(name, value):
                kind = _KINDS[type(getattr(self._defaults, name))]
                among = f" among {', '.join(map(str, self._choices[name]))}" if name in self._choices else ""
                raise ValueError(f"{name}: expected {kind}{among}, got {value!r}.")
        self.node.SetParameter(_SETTINGS, json.dumps(vars(settings), sort_keys=True))

    def _isValid(self, name: str, value: Any) -> bool:
        return type(value) is type(getattr(self._defaults, name)) and value in self._choices.get(name, (value,))
