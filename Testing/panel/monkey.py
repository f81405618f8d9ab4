"""A user without a thought: uses whatever can be reached in a panel, and the scene beside it, at random and seeded."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import slicer
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QScrollBar,
    QSlider,
    QWidget,
)
from Testing.host.desktop import Desktop
from Testing.host.hands import OutOfReach, choose, click, click_at, drag, drop, select_cell, slide, turn_wheel, wait_until, write
from Testing.host.values import unwrap

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

RUBBISH = (
    "",
    " ",
    ".",
    "..",
    "nowhere",
    "a/b/c",
    "file:///nowhere",
    "C:\\x",
    "{0}{case}%s",
    "<b>bold",
    "\u202eÆrø/\u65e5\u672c",
    "ø" * 300,
)
PATHS = (  # within the folder, as the test lays them; the last is none
    "ball",
    "ball",
    "beads",
    "empty",
    "a file",
    "torn",
    "out",
    "beads/fiducials.mrk.json",
    "ball/poses.json",
    "ø" * 300,
)
NUMBERS = ("", "-", "abc", "0", "-5", "0.01", "1,5", "12", "1e9", "nan", "99999999")
KEYS = tuple(getattr(Qt.Key, f"Key_{name}") for name in ("Tab", "Space", "Return", "Escape", "Delete", "Up", "Down", "Home", "End", "F2"))
SEEN = 40  # acts that are told when something was raised


class Found(AssertionError):
    """Something was raised, or a message tells of an error that is none of the user's."""


class Monkey:
    """Does what a user could do, and writes down what.

    Attributes:
        done: What was done.
        uses: How often each widget was used.
    """

    def __init__(self, running: Desktop, name: str, folder: str, seed: int) -> None:
        """Prepare for a panel.

        Args:
            running: The desktop.
            name: The module whose panel is used most.
            folder: Where its data are, within the current folder; its scenes are saved there.
            seed: Of the random numbers; workers answer when they are ready, so that two runs are not the same to the last act.
        """
        self._running, self._name, self._folder, self._random = running, name, folder, random.Random(seed)
        self.done: list[str] = []
        self.uses: Counter[str] = Counter()
        self._acts: dict[Callable[[], None], int] = {
            self._use: 60,
            self._pause: 20,
            self._press_key: 4,
            self._edit_segment: 4,
            self._change_modules: 3,
            self._remove_node: 2,
            self._add_node: 2,
            self._sample: 2,
            self._drop: 2,
            self._save_scene: 1,
            self._load_scene: 1,
            self._close_scene: 1,
        }

    def act_for(self, seconds: float) -> None:
        """Go on for so long.

        Raises:
            Found: A slot raised something, or a message tells of an error of ours.
        """
        logics = [self._running.widget(name).logic for name in ("IntraopRecon", "ShapeCompletion")]
        jobs = [logics[0].recon, logics[0].preparation, logics[1].completion]
        failed: list[SparseAnatomyError] = []
        for job in jobs:
            job.failed.connect(failed.append)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self._random.choices(list(self._acts), list(self._acts.values()))[0]()
                self._look(failed)
        finally:
            for job in jobs:
                job.failed.disconnect(failed.append)

    def stop(self) -> None:
        """Stop what runs.

        Raises:
            TimeoutError: It goes on.
        """
        recon, completion = self._running.widget("IntraopRecon").logic, self._running.widget("ShapeCompletion").logic.completion
        completion.stopLive()
        for job in (recon.preparation, recon.recon, completion):  # one begins another's
            job.cancel()
            wait_until(lambda job=job: not job.isRunning, 30)

    def _look(self, failed: list[SparseAnatomyError]) -> None:
        running = self._running
        texts = [*running.answers.shown, *(running.widget(name).ui.statusLabel.text for name in ("IntraopRecon", "ShapeCompletion"))]
        wrong = [*running.errors, *(error for error in failed if error.kind not in ("input", "resource", "cancelled"))]
        wrong += [text for text in texts if "Traceback" in text or "error of its own" in text]
        if wrong:
            raise Found(f"{wrong[0]!r} after {'; '.join(self.done[-SEEN:])}")

    # What is in the panel

    def _use(self) -> None:
        """Use a widget of the panel, one that was used little before others."""
        place = unwrap(self._running.main_window).findChild(QWidget, "ModulePanel").widget()
        found = [(widget, kind) for widget in place.findChildren(QWidget) if (kind := _kind(widget)) and _is_reachable(widget)]
        if not found:
            return
        weights = [(1 + self.uses[_name(widget)]) ** -2 for widget, _ in found]
        widget, kind = self._random.choices(found, weights)[0]
        self.uses[_name(widget)] += 1
        self._say(f"{kind} {_name(widget)}")
        try:
            getattr(self, f"_{kind}")(widget)
        except OutOfReach as error:
            self.done[-1] += f" ({error})"
        self._running.answers.files.clear()

    def _button(self, widget: QAbstractButton) -> None:
        self._running.answers.files.append(self._text())  # if it opens a dialog
        click(widget)

    def _combo(self, widget: QComboBox) -> None:
        items = [widget.itemText(n) for n in range(widget.count())]
        if items:
            choose(widget, self._also(self._random.choice(items)))

    def _line(self, widget: QLineEdit) -> None:
        write(widget, self._also(self._text()))

    def _number(self, widget: QAbstractSpinBox) -> None:
        write(widget, self._also(self._random.choice(NUMBERS)))

    def _slider(self, widget: QSlider) -> None:
        if self._random.random() < 0.5:
            slide(widget, self._also(self._random.randint(-30, 30)))
        else:
            y = widget.height() / 2
            drag(widget, (self._random.random() * widget.width(), y), (self._random.random() * widget.width(), y))

    def _table(self, widget: QAbstractItemView) -> None:
        rows, columns = widget.model().rowCount(), widget.model().columnCount()
        row, column = self._random.randint(0, rows), self._random.randrange(max(columns, 1))  # also one below the last
        select_cell(widget, self._also(row), column, on_check_box=column == 0 and self._random.random() < 0.4)

    def _picture(self, widget: QLabel) -> None:
        x, y = self._random.random() * widget.width(), self._random.random() * widget.height()
        what = self._also(self._random.choice(["wheel", "drag", "click", "right click", "double click"]))
        if what == "wheel":
            turn_wheel(widget, x, y, self._random.choice([-3, 4]))
        elif what == "drag":
            drag(widget, (x, y), (y, x))
        else:
            click_at(widget, x, y, right=what == "right click", double=what == "double click")

    def _press_key(self) -> None:
        """Press a key wherever the cursor is."""
        focus, key = QApplication.focusWidget(), self._random.choice(KEYS)
        if focus is not None:
            self._say(f"key {key.name} in {_name(focus)}")
            self._running.answers.files.append(self._text())  # the cursor may be in a button that opens a dialog
            QTest.keyClick(focus, key)
            self._running.answers.files.clear()

    # What is beside the panel

    def _pause(self) -> None:
        self._say("pause")
        with suppress(TimeoutError):
            wait_until(lambda: False, self._random.uniform(0.01, 0.4))

    def _change_modules(self) -> None:
        """Leave the module for another, mostly to come back."""
        others = list(self._running.module_manager.loaded)
        for name in (self._random.choice(others), self._name):
            self._say(f"module {name}")
            slicer.util.selectModule(name)
            if self._random.random() < 0.2:
                break

    def _sample(self) -> None:
        import SampleData

        name = self._random.choice(sorted(SampleData.SampleDataLogic.sources))
        self._say(f"sample {name}")
        SampleData.downloadSample(name)

    def _drop(self) -> None:
        paths = [text for text in (self._text(), self._text()) if text]
        self._say(f"drop {paths}")
        with suppress(OutOfReach):
            drop(self._running.widget("IntraopRecon").ui.noticeLabel.parentWidget(), paths)

    def _close_scene(self) -> None:
        self._say("scene closed")
        self._running.scene.Clear()

    def _save_scene(self) -> None:
        self._say("scene saved")
        saveScene(self._running.scene, Path(self._folder, "scene.mrb"))

    def _load_scene(self) -> None:
        if not Path(self._folder, "scene.mrb").exists():
            return
        if self._random.random() < 0.7:
            self._close_scene()
        self._say("scene loaded")
        loadScene(self._running.scene, Path(self._folder, "scene.mrb"))

    def _remove_node(self) -> None:
        """Remove something that the Data module shows."""
        nodes = [node for node in self._nodes() if not node.GetHideFromEditors() and not node.GetSingletonTag()]
        if nodes:
            node = self._random.choice(nodes)
            self._say(f"{node.GetName()} removed")
            self._running.scene.RemoveNode(node)

    def _add_node(self) -> None:
        """Add what another module could: points, a box, an empty segment, with names that were not thought of."""
        kind = self._random.choice(["vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsROINode", "vtkMRMLSegmentationNode"])
        name = self._random.choice(RUBBISH).replace("%", "")  # Slicer itself crashes: it takes a markup's name for a format of printf
        node = self._running.scene.AddNewNodeByClass(kind, self._also_said(f"added {kind}", name))
        if kind == "vtkMRMLMarkupsFiducialNode":
            for _ in range(self._random.randrange(8)):
                node.AddControlPoint([self._random.uniform(-80, 80) for _ in range(3)])
        elif kind == "vtkMRMLSegmentationNode":
            node.GetSegmentation().AddEmptySegment("empty", "Empty")

    def _edit_segment(self) -> None:
        """Erase or draw on a plane of a segment, as the Segment Editor does."""
        nodes = [node for node in self._nodes() if node.IsA("vtkMRMLSegmentationNode") and node.GetSegmentation().GetNumberOfSegments()]
        if not nodes:
            return
        segmentation = self._random.choice(nodes)
        ids = segmentation.GetSegmentation().GetSegmentIDs()
        segment = segmentation.GetSegmentation().GetSegment(self._random.choice(list(ids)))
        labelmap = segment.GetRepresentation("Binary labelmap")
        if labelmap is None or min(labelmap.GetDimensions()) < 2 or segmentation.GetSegmentation().GetNumberOfLayers() != len(ids):
            return
        labels, grid = Nodes.labelsFromSegmentationNode(segmentation, segmentation.GetSegmentation().GetSegmentIdBySegment(segment))
        if not labels.size:
            return
        labels, axis, value = labels.copy(), self._random.randrange(3), self._random.randrange(2)
        plane = np.moveaxis(labels, axis, 0)[self._random.randrange(labels.shape[axis])]
        plane[: self._random.randint(1, plane.shape[0]), : self._random.randint(1, plane.shape[1])] = value
        self._say(f"{'drawn' if value else 'erased'} across axis {axis} of {segmentation.GetName()}")
        labelmap.DeepCopy(Nodes.labelmapFromArray(labels, grid))
        labelmap.Modified()

    # Words

    def _nodes(self) -> list:
        return [self._running.scene.GetNthNode(n) for n in range(self._running.scene.GetNumberOfNodes())]

    def _text(self) -> str:
        if self._random.random() < 0.4:
            return self._random.choice(RUBBISH)
        path = f"{self._folder}/{self._random.choice(PATHS)}"
        return path if self._random.random() < 0.8 else str(Path(path).absolute())

    def _say(self, what: str) -> None:
        self.done.append(what)

    def _also(self, value):
        """Write down what a widget was used for, and return it."""
        self.done[-1] += f": {value!r}"
        return value

    def _also_said(self, what: str, value):
        self._say(what)
        return self._also(value)


def _kind(widget: QWidget) -> str:
    """Return how a widget is used; empty for what is a part of another, or only shows something."""
    if isinstance(widget, QScrollBar | QHeaderView) or _is_within(widget, QAbstractItemView):
        return ""
    if isinstance(widget, QLineEdit):
        return "" if isinstance(widget.parentWidget(), QAbstractSpinBox) else "line"
    if isinstance(widget, QLabel):
        return "picture" if widget.objectName().endswith("Picture") else ""
    kinds = {QAbstractSpinBox: "number", QComboBox: "combo", QSlider: "slider", QAbstractItemView: "table", QAbstractButton: "button"}
    return next((kind for cls, kind in kinds.items() if isinstance(widget, cls)), "")


def _is_within(widget: QWidget, cls: type) -> bool:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, cls):
        parent = parent.parentWidget()
    return parent is not None


def _is_reachable(widget: QWidget) -> bool:
    return widget.isVisible() and widget.isEnabled()


def _name(widget: QWidget) -> str:
    """Return a widget's name, or that of what it is a part of."""
    parts, parent = [type(widget).__name__], widget
    while parent is not None and (not parent.objectName() or parent.objectName().startswith("qt_")):
        parent = parent.parentWidget()
    if parent is widget:
        return widget.objectName()
    return f"{parent.objectName() if parent is not None else ''}'s {parts[0]}"
