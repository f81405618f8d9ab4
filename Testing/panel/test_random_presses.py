"""Buttons pressed, texts typed, scenes closed and samples loaded at random, seeded: nothing is ever raised, and every run ends.

`SPARSEANATOMY_RANDOM_S=120` presses for two minutes a panel; a few seconds otherwise.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
import SimpleITK
import slicer
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QTableWidget
from Testing.host.ctk_widgets import ctkPathLineEdit
from Testing.host.hands import OutOfReach, choose, click, click_at, drag, drop, select_cell, turn_wheel, wait_until, write
from Testing.host.values import unwrap

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.simulate_case import simulate_case

SECONDS = float(os.environ.get("SPARSEANATOMY_RANDOM_S", "8"))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    """Return a case that is reconstructed in a second or two."""
    folder = tmp_path_factory.mktemp("random")
    ball = SimpleITK.GaussianSource(SimpleITK.sitkFloat32, [40] * 3, [9, 6, 12], [0] * 3, 2000.0, [-39.0] * 3, [2.0] * 3)
    SimpleITK.WriteImage(SimpleITK.Cast(ball - 1000.0, SimpleITK.sitkInt16), str(folder / "ct.nrrd"))
    simulate_case(
        folder / "ct.nrrd", folder / "ball", SimulationConfig(views=12, size_px=64, center_lps_mm=(0.0, 0.0, 0.0), radius_mm=None)
    )
    return folder / "ball"


class Monkey:
    """Does what a user could do, without a thought."""

    def __init__(self, running, name: str, texts: list[str], seed: int) -> None:
        self._running, self._name, self._texts, self._random, self.done = running, name, texts, random.Random(seed), []

    def act(self) -> None:
        """Do one thing and write down what."""
        chance = self._random.random()
        if chance < 0.04:
            self.done.append("scene closed")
            self._running.scene.Clear()
        elif chance < 0.12:
            self._sample()
        elif chance < 0.14:
            self._drop()
        elif chance < 0.2:
            name = self._random.choice(list(self._running.module_manager.loaded))
            self.done.append(f"module {name}")
            slicer.util.selectModule(name)
        elif chance < 0.5:
            self._pause()
        else:
            self._use()

    def _pause(self) -> None:
        self.done.append("pause")
        with suppress(TimeoutError):
            wait_until(lambda: False, self._random.uniform(0.01, 0.3))

    def _sample(self) -> None:
        import SampleData

        name = self._random.choice(sorted(SampleData.SampleDataLogic.sources))
        self.done.append(f"sample {name}")
        SampleData.downloadSample(name)

    def _use(self) -> None:
        widgets = [widget for widget in vars(self._running.widget(self._running.selected).ui).values() if _is_usable(unwrap(widget))]
        widget = self._random.choice(widgets)
        cpp = unwrap(widget)
        try:
            if isinstance(cpp, QAbstractButton):
                self.done.append(f"click {cpp.objectName()}")
                click(widget)
            elif isinstance(cpp, QTableWidget):
                self._use_table(widget, cpp)
            elif isinstance(cpp, QLabel):
                self._use_picture(widget, cpp)
            elif isinstance(cpp, ctkPathLineEdit):
                text = self._random.choice(self._texts)
                self.done.append(f"write {text}")
                write(widget, text)
            else:
                combo = cpp if isinstance(cpp, QComboBox) else self._random.choice(cpp.findChildren(QComboBox))
                items = [combo.itemText(n) for n in range(combo.count())]
                if items:
                    item = self._random.choice(items)
                    self.done.append(f"choose {item} in {cpp.objectName()}")
                    choose(combo, item)
        except OutOfReach as error:
            self.done[-1] += f" ({error})"

    def _use_table(self, widget, cpp: QTableWidget) -> None:
        row, on_check_box = self._random.randrange(max(cpp.rowCount(), 1)), self._random.random() < 0.4
        self.done.append(f"select row {row} of {cpp.objectName()}")
        select_cell(widget, row, 0, on_check_box)

    def _use_picture(self, widget, cpp: QLabel) -> None:
        x, y = self._random.random() * cpp.width(), self._random.random() * cpp.height()
        self.done.append(f"mouse at {x:.0f}, {y:.0f} of {cpp.objectName()}")
        what = self._random.randrange(4)
        if what == 0:
            turn_wheel(widget, x, y, self._random.choice([-3, 4]))
        elif what == 1:
            drag(widget, (x, y), (y, x))
        else:
            click_at(widget, x, y, right=what == 2, double=what == 3)

    def _drop(self) -> None:
        paths = [text for text in self._random.choices(self._texts, k=2) if text]
        self.done.append(f"drop {paths}")
        with suppress(OutOfReach):
            drop(self._running.widget("IntraopRecon").ui.noticeLabel.parentWidget(), paths)


def _is_usable(cpp) -> bool:
    if isinstance(cpp, QLabel):
        return cpp.objectName().endswith("Picture")
    return isinstance(cpp, QAbstractButton | QComboBox | QTableWidget | ctkPathLineEdit) or bool(cpp.findChildren(QComboBox))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("IntraopRecon", 1), ("ShapeCompletion", 2)])
def test_nothing_is_raised_whatever_is_pressed(running, case, tmp_path, name: str, seed: int):
    (tmp_path / "a file").write_text("no folder")
    (tmp_path / "empty").mkdir()
    texts = [str(case), str(case), "", "nowhere", str(tmp_path / "a file"), str(tmp_path / "empty"), "Ærø/\u65e5\u672c"]
    slicer.util.selectModule(name)
    monkey = Monkey(running, name, texts, seed)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        monkey.act()
        assert running.errors == [], monkey.done[-30:]
        assert "error of its own" not in running.widget(name).ui.statusLabel.text, monkey.done[-30:]
    recon = running.widget("IntraopRecon").logic
    jobs = [recon.recon, recon.preparation, running.widget("ShapeCompletion").logic.completion]
    running.widget("ShapeCompletion").ui.liveCheckBox.checked = False
    for job in jobs:
        job.cancel()
        wait_until(lambda job=job: not job.isRunning, 30)
    print(f"{len(monkey.done)} acts, {len(running.answers.shown)} messages")
    assert len(monkey.done) > 10
    for message in running.answers.shown:
        assert "Traceback" not in message
        assert "error of its own" not in message, (message, monkey.done[-30:])
