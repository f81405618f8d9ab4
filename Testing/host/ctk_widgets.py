"""The widgets of CTK that panels use, with the properties, signals and slots of their headers."""

from __future__ import annotations

from PySide6.QtCore import Property, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QTextBrowser,
    QToolButton,
    QWidget,
)

from .dialogs import QFileDialog
from .ui_loader import stand_in
from .wrapping import invokable


@stand_in
class ctkCollapsibleButton(QAbstractButton):
    """A heading that hides and shows what is in it."""

    contentsCollapsed = Signal(bool)
    _MARGIN_PX = 6

    def __init__(self, *args) -> None:
        text, parent = (
            (args[0], args[1] if len(args) > 1 else None) if args and isinstance(args[0], str) else ("", args[0] if args else None)
        )
        super().__init__(parent)
        self.setText(text)
        self._collapsed = False
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred))
        self.setContentsMargins(0, self.head_px(), 0, 0)
        self.toggled.connect(lambda checked: self.setCollapsed(not checked))

    def isCollapsed(self) -> bool:
        return self._collapsed

    @invokable
    def setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        for child in self.children():
            if isinstance(child, QWidget):
                child.setVisible(not collapsed)
        self.setMaximumHeight(self.head_px() if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, isCollapsed, setCollapsed)

    def hitButton(self, position) -> bool:
        return position.y() < self.head_px()

    def sizeHint(self) -> QSize:
        return self._head().expandedTo(QWidget.sizeHint(self)) if self.layout() and not self._collapsed else self._head()

    def minimumSizeHint(self) -> QSize:
        return self._head().expandedTo(QWidget.minimumSizeHint(self)) if self.layout() and not self._collapsed else self._head()

    def _head(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self.head_px())

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter, option = QPainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self.head_px())
        option.text = self.text()
        self.style().drawPrimitive(QStyle.PrimitiveElement.PE_PanelButtonCommand, option, painter, self)
        arrow = QStyle.PrimitiveElement.PE_IndicatorArrowRight if self._collapsed else QStyle.PrimitiveElement.PE_IndicatorArrowDown
        area = option.rect.adjusted(self._MARGIN_PX, self._MARGIN_PX, 0, -self._MARGIN_PX)
        option.rect = area.adjusted(0, 0, area.height() - area.width(), 0)
        self.style().drawPrimitive(arrow, option, painter, self)
        painter.drawText(area.adjusted(area.height() + self._MARGIN_PX, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, self.text())

    def head_px(self) -> int:
        return self.fontMetrics().height() + 2 * self._MARGIN_PX


@stand_in
class ctkCollapsibleGroupBox(QGroupBox):
    """A group box whose check box hides what is in it."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.setCheckable(True)
        self.toggled.connect(self._show)

    def isCollapsed(self) -> bool:
        return not self.isChecked()

    @invokable
    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, isCollapsed, setCollapsed)

    def _show(self, shown: bool) -> None:
        for child in self.children():
            if isinstance(child, QWidget):
                child.setVisible(shown)


@stand_in
class ctkPathLineEdit(QWidget):
    """A path with a button that opens a file dialog; any text but none counts as valid where no name filters are set."""

    Dirs, Files, Drives, NoSymLinks, AllEntries = 0x1, 0x2, 0x4, 0x8, 0x7
    Readable, Writable, Executable, Hidden, NoDotAndDotDot, NoDot, NoDotDot = 0x10, 0x20, 0x40, 0x100, 0x1000, 0x2000, 0x4000
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._filters, self._name_filters, self._label, self._key = self.AllEntries | self.Readable, [], "", ""
        self._combo, self._browse, self._was_valid = QComboBox(self), QToolButton(self), False
        self._combo.setEditable(True)
        self._combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._combo.setMinimumContentsLength(7)
        self._combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._browse.setText("...")
        self._browse.setToolTip("Open a dialog")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._combo)
        layout.addWidget(self._browse)
        self._browse.clicked.connect(self.browse)
        self._line().textChanged.connect(self._on_text)

    def _line(self) -> QLineEdit:
        return self._combo.lineEdit()

    def _on_text(self, text: str) -> None:
        if text:  # that it was cleared, ctk does not tell as a path
            self.currentPathChanged.emit(text)
        if self._was_valid != bool(text):
            self._was_valid = bool(text)
            self.validInputChanged.emit(self._was_valid)

    def _path(self) -> str:
        return self._line().text()

    @invokable
    def setCurrentPath(self, path: str) -> None:
        self._line().setText(path)

    @invokable
    def browse(self) -> None:
        if not self._filters & self.Files:
            path = QFileDialog.getExistingDirectory(self, "Select a directory...", self._path())
        elif self._filters & self.Writable:
            path = QFileDialog.getSaveFileName(self, "Select a file to save", self._path())
        else:
            path = QFileDialog.getOpenFileName(self, "Open a file", self._path())
        if path:
            self.setCurrentPath(path)

    @invokable
    def addCurrentPathToHistory(self) -> None:
        if self._path() and self._combo.findText(self._path()) < 0:
            self._combo.insertItem(0, self._path())

    @invokable
    def retrieveHistory(self) -> None:
        pass  # nothing is kept from one test to the next

    currentPath = Property(str, _path, setCurrentPath, user=True)
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
    nameFilters = Property("QStringList", lambda self: self._name_filters, lambda self, value: setattr(self, "_name_filters", value))
    label = Property(str, lambda self: self._label, lambda self, value: setattr(self, "_label", value))
    settingKey = Property(str, lambda self: self._key, lambda self, value: setattr(self, "_key", value))
    showBrowseButton = Property(bool, lambda self: self._browse.isVisibleTo(self), lambda self, value: self._browse.setVisible(value))
    showHistoryButton = Property(bool, lambda self: True, lambda self, value: None)


class _SteppedSlider(QSlider):
    """A slider of 1000 steps that stands for any range."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.setRange(0, 1000)


@stand_in
class ctkSliderWidget(QWidget):
    """A slider and a spin box of one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider, self._spin, self._page, self._tracking = _SteppedSlider(self), QDoubleSpinBox(self), 10.0, True
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin)
        self._spin.setRange(0, 99)
        self._slider.valueChanged.connect(self._on_slider)
        self._slider.sliderReleased.connect(lambda: self.setValue(self._at_slider()))
        self._spin.valueChanged.connect(self._on_spin)

    def _at_slider(self) -> float:
        return self._spin.minimum() + self._slider.value() / 1000 * (self._spin.maximum() - self._spin.minimum())

    def _on_slider(self) -> None:
        if self._slider.isSliderDown() and not self._tracking:
            self.valueIsChanging.emit(self._at_slider())
        else:
            self.setValue(self._at_slider())

    def _on_spin(self, value: float) -> None:
        self._place_slider()
        self.valueChanged.emit(value)

    def _place_slider(self) -> None:
        extent = self._spin.maximum() - self._spin.minimum()
        self._slider.blockSignals(True)
        self._slider.setValue(round(1000 * (self._spin.value() - self._spin.minimum()) / extent) if extent else 0)
        self._slider.blockSignals(False)

    @invokable
    def setValue(self, value: float) -> None:
        if value != self._spin.value():  # the spin box would otherwise write its text anew while the user types
            self._spin.setValue(value)

    @invokable
    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
        self._place_slider()

    @invokable
    def reset(self) -> None:
        self.setValue(0.0)

    @invokable
    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin.setVisible(visible)

    value = Property(float, lambda self: self._spin.value(), setValue)
    minimum = Property(float, lambda self: self._spin.minimum(), lambda self, value: self.setRange(value, self._spin.maximum()))
    maximum = Property(float, lambda self: self._spin.maximum(), lambda self, value: self.setRange(self._spin.minimum(), value))
    decimals = Property(int, lambda self: self._spin.decimals(), lambda self, value: self._spin.setDecimals(value))
    singleStep = Property(float, lambda self: self._spin.singleStep(), lambda self, value: self._spin.setSingleStep(value))
    pageStep = Property(float, lambda self: self._page, lambda self, value: setattr(self, "_page", value))
    prefix = Property(str, lambda self: self._spin.prefix(), lambda self, value: self._spin.setPrefix(value))
    suffix = Property(str, lambda self: self._spin.suffix(), lambda self, value: self._spin.setSuffix(value))
    tracking = Property(bool, lambda self: self._tracking, lambda self, value: setattr(self, "_tracking", value))
    spinBoxVisible = Property(bool, lambda self: self._spin.isVisibleTo(self), setSpinBoxVisible)


@stand_in
class ctkDoubleSpinBox(QDoubleSpinBox):
    """A spin box."""


@stand_in
class ctkCheckBox(QCheckBox):
    """A check box."""


@stand_in
class ctkComboBox(QComboBox):
    """A combo box that says something where nothing is chosen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._default = ""

    def _set_default(self, text: str) -> None:
        self._default = text
        self.setPlaceholderText(text)

    defaultText = Property(str, lambda self: self._default, _set_default)


@stand_in
class ctkMessageBox(QMessageBox):
    """A message box that may be told not to come again."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._key = ""

    dontShowAgainSettingsKey = Property(str, lambda self: self._key, lambda self, value: setattr(self, "_key", value))


@stand_in
class ctkPushButton(QPushButton):
    """A push button."""


@stand_in
class ctkFittedTextBrowser(QTextBrowser):
    """A text of as many lines as it needs."""


@stand_in
class ctkRangeWidget(QWidget):
    """Two numbers, the lesser and the greater."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._spins = [QDoubleSpinBox(self), QDoubleSpinBox(self)]
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for spin in self._spins:
            layout.addWidget(spin)
            spin.setRange(0, 99)
        self._spins[1].setValue(99)
        self._spins[0].valueChanged.connect(lambda value: self._changed(0, value))
        self._spins[1].valueChanged.connect(lambda value: self._changed(1, value))

    def _changed(self, which: int, value: float) -> None:
        low, high = self._spins
        if low.value() > high.value():
            self._spins[1 - which].setValue(value)
        (self.minimumValueChanged, self.maximumValueChanged)[which].emit(value)
        self.valuesChanged.emit(low.value(), high.value())

    def _each(self, setter: str, value: float) -> None:
        for spin in self._spins:
            getattr(spin, setter)(value)

    @invokable
    def setValues(self, low: float, high: float) -> None:
        self._spins[0].setValue(low)
        self._spins[1].setValue(high)

    @invokable
    def setMinimumValue(self, value: float) -> None:
        self._spins[0].setValue(value)

    @invokable
    def setMaximumValue(self, value: float) -> None:
        self._spins[1].setValue(value)

    @invokable
    def setRange(self, minimum: float, maximum: float) -> None:
        self._each("setMinimum", minimum)
        self._each("setMaximum", maximum)

    minimumValue = Property(float, lambda self: self._spins[0].value(), setMinimumValue)
    maximumValue = Property(float, lambda self: self._spins[1].value(), setMaximumValue)
    minimum = Property(float, lambda self: self._spins[0].minimum(), lambda self, value: self._each("setMinimum", value))
    maximum = Property(float, lambda self: self._spins[0].maximum(), lambda self, value: self._each("setMaximum", value))
    decimals = Property(int, lambda self: self._spins[0].decimals(), lambda self, value: self._each("setDecimals", value))
    singleStep = Property(float, lambda self: self._spins[0].singleStep(), lambda self, value: self._each("setSingleStep", value))
