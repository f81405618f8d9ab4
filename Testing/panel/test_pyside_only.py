"""No call in host/ or in a module script that PySide alone would take."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from Testing.host.desktop import desktop
from Testing.host.lint import problems

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("IntraopRecon", "ShapeCompletion")
HOST = sorted(path for name in MODULES for path in (REPOSITORY / name).rglob("host/*.py"))


@pytest.fixture(scope="module")
def panels():
    """Return the widgets of each panel by name."""
    with desktop():
        loaded = {name: slicer.util.loadUI(str(REPOSITORY / name / "Resources" / "UI" / f"{name}.ui")) for name in MODULES}
        yield {name: vars(slicer.util.childWidgetVariables(panel)) for name, panel in loaded.items()}


@pytest.mark.parametrize("path", HOST, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_host(panels, path: Path):
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", MODULES)
def test_module_scripts(panels, name: str):
    assert problems((REPOSITORY / name / f"{name}.py").read_text(encoding="utf-8"), panels[name]) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("from PySide6.QtWidgets import QLabel", "imports PySide6.QtWidgets"),
        ("import PyQt5", "imports PyQt5"),
        ("import qt\nclass A(qt.QObject):\n    done = qt.Signal(str)", "3: qt.Signal is PySide's own"),
        ("import qt\nqt.QtWidgets.QLabel('a')", "qt.QtWidgets is PySide's own"),
        ("import qt\nqt.Qt.AlignmentFlag.AlignLeft", "qt.Qt itself"),
        ("import qt\nqt.QFrame.Shape.Box", "QFrame itself"),
        ("import qt\nqt.QLabelx()", "has no QLabelx"),
        ("import qt\nqt.QLabel(text='a')", "qt.QLabel takes no keyword"),
        ("import ctk\nctk.ctkSliderWidget(minimum=1)", "takes no keyword"),
        ("def mousePressEvent(self, event):\n    return event.position()", "event.position is of Qt 6"),
        ("self.ui.statusLabel.text()", "statusLabel.text is a property and cannot be called"),
        ("self.ui.statusLabel.setText = 'a'", "cannot be assigned"),
        ("self.ui.statusLabel.mine = 1", "has no mine"),
        ("self.ui.lostLabel.text = 'a'", "no widget lostLabel"),
        ("self.ui.reconstructButton.connect('clickd(bool)', f)", "no signal clickd"),
        ("self.ui.caseFolderPath.connect('currentPathChanged(str)', f)", "no signal currentPathChanged(str)"),
    ],
)
def test_the_lint_finds(panels, source: str, says: str):
    found = problems(source, panels["IntraopRecon"])
    assert any(says in problem for problem in found), found


def test_the_lint_lets_good_code_pass(panels):
    source = (
        "import qt\nself.ui.statusLabel.text = 'a'\nself.ui.statusLabel.setText('a')\n"
        "self.ui.reconstructButton.connect('clicked(bool)', f)\n"
        "qt.QLabel('a', parent)\nqt.Qt.AlignLeft | qt.Qt.AlignTop\nx = self.ui.qualityComboBox.currentText\nqt.QTimer.singleShot(0, f)\n"
    )
    assert problems(source, panels["IntraopRecon"]) == []
