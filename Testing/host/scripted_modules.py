"""slicer.ScriptedLoadableModule, slicer.i18n and SampleData: the bases of scripted modules, in the host's own words."""

from __future__ import annotations

import importlib
import types
import unittest
from pathlib import Path
from typing import Any

import slicer

from .values import NotInSlicer, wrap


class ScriptedLoadableModule:
    """What a scripted module tells of itself."""

    def __init__(self, parent) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        for name, value in {"title": "", "categories": [], "dependencies": [], "contributors": [], "helpText": ""}.items():
            setattr(parent, name, value)
        parent.acknowledgementText = ""
        icons = (Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}{ending}" for ending in (".svg", ".png"))
        icon = next((path for path in icons if path.is_file()), None)
        if icon is not None:
            import qt

            parent.icon = qt.QIcon(str(icon))
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        url = slicer.app.documentationBaseUrl + docPage if docPage else slicer.app.moduleDocumentationUrl(self.moduleName)
        return f'<p>For more information see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **keywords: Any) -> None:
        script = importlib.import_module(type(self).__module__)
        case = getattr(script, f"{self.moduleName}Test")()
        case.messageDelay = msec
        case.runTest(**keywords)


class ScriptedLoadableModuleWidget:
    """What fills the module panel."""

    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if not parent:
            raise NotInSlicer("The test host makes module widgets through the module panel only.")
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self) -> None:
        """Build the panel; Slicer's developer section is left out."""

    def enter(self) -> None:
        """Called when the module is shown."""

    def exit(self) -> None:
        """Called when another module is shown."""

    def cleanup(self) -> None:
        """Called when the module goes."""

    def resourcePath(self, filename: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """What a module does."""

    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node or slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's self-test."""

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        slicer.util.delayDisplay(message, getattr(self, "messageDelay", None) or msec or requestedDelay or 100)

    def runTest(self) -> None:
        """Run the tests."""


class SampleDataSource:
    """What was registered for one sample; its lists need the same length, also where a customDownloader needs none of them."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)
        lists = {name: values.get(name) for name in ("uris", "fileNames", "nodeNames", "loadFiles", "loadFileType", "checksums")}
        if isinstance(lists["uris"], str):
            lists = {name: [value] for name, value in lists.items()}
        elif isinstance(lists["uris"], list | tuple):
            lists |= {name: [None] * len(lists["uris"]) for name, value in lists.items() if value is None and name != "fileNames"}
        if len({len(value) for value in lists.values()}) > 1:  # of None, Slicer takes the length too
            raise ValueError("All fields of sample data source must have the same length")


_SAMPLE_FIELDS = {
    "sampleName", "category", "sampleDescription", "uris", "fileNames", "nodeNames", "customDownloader", "thumbnailFileName",
    "loadFileType", "loadFiles", "loadFileProperties", "checksums",
}  # fmt: skip


class SampleDataLogic:
    """The logic of Slicer's Sample Data module."""

    sources: dict[str, SampleDataSource]

    @classmethod
    def registerCustomSampleDataSource(cls, category: str = "Custom", sampleName: str | None = None, **values: Any) -> None:
        unknown = set(values) - _SAMPLE_FIELDS
        if unknown or not sampleName:
            raise TypeError(f"registerCustomSampleDataSource does not take {', '.join(unknown) or 'a sample without a name'}.")
        thumbnail = values.get("thumbnailFileName")
        if thumbnail is not None and not (isinstance(thumbnail, str) and Path(thumbnail).is_file()):
            raise ValueError(f"There is no thumbnail {thumbnail!r}.")
        cls.sources[sampleName] = SampleDataSource(category=category, sampleName=sampleName, **values)

    @classmethod
    def downloadSample(cls, sampleName: str) -> Any:
        source = cls.sources[sampleName]
        if getattr(source, "customDownloader", None) is None:
            raise NotInSlicer(f"The test host downloads nothing: {sampleName} has no customDownloader.")
        return source.customDownloader(source)


def sample_data_module() -> types.ModuleType:
    """Return a new module `SampleData` in which nothing is registered."""
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = type("SampleDataLogic", (SampleDataLogic,), {"sources": {}})
    module.downloadSample = module.SampleDataLogic.downloadSample
    return module


def i18n_module() -> types.ModuleType:
    """Return a module `slicer.i18n` that leaves texts as they are."""
    module = types.ModuleType("slicer.i18n")
    module.getContext = lambda sourceFile: Path(sourceFile).stem
    module.translate = lambda context, text, disambiguation=None, n=-1: text
    module.tr = lambda text: text
    return module


def scripted_module() -> types.ModuleType:
    """Return a module `slicer.ScriptedLoadableModule`."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    module.__all__ = [f"ScriptedLoadableModule{suffix}" for suffix in ("", "Widget", "Logic", "Test")]
    for name in module.__all__:
        setattr(module, name, globals()[name])
    return module


class Modules:
    """slicer.modules: a module by its name in lower case, and its widget by `NameWidget`."""

    def __getattr__(self, name: str) -> Any:
        raise NotInSlicer(f"slicer.modules has no {name}: the test host loads scripted modules only.")

    def add(self, module: Any) -> None:
        """Make a module known."""
        setattr(self, module.property("name").lower(), wrap(module))
