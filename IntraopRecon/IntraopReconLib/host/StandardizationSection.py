"""Step 3 of the panel: X-rays of patients become images of bone, and what that changes can be seen beforehand."""

from __future__ import annotations

from SparseAnatomyLib.errors import SparseAnatomyError
from SparseAnatomyLib.host.Environment import environmentSentence, isReady
from SparseAnatomyLib.host.PictureView import PictureView
from SparseAnatomyLib.host.Translate import tr as _
from SparseAnatomyLib.host.Usable import Usable

from .Panel import Panel
from .PreparationLogic import STANDARDIZE
from .StandardizedPreview import BEFORE, SHOWN, StandardizedPreview, StandardizedView
from .ViewTable import shortName


class StandardizationSection:
    """Says whether X-rays are standardized and shows what that makes of them."""

    def __init__(self, panel: Panel) -> None:
        """Connect the widgets and the logic."""
        self._panel, self.ui, self._usable = panel, panel.ui, Usable()
        self._isShowing, self._isStopping = False, False
        self._names: list[str] = []
        self._shown: tuple | None = None
        self._picture = PictureView(self.ui.standardizationPicture)
        panel.preparation.standardized.connect(self._onStandardized)
        panel.preparation.failed.connect(self._onFailed)
        self.ui.standardizeComboBox.connect("currentTextChanged(QString)", self._onChoice)
        self.ui.tryStandardizationButton.connect("clicked(bool)", self._onTryOrCancel)
        self.ui.standardizedViewComboBox.connect("currentIndexChanged(int)", self._onView)
        self.ui.shownComboBox.connect("currentIndexChanged(int)", lambda _index: self._showPicture())
        self.ui.beforeAfterSlider.connect("valueChanged(int)", lambda _value: self._showPicture())

    def show(self) -> None:
        """Take what the scene says."""
        self._isShowing = True
        self.ui.standardizeComboBox.setCurrentText(self._panel.parameters.settings.standardize)
        self._isShowing = False

    def update(self) -> None:
        """Let the user do what can be done now, and show the X-ray that is looked at."""
        panel, isRunning = self._panel, self._isRunning
        self.ui.tryStandardizationButton.text = _("Cancel") if isRunning else _("See what it does")
        self._usable.allow(self.ui.standardizeComboBox, panel.reasonNotToPrepare())
        self._usable.allow(self.ui.tryStandardizationButton, "" if isRunning else self._reasonNotToTry())
        nothing = self._reasonNothingToSee()
        for widget in (self.ui.standardizedViewComboBox, self.ui.shownComboBox, self.ui.beforeAfterSlider):
            self._usable.allow(widget, nothing)
        self._fillNames()
        self.ui.standardizationLabel.text = nothing or self._viewText(self._view())
        self._showPicture()

    @property
    def _isRunning(self) -> bool:
        return self._panel.preparation.job == STANDARDIZE

    def _reasonNotToTry(self) -> str:
        panel = self._panel
        if panel.reasonNotRead():
            return panel.reasonNotRead()
        if panel.parameters.settings.standardize == "off":
            return _("The X-rays are not standardized: choose auto or on above.")
        return panel.reasonTooFew() or panel.reasonNotToPrepare() or ("" if isReady() else environmentSentence())

    def _reasonNothingToSee(self) -> str:
        """Return why there are no pictures."""
        preview = self._panel.standardized
        if self._panel.parameters.settings.standardize == "off":
            return _("The X-rays are reconstructed as they are.")
        if preview is None:
            return _("Nothing has been standardized yet: press See what it does. A reconstruction does it anyway.")
        return "" if preview.applies else preview.reason

    def _view(self) -> StandardizedView | None:
        """Return the X-ray that is looked at, if it has been standardized."""
        preview, current = self._panel.standardized, self._panel.current
        if self._reasonNothingToSee() or preview is None or current is None:
            return None
        return preview.views.get(current.name)

    def _viewText(self, view: StandardizedView | None) -> str:
        """Return what is to be said of an X-ray, and of all."""
        preview = self._panel.standardized
        if view is None:
            return _("This X-ray is left out of the reconstruction.")
        how = {
            "network": _("Bone by the trained network."),
            "classical": _("Bone without a network, which is less exact."),
            "original": _("This X-ray is left as it is."),
        }
        sentences = view.findings or (preview.reason,)
        return " ".join([how.get(view.used, view.used), *(text[:1].upper() + text[1:] for text in sentences)])

    def _fillNames(self) -> None:
        names = [view.name for view in self._panel.prepared.views] if self._panel.prepared else []
        self._isShowing = True
        if names != self._names:
            self._names = names
            self.ui.standardizedViewComboBox.clear()
            self.ui.standardizedViewComboBox.addItems([shortName(name) for name in names])
        current = self._panel.current
        if current is not None:
            self.ui.standardizedViewComboBox.setCurrentIndex(names.index(current.name))
        self._isShowing = False

    def _showPicture(self) -> None:
        """Show the X-ray at the left of the line and what becomes of it at the right."""
        view, kind = self._view(), SHOWN[max(self.ui.shownComboBox.currentIndex, 0)]
        shown = None if view is None else (view.pictures[BEFORE], view.pictures[kind])
        if shown != self._shown:
            self._shown = shown
            self._picture.show(None if shown is None else shown[0], (1, 1) if view is None else view.sizePx)
            if shown is not None:
                self._picture.showOver(shown[1], self.ui.beforeAfterSlider.value / 100)
        elif shown is not None:
            self._picture.showOver(None, self.ui.beforeAfterSlider.value / 100)

    def _onChoice(self, text: str) -> None:
        if not self._isShowing:
            self._panel.standardized = None
            self._panel.keep(standardize=text)

    def _onView(self, index: int) -> None:
        if not self._isShowing and 0 <= index < len(self._names):
            self._panel.goTo(self._names[index])

    def _onTryOrCancel(self, _checked: bool = False) -> None:
        panel = self._panel
        if self._isRunning:
            self._isStopping = True
            panel.say(_("Stopping …"))
            panel.preparation.cancel()
            return
        settings = panel.parameters.settings
        try:
            panel.preparation.standardize(str(panel.prepared.folder), settings.standardize, panel.parameters.skipped)
        except SparseAnatomyError as error:
            panel.fail(error)
            return
        panel.warn()
        panel.say(_("Starting …"))
        panel.changed.emit()

    def _onStandardized(self, preview: StandardizedPreview) -> None:
        panel = self._panel
        panel.standardized = preview
        panel.say(preview.reason)
        if preview.warnings:
            panel.warn(*preview.warnings)
        panel.changed.emit()

    def _onFailed(self, error: SparseAnatomyError) -> None:
        """Say that what the user has stopped is stopped; everything else is said in step 1."""
        stopping, self._isStopping = self._isStopping, False
        if error.kind == "cancelled" and stopping:
            self._panel.fail(error)
