"""The line at the top of a panel that says which packages are missing, and installs them on a click, with a word before and one after."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import slicer

from SparseAnatomyLib.host import Requirements

from .Environment import environmentSentence, missingPackages
from .ErrorDetails import errorDetails
from .Installation import sharedInstallation
from .Requirements import Package, missing
from .TorchExtension import hasTorchExtension
from .Translate import tr as _
from .Usable import Usable

POLL_INTERVAL_MS = 50
_LONGEST_LINE = 120  # characters of what pip says


class InstallLine:
    """Not to be seen where nothing is missing.

    Attributes:
        box: All of it.
        label: What is missing, what will be done, what is being done, or what went wrong.
        progressBar: Moves while packages are installed.
        installButton: Asks, then installs.
        cancelButton: Goes back, or stops.
        extensionsButton: Opens the Extensions Manager, where the PyTorch extension is missing.
        copyButton: Copies what went wrong with all that pip has written.
    """

    def __init__(self, above: Any, moduleName: str, onReadiness: Callable[[], None]) -> None:
        """Build it.

        Args:
            above: Widget of the panel under which it stands.
            moduleName: Name of the Slicer module, for the details of an error.
            onReadiness: Called when an installation has begun or ended, well or not: what can be done in the panel is another then.
        """
        import qt

        self._moduleName, self._onReadiness, self._usable = moduleName, onReadiness, Usable()
        self._installation, self._isAsking = sharedInstallation(), False
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._installation.poll)
        self._build(above)
        self.installButton.connect("clicked(bool)", self._onInstall)
        self.cancelButton.connect("clicked(bool)", self._onCancel)
        self.extensionsButton.connect("clicked(bool)", lambda _checked: slicer.app.openExtensionsManagerDialog())
        self.copyButton.connect("clicked(bool)", self._onCopy)
        self._installation.changed.connect(self.update)
        self._installation.ended.connect(self._onInstalled)
        self.update()

    def close(self) -> None:
        """Hear nothing any more; what was started here ends here."""
        self._installation.changed.disconnect(self.update)
        self._installation.ended.disconnect(self._onInstalled)
        if self._timer.active:
            self._timer.stop()
            self._installation.close()

    def update(self) -> None:
        """Say what is missing now, or how far the installation is."""
        running, error, lacking = self._installation.isRunning, self._installation.error, _lacking()
        self._isAsking = self._isAsking and not running and bool(_installable(lacking))
        self.box.visible = running or bool(lacking) or _isTold(error)
        self.progressBar.visible = running
        self.installButton.visible = not running and bool(_installable(lacking))
        self.cancelButton.visible = running or self._isAsking
        self.extensionsButton.visible = (
            not running and Requirements.TORCH in lacking and not hasTorchExtension() and _hasExtensionsManager()
        )
        self.copyButton.visible = not running and not self._isAsking and _isTold(error)
        self.installButton.text = _("Install") if self._isAsking else _("Install…")
        self.cancelButton.text = _("Cancel") if running else _("Not now")
        self._usable.allow(self.cancelButton, self._installation.reasonNotToCancel)
        if running:
            self.label.text = _("Installing: {line}").format(line=_shortened(self._installation.line))
        elif self._isAsking:
            self.label.text = _question(_installable(lacking))
        else:
            self.label.text = " ".join([*([str(error)] if error else []), *([_statement(lacking)] if lacking else [])])

    def _build(self, above: Any) -> None:
        import qt

        self.box = qt.QFrame()
        self.box.setFrameShape(qt.QFrame.StyledPanel)
        column, row = qt.QVBoxLayout(self.box), qt.QHBoxLayout()
        self.label, self.progressBar = qt.QLabel(), qt.QProgressBar()
        self.label.wordWrap = True
        self.progressBar.setRange(0, 0)
        self.progressBar.textVisible = False
        self.installButton, self.cancelButton, self.extensionsButton, self.copyButton = (qt.QPushButton() for _n in range(4))
        self.extensionsButton.text = _("Extensions Manager…")
        self.copyButton.text = _("Copy details")
        self.installButton.toolTip = _("Install the packages that are missing; what will be done is said first")
        self.cancelButton.toolTip = _("Leave everything as it is")
        self.extensionsButton.toolTip = _("Open Slicer's Extensions Manager: search for PyTorch there, install it, restart Slicer")
        self.copyButton.toolTip = _("Copy the problem, the versions and all that pip has written, to send them to those who can help")
        for button in (self.installButton, self.extensionsButton, self.cancelButton, self.copyButton):
            row.addWidget(button)
        column.addWidget(self.label)
        column.addWidget(self.progressBar)
        column.addLayout(row)
        for name in ("box", "label", "progressBar", "installButton", "cancelButton", "extensionsButton", "copyButton"):
            getattr(self, name).objectName = f"install_{name}"
        panelLayout = above.parentWidget().layout()
        panelLayout.insertWidget(panelLayout.indexOf(above) + 1, self.box)

    def _onInstall(self, _checked: bool = False) -> None:
        """Say what will be done, then do it."""
        wanted = _installable(_lacking())
        if not self._isAsking or not wanted:
            self._isAsking = bool(wanted)
            self.update()
            return
        self._timer.start(POLL_INTERVAL_MS)
        self._installation.start(wanted)
        self._onReadiness()

    def _onCancel(self, _checked: bool = False) -> None:
        if self._installation.isRunning:
            self._installation.cancel()
        else:
            self._isAsking = False
            self.update()

    def _onInstalled(self) -> None:
        self._timer.stop()
        self.update()
        self._onReadiness()

    def _onCopy(self, _checked: bool = False) -> None:
        import qt

        details = errorDetails(self._installation.error, self._moduleName)
        qt.QApplication.clipboard().setText(f"{details}\n\n{self._installation.output}\n")


def _lacking() -> list[Package]:
    return [*missingPackages(), *missing(Requirements.optional())]


def _installable(packages: Iterable[Package]) -> list[Package]:
    """Return those that a click here can install."""
    return [
        package for package in packages if package not in Requirements.BUNDLED and (package != Requirements.TORCH or hasTorchExtension())
    ]


def _hasExtensionsManager() -> bool:
    return hasattr(getattr(slicer, "app", None), "openExtensionsManagerDialog")


def _isTold(error: Exception | None) -> bool:
    return error is not None and error.kind != "cancelled"


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def _listed(packages: Iterable[Package]) -> str:
    """Return names and what is downloaded, such as `numba, Jinja2 (65 MB)`."""
    byPip = [package for package in packages if package != Requirements.TORCH]
    megabytes, names = sum(package.megabytes for package in byPip), ", ".join(package.name for package in byPip)
    return _("{names} (about {megabytes} MB)").format(names=names, megabytes=megabytes)


def _torchText() -> str:
    return _("{name} (about {megabytes} MB, with an NVIDIA graphics card up to 3 GB)").format(
        name=Requirements.TORCH.name, megabytes=Requirements.TORCH.megabytes
    )


def _statement(packages: list[Package]) -> str:
    """Return what is missing, and what it takes where a click does not do."""
    useful = [package for package in packages if package in Requirements.optional()]
    needed = [package for package in packages if package not in (*Requirements.BUNDLED, *useful, Requirements.TORCH)]
    texts = [*([_torchText()] if Requirements.TORCH in packages else []), *([_listed(needed)] if needed else [])]
    sentences = [_("Python packages are missing: {names}.").format(names="; ".join(texts))] if texts else []
    if useful:
        purposes = ", ".join(dict.fromkeys(package.purpose for package in useful))
        sentences.append(_("Missing for some things ({purposes}): {names}.").format(purposes=purposes, names=_listed(useful)))
    if Requirements.TORCH in packages and not hasTorchExtension():
        sentences.append(
            _("PyTorch comes with Slicer's extension PyTorch: install that one in the Extensions Manager, restart Slicer, then come back.")
        )
    if any(package in Requirements.BUNDLED for package in packages):
        sentences.append(environmentSentence())
    return " ".join(sentences)


def _question(packages: list[Package]) -> str:
    """Return what will be done once the user agrees."""
    sentences = []
    if packages != [Requirements.TORCH]:
        text = _("{names} will be downloaded from the Python Package Index (pypi.org) and installed into Slicer's Python.")
        sentences.append(text.format(names=_listed(packages)))
    if Requirements.TORCH in packages:
        text = _("{name} will be installed by Slicer's PyTorch extension, in its own way: Slicer does not answer for some minutes.")
        sentences.append(text.format(name=_torchText()))
    sentences.append(
        _("This needs a connection to the internet. No patient data are sent, and what Slicer brings along stays as it is. Install now?")
    )
    return " ".join(sentences)
