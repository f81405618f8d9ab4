"""Installs the packages that are missing, on the user's word: pip in a process of its own, PyTorch through its extension.

Needs no Qt: whoever starts it calls `poll()` from a timer. Both panels share one, as they share the packages.
"""

from __future__ import annotations

import functools
import importlib
import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from SparseAnatomyLib.errors import Cancelled, ResourceError, SparseAnatomyError
from SparseAnatomyLib.failures import explain
from SparseAnatomyLib.host import Requirements

from .ChildProcess import ChildProcess
from .PipFailures import pipError
from .Requirements import Package, constraintLines, installArguments, installedVersions, listArguments, missing
from .Signal import Signal
from .TorchExtension import installTorch
from .Translate import tr as _

_UNPACKS = "Installing collected packages"  # pip's word for it: from here on, stopping would leave half a package
_LAST_GRACE_S = 20.0

Plan = Generator[list[str] | None, list[str], None]
"""Yields what pip is asked, one after the other, and is sent the lines of its answers; None lets the panel be drawn first."""


class Installation:
    """One installation at a time.

    Attributes:
        changed: Signal(): what is being done is another.
        ended: Signal(): it is done, or not; see `error`.
        line: What is being done: pip's last word.
        error: Why the last one has failed; None if it has not, kind `cancelled` where the user has stopped it.
    """

    def __init__(self) -> None:
        self.changed, self.ended = Signal(), Signal()
        self.line, self.error = "", None
        self._packages: Sequence[Package] = ()
        self._plan: Plan | None = None
        self._child: ChildProcess | None = None
        self._answer: list[str] = []
        self._output: list[str] = []
        self._isUnpacking = self._isAdvancing = self._isListing = False

    @property
    def isRunning(self) -> bool:
        """Whether packages are being installed."""
        return self._plan is not None

    @property
    def output(self) -> str:
        """All that pip was asked and has written."""
        return "\n".join(self._output)

    @property
    def reasonNotToCancel(self) -> str:
        """Why it cannot be stopped now, for the user; empty if it can."""
        if self._isUnpacking:
            return _("The packages are being unpacked, which takes less than a minute: stopping now would leave half of one.")
        if self.isRunning and self._child is None:
            return _("PyTorch is being installed by its own extension.")
        return ""

    def start(self, packages: Sequence[Package]) -> None:
        """Begin, unless it is under way.

        Args:
            packages: What is to be installed; PyTorch only where its extension is there.
        """
        if not self.isRunning:
            self.line, self.error, self._packages = "", None, packages
            self._output.clear()
            self._plan = _plan(packages)
            self._advance(None)

    def poll(self) -> None:
        """Take what pip has written, and go on when it is done; call it often, from the main thread."""
        if not self.isRunning or self._isAdvancing:
            return
        if self._child is None:
            self._advance([])
            return
        for line in self._child.newLines():
            self._take(line.decode("utf-8", errors="backslashreplace"))
        if self._child.hasEnded:
            child, self._child = self._child, None
            child.end(_LAST_GRACE_S)
            self._isUnpacking = False
            if child.exitCode == 0:
                self._advance(self._answer)
            else:
                self._end(pipError("\n".join(self._answer)))

    def cancel(self) -> None:
        """Stop, unless it is too late for that."""
        if self.isRunning and not self.reasonNotToCancel:
            self._discard()
            self._end(Cancelled(_("Cancelled: what was not installed before is not installed now.")))

    def close(self) -> None:
        """Stop for good; what is being unpacked is waited for."""
        if self._child is not None:
            self._discard(_LAST_GRACE_S if self._isUnpacking else 0.0)
            self._end(Cancelled())

    def _take(self, line: str) -> None:
        self._answer.append(line)
        self._output.append(line)
        self._isUnpacking = self._isUnpacking or line.startswith(_UNPACKS)
        self.line = self.line if self._isListing else line.strip() or self.line
        self.changed.emit()

    def _advance(self, answer: list[str] | None) -> None:
        """Take the next step of the plan."""
        self._isAdvancing = True  # PyTorch's extension lets timers go on meanwhile
        try:
            arguments = next(self._plan) if answer is None else self._plan.send(answer)
            if arguments is None:
                self.line = _("PyTorch is being installed by its extension: Slicer does not answer until that is done.")
            else:
                self._output.append(f"pip {' '.join(arguments)}")
                self._answer, self._isListing = [], arguments == listArguments()
                self.line = _("pip looks at what is installed …") if self._isListing else self.line
                self._child = ChildProcess("pip", arguments, {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"})
        except StopIteration:
            self._end(self._reasonNotFound())
        except Exception as error:  # a panel shows no traceback: it goes to a log file
            self._end(explain(error))
        finally:
            self._isAdvancing = False
        self.changed.emit()

    def _reasonNotFound(self) -> SparseAnatomyError | None:
        importlib.invalidate_caches()
        if not missing(self._packages):
            return None
        return ResourceError(_("The packages are installed, but this Slicer does not see them yet."), _("Restart Slicer."))

    def _discard(self, graceS: float = 0.0) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(graceS)
        self._isUnpacking = False

    def _end(self, error: SparseAnatomyError | None) -> None:
        plan, self._plan = self._plan, None
        plan.close()
        importlib.invalidate_caches()
        self.error = error
        self.ended.emit()


@functools.cache
def sharedInstallation() -> Installation:
    """Return the one of this Slicer."""
    return Installation()


def _plan(packages: Sequence[Package]) -> Plan:
    """Ask what is there, then install what everything needs, PyTorch, and what only some things need."""
    listed = yield listArguments()
    installed = installedVersions(listed)
    with _file(constraintLines(installed)) as constraints, _file(constraintLines(installed, withInstallTools=False)) as forTorch:
        torch, optional = Requirements.TORCH, (*Requirements.OPTIONAL, Requirements.WARP)
        needed = [package for package in packages if package not in (torch, *optional)]
        if needed:
            yield installArguments(needed, constraints)
        if torch in packages:
            yield None
            installTorch(forTorch)
        useful = [package for package in packages if package in optional]
        if useful:
            yield installArguments(useful, constraints)


@contextmanager
def _file(lines: Sequence[str]) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix="SparseAnatomy-constraints-", suffix=".txt")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
