"""Windows that wait for an answer: a test says beforehand what the user will do, and sees afterwards what was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import QCoreApplication, QEvent, QThread, QTimer, QUrl
from PySide6.QtWidgets import QDialog, QMessageBox


@dataclass
class Answers:
    """What the user does with windows.

    Attributes:
        shown: The texts of the windows that have come up.
        files: What file dialogs answer, the next one first; an empty text cancels.
        opened: What was given to the programs of the desktop, such as the web browser.
        act: Does something with a window that is up; it is closed as by its default button otherwise.
    """

    shown: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    act: Callable[[QDialog], None] | None = None


answers = Answers()


def reset() -> None:
    """Forget what was shown and said."""
    answers.shown.clear()
    answers.files.clear()
    answers.opened.clear()
    answers.act = None


def run(dialog: QDialog) -> int:
    """Show a window until the user has answered it, and return the answer."""
    answers.shown.append(dialog.text() if isinstance(dialog, QMessageBox) else dialog.windowTitle())

    def answer() -> None:
        if answers.act is not None:
            answers.act(dialog)
        elif isinstance(dialog, QMessageBox) and dialog.buttons():
            (dialog.defaultButton() or _affirmative(dialog)).click()
        else:
            dialog.accept()

    QTimer.singleShot(0, dialog, answer)
    if QThread.currentThread().loopLevel():
        return dialog.exec()
    # Slicer's scripts run within its event loop, where deleteLater() waits for the end of exec(); a test's own code does not
    QCoreApplication.removePostedEvents(dialog, QEvent.Type.DeferredDelete.value)
    answered = dialog.exec()
    dialog.deleteLater()
    return answered


def _affirmative(box: QMessageBox) -> QtWidgets.QAbstractButton:
    roles = (QMessageBox.ButtonRole.AcceptRole, QMessageBox.ButtonRole.YesRole)
    return next((button for button in box.buttons() if box.buttonRole(button) in roles), box.buttons()[0])


def _answer_file(*_args) -> str:
    if not answers.files:
        raise AssertionError("A file dialog came up, and the test has said no file for it (desktop.answers.files).")
    return answers.files.pop(0)


class QFileDialog(QtWidgets.QFileDialog):
    """QFileDialog whose static functions answer what the test has said."""

    getExistingDirectory = getOpenFileName = getSaveFileName = staticmethod(_answer_file)

    @staticmethod
    def getOpenFileNames(*args) -> list[str]:
        name = _answer_file(*args)
        return [name] if name else []


class QInputDialog(QtWidgets.QInputDialog):
    """QInputDialog: not answered."""

    @staticmethod
    def getText(*_args) -> str:
        raise AssertionError("The test host answers no input dialogs.")

    getItem = getInt = getDouble = getText


class QDesktopServices(QtGui.QDesktopServices):
    """QDesktopServices that opens nothing and remembers what it was asked to open."""

    @staticmethod
    def openUrl(url: QUrl) -> bool:
        if not (isinstance(url, QUrl) and url.isValid()):
            raise TypeError(f"openUrl: expected a valid QUrl, got {url!r}.")
        answers.opened.append(url.toLocalFile() or url.toString())
        return True
