"""The test host: PythonQt's manners, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from PySide6.QtTest import QTest
from Testing.host import signals
from Testing.host.desktop import desktop
from Testing.host.hands import OutOfReach, choose, click, drop, select_cell, slide, wait_until, write
from Testing.host.values import NotInSlicer, unwrap


@pytest.fixture(scope="module")
def host():
    with desktop() as running:
        yield running


@pytest.fixture
def qt(host):
    yield sys.modules["qt"]
    signals.errors.clear()


def test_properties_are_attributes(qt):
    label = qt.QLabel("a")
    assert label.text == "a"
    label.text = "b"
    assert label.text == "b"
    label.setText("c")
    assert label.text == "c"
    label.enabled = False
    assert not label.isEnabled()
    label.objectName = "name of it"
    assert label.name == "name of it"
    assert label.className() == "QLabel"
    button = qt.QPushButton("press")
    button.checkable = 1
    assert button.checkable is True
    assert button.property("checkable") is True


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (lambda qt: qt.QLabel("a").text(), TypeError),
        (lambda qt: setattr(qt.QLabel("a"), "mine", 1), NotInSlicer),
        (lambda qt: setattr(qt.QLabel("a"), "text", 5), NotInSlicer),
        (lambda qt: setattr(qt.QLabel("a"), "setText", print), NotInSlicer),
        (lambda qt: setattr(qt.QLabel, "mine", 1), NotInSlicer),
        (lambda qt: setattr(qt.QProgressBar(), "value", "half"), NotInSlicer),
        (lambda qt: setattr(qt.QWidget(), "width", 5), NotInSlicer),
        (lambda qt: qt.QLabel(text="a"), TypeError),
        (lambda qt: qt.QLabel("a").setText(text="b"), TypeError),
        (lambda qt: qt.QLabel(Path("a")), TypeError),
        (lambda qt: qt.QSpinBox().setValue(np.int64(3)), TypeError),
        (lambda qt: qt.QPushButton("a").connect("pushed()", print), NotInSlicer),
        (lambda qt: qt.QPushButton("a").connect("clicked(int)", print), NotInSlicer),
        (lambda qt: qt.QPushButton("a").connect("clicked()", "no function"), TypeError),
        (lambda qt: qt.Signal, NotInSlicer),
        (lambda qt: qt.Slot, NotInSlicer),
        (lambda qt: qt.Property, NotInSlicer),
        (lambda qt: qt.QtWidgets, NotInSlicer),
        (lambda qt: qt.Qt.AlignmentFlag.AlignLeft, NotInSlicer),
        (lambda qt: qt.QSizePolicy.Policy.Fixed, NotInSlicer),
        (lambda qt: qt.QLabel("a").nothing, NotInSlicer),
        (lambda qt: qt.QMenu().exec_(), NotInSlicer),
        (lambda qt: sys.modules["ctk"].ctkNothing, NotInSlicer),
        (lambda qt: sys.modules["ctk"].ctkPathLineEdit()._line, NotInSlicer),
        (lambda qt: slicer.qMRMLNodeComboBox().connect("currentNodeChanged(PyObject)", print), NotInSlicer),
        (lambda qt: register_sample(customDownloader=print), TypeError),
        (lambda qt: register_sample(customDownloader=print, uris=[]), TypeError),
        (lambda qt: register_sample(uris=["a", "b"], fileNames=["a"]), ValueError),
        (lambda qt: slicer.modules.volumes, NotInSlicer),
        (lambda qt: slicer.app.coreIOManager(), NotInSlicer),
        (lambda qt: slicer.util.loadVolume("a.nrrd"), NotInSlicer),
    ],
)
def test_what_slicer_refuses_is_refused(qt, what, error):
    with pytest.raises(error):
        what(qt)


def register_sample(**values) -> None:
    sys.modules["SampleData"].SampleDataLogic.registerCustomSampleDataSource(sampleName="Sample", **values)


def test_enums_are_ints(qt):
    label = qt.QLabel("a")
    label.alignment = qt.Qt.AlignLeft | qt.Qt.AlignTop
    assert label.alignment == qt.Qt.AlignLeft | qt.Qt.AlignTop
    assert qt.QMessageBox.Ok == 1024
    assert isinstance(qt.QMessageBox.Ok | qt.QMessageBox.Cancel, int)
    label.setSizePolicy(qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed))
    assert label.sizePolicy.horizontalPolicy() == qt.QSizePolicy.Expanding


def test_objects_are_the_same_each_time(qt):
    box, inner = qt.QWidget(), qt.QLabel("a")
    layout = qt.QVBoxLayout(box)
    layout.addWidget(inner)
    assert box.layout() is layout
    assert layout.itemAt(0).widget() is inner
    assert inner.parent() is box
    assert isinstance(layout, qt.QBoxLayout)
    assert inner in box.children()
    assert box.findChildren("QLabel") == (inner,)
    inner.delete() if hasattr(inner, "delete") else inner.deleteLater()


def test_a_destroyed_object_says_so(qt):
    import shiboken6

    label = qt.QLabel("a")
    shiboken6.delete(unwrap(label))
    assert not label
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text


def test_signals_give_as_many_values_as_are_taken(qt):
    button, got = qt.QPushButton("a"), []
    button.connect("clicked(bool)", lambda checked: got.append(("one", checked)))
    button.connect("clicked(bool)", lambda: got.append("none"))
    button.connect("clicked()", lambda *values: got.append(values))
    button.clicked.connect(lambda checked=True: got.append(("attribute", checked)))
    button.click()
    assert got == [("one", False), "none", (), ("attribute", False)]
    got.clear()

    def listen() -> None:
        got.append("listened")

    button.connect("pressed()", listen)
    button.disconnect("pressed()", listen)
    button.pressed()
    assert got == []


def test_errors_in_slots_are_kept_for_the_test(qt, capsys):
    button = qt.QPushButton("a")
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert [type(error) for error in signals.errors] == [ZeroDivisionError]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_timers_and_processes(qt):
    ticks, process = [], qt.QProcess()
    timer = qt.QTimer()
    timer.setInterval(1)
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start()
    qt.QTimer.singleShot(0, lambda: ticks.append("once"))
    wait_until(lambda: len(ticks) > 3)
    timer.stop()
    assert "once" in ticks
    process.start(sys.executable, ["-c", "print('hello')"])
    assert process.waitForFinished(20000)
    assert bytes(unwrap(process.readAllStandardOutput()).data()).strip() == b"hello"


def test_python_subclasses_override_virtual_methods(qt):
    class Line(qt.QLineEdit):
        def __init__(self, parent=None):
            super().__init__(parent)
            self.seen = []

        def keyPressEvent(self, event):
            self.seen.append(event.text())
            super().keyPressEvent(event)

    class Filter(qt.QObject):
        def eventFilter(self, watched, event):
            return watched is line and event.type() == qt.QEvent.KeyPress

    line, guard = Line(), Filter()
    QTest.keyClicks(unwrap(line), "ab")
    assert line.seen == ["a", "b"]
    assert line.text == "ab"
    line.installEventFilter(guard)
    QTest.keyClicks(unwrap(line), "c")
    assert line.text == "ab"


def test_dialogs_are_answered(qt, host):
    slicer.util.errorDisplay("No main window yet")
    host.main_window.show()
    host.answers.shown.clear()
    slicer.util.errorDisplay("Something is wrong")
    assert host.answers.shown == ["Something is wrong"]
    assert slicer.util.confirmYesNoDisplay("Sure?")
    host.answers.act = lambda dialog: dialog.button(dialog.StandardButton.No).click()
    assert not slicer.util.confirmYesNoDisplay("Sure?")
    host.answers.act = None
    host.answers.files[:] = ["chosen"]
    assert qt.QFileDialog.getExistingDirectory(None, "Choose", "") == "chosen"
    with pytest.raises(AssertionError, match="file dialog"):
        qt.QFileDialog.getExistingDirectory(None, "Choose", "")


def test_hands_reach_only_what_a_user_reaches(qt):
    box = qt.QWidget()
    layout = qt.QVBoxLayout(box)
    button, combo, line = qt.QPushButton("a"), qt.QComboBox(), qt.QLineEdit()
    combo.addItems(["first", "second", "third"])
    for widget in (button, combo, line):
        layout.addWidget(widget)
    pressed = []
    button.connect("clicked()", lambda: pressed.append(1))
    with pytest.raises(OutOfReach, match="not visible"):
        click(button)
    box.show()
    click(button)
    assert pressed == [1]
    button.enabled = False
    with pytest.raises(OutOfReach, match="disabled"):
        click(button)
    choose(combo, "third")
    assert combo.currentText == "third"
    with pytest.raises(OutOfReach, match="offers no"):
        choose(combo, "fourth")
    write(line, "hello")
    write(line, "again")
    assert line.text == "again"
    box.hide()


def test_tables_sliders_and_drops(qt, tmp_path):
    class Place(qt.QFrame):
        def dragEnterEvent(self, event):
            if event.mimeData().hasUrls():
                event.acceptProposedAction()

        def dropEvent(self, event):
            assert event.pos().x() > 0  # as in Qt 5
            self.got = [url.toLocalFile() for url in event.mimeData().urls()]
            event.acceptProposedAction()

    box, table, place = qt.QWidget(), qt.QTableWidget(2, 2), Place()
    layout, slider, got = qt.QVBoxLayout(box), sys.modules["ctk"].ctkSliderWidget(), []
    for widget in (table, slider, place):
        layout.addWidget(widget)
    item = qt.QTableWidgetItem("second")
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsSelectable)
    item.setCheckState(qt.Qt.Unchecked)
    table.setItem(1, 0, item)
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.connect("cellClicked(int,int)", lambda row, column: got.append((row, column)))
    slider.connect("valueChanged(double)", lambda value: got.append(value))
    slider.singleStep = 1.0
    slider.setRange(0, 1000)
    place.minimumHeight = 40
    box.show()
    select_cell(table, 1)
    assert got == [(1, 0)]
    assert table.selectedItems() == (item,)
    assert item.text() == "second"
    select_cell(table, 1, on_check_box=True)
    assert item.checkState() == qt.Qt.Checked
    got.clear()
    slide(slider, 2)
    assert got == [1.0, 2.0]
    with pytest.raises(OutOfReach, match="takes no files"):
        drop(place, [tmp_path])
    place.acceptDrops = True
    drop(place, [tmp_path])
    assert place.got == [str(tmp_path)]
    with pytest.raises(OutOfReach, match="no cell"):
        select_cell(table, 5)
    box.hide()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("QPushButton", "QPressButton"), "knows no widget QPressButton"),
        (('name="text"', 'name="words"'), "has no property words"),
        (("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged()"), "no signal sceneChanged"),
        (("<slot>setMRMLScene", "<slot>setScene"), "no slot setScene"),
        (("Dirs", "Folders"), "Folders"),
    ],
)
def test_panels_that_slicer_would_load_in_part_are_refused(qt, tmp_path, change, says):
    panel = """<ui version="4.0"><class>P</class><widget class="qMRMLWidget" name="P"><layout class="QVBoxLayout" name="l">
    <item><widget class="QPushButton" name="b"><property name="text"><string>x</string></property></widget></item>
    <item><widget class="ctkPathLineEdit" name="p"><property name="filters"><set>ctkPathLineEdit::Dirs</set></property></widget></item>
    <item><widget class="qMRMLNodeComboBox" name="c"/></item></layout></widget>
    <connections><connection><sender>P</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>c</receiver>
    <slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""
    (tmp_path / "whole.ui").write_text(panel)
    widgets = slicer.util.childWidgetVariables(slicer.util.loadUI(str(tmp_path / "whole.ui")))
    assert widgets.p.filters == sys.modules["ctk"].ctkPathLineEdit.Dirs
    assert not widgets.c.enabled
    assert change[0] in panel
    (tmp_path / "broken.ui").write_text(panel.replace(*change))
    with pytest.raises(AttributeError, match=says):
        slicer.util.loadUI(str(tmp_path / "broken.ui"))
    with pytest.raises(RuntimeError, match="not found"):
        slicer.util.loadUI(str(tmp_path / "none.ui"))


def test_node_selectors_follow_the_scene(host, qt):
    combo = slicer.qMRMLNodeComboBox()
    got = []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: got.append(node and node.GetName()))
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.noneEnabled = True
    assert not combo.enabled
    combo.setMRMLScene(slicer.mrmlScene)
    assert combo.enabled
    assert combo.currentNode() is None
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "first")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "other")
    assert combo.nodeCount() == 1
    combo.setCurrentNode(first)
    assert combo.currentNode() is first
    assert combo.currentNodeID == first.GetID()
    slicer.mrmlScene.RemoveNode(first)
    assert got == ["first", None]
    slicer.mrmlScene.Clear()


def test_nothing_is_left_behind():
    """In a process of its own: another desktop is open in this one."""
    import subprocess

    program = (
        "import sys, slicer, slicer.util\n"
        "before, names = dict(sys.modules), set(vars(slicer))\n"
        "from Testing.host.desktop import desktop\n"
        "with desktop():\n"
        "    import ctk, qt, SampleData\n"
        "    from slicer.ScriptedLoadableModule import ScriptedLoadableModule\n"
        "    assert slicer.app.applicationName == 'Slicer'\n"
        "try:\n"
        "    with desktop() as running: raise KeyError\n"
        "except KeyError: pass\n"
        "names_of_windows = [window.objectName() for window in running.application.topLevelWidgets()]\n"
        "assert 'qSlicerMainWindow' not in names_of_windows\n"
        "for name in ('qt', 'ctk', 'SampleData', 'slicer.ScriptedLoadableModule', 'slicer.i18n'): assert name not in sys.modules, name\n"
        "left = set(vars(slicer)) - names\n"
        "assert not left, left\n"
        "assert not hasattr(slicer, 'app')\n"
    )
    paths = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "IntraopRecon", "ShapeCompletion")]
    program = f"import sys; sys.path[:0] = {paths!r}\n{program}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
