"""What the modules' logics share: one job at a time in a worker, told by signals, with the result brought into a scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.failures import explain

from .Signal import Signal
from .WorkerProcess import WorkerProcess

_ERRORS = {cls.kind: cls for cls in (InputError, ResourceError, Cancelled)}
_POLL_INTERVAL_S = 0.05
CANCEL_S = 0.8  # a job that has not ended by then counts as cancelled: the worker is killed soon after if it does not listen
STEPS_S = 0.02  # a poll takes no further step of bringing a result in once it has spent this long


class Worker(Protocol):
    """What a logic needs of a worker process: see `WorkerProcess`."""

    def request(self, kind: str, **payload: Any) -> str:
        """Send a request and return its id."""

    def cancel(self, id: str) -> None:
        """Ask a job to stop."""

    def poll(self) -> None:
        """Deliver the events that have come."""

    def stop(self) -> None:
        """End the process."""


MakeWorker = Callable[[Callable[[dict[str, Any]], None]], Worker]
"""Makes a worker, given the function that takes its events."""


REST = True
Adding = Generator[bool | None, None, Any]
"""Brings a result into the scene in steps that do not block for long; returns the nodes. Closed early, it takes back what it added.

After `yield` another step may come in the same poll. `yield REST` leaves what follows to the next one: the last step has to share its poll
with what the panel does about the end.
"""


@dataclass(frozen=True)
class Errand:
    """A job beside the one that is told by signals, such as a small question to the worker.

    Attributes:
        done: Called with the files by their role.
        failed: Called with what is wrong.
        progressed: Called with fraction and message.
        warned: Called with a sentence for the user.
    """

    done: Callable[[dict[str, str]], None]
    failed: Callable[[SparseAnatomyError], None]
    progressed: Callable[[float, str], None] = lambda fraction, message: None
    warned: Callable[[str], None] = lambda message: None


class WorkerLogic:
    """Runs jobs for one scene. Whoever owns it calls `poll` from a timer.

    A failure is a message with a remedy and leaves the scene as it is. A result comes into the scene in steps, a few at each poll, so that
    the application goes on meanwhile.

    Attributes:
        progressed: Signal(fraction, message).
        warned: Signal(message).
        finished: Signal(nodes): the result is in the scene.
        failed: Signal(SparseAnatomyError): it is not; kind `cancelled` when the user has asked for that.
    """

    def __init__(self, scene, module: str, makeWorker: MakeWorker | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            scene: vtkMRMLScene.
            module: The worker is `python -m module`.
            makeWorker: Makes another worker instead.
        """
        self.progressed, self.warned, self.finished, self.failed = Signal(), Signal(), Signal(), Signal()
        self._scene = scene
        self._makeWorker = makeWorker or (lambda onEvent: WorkerProcess(module, onEvent))
        self._worker: Worker | None = None
        self._requestId = ""
        self._errands: dict[str, Errand] = {}
        self._adding: Adding | None = None  # the result on its way into the scene
        self._stopBy: float | None = None  # the user has asked to stop

    @property
    def isRunning(self) -> bool:
        """Whether a job is on its way."""
        return bool(self._requestId)

    @property
    def isLoading(self) -> bool:
        """Whether the job is done and its result on the way into the scene."""
        return self._adding is not None

    def cancel(self) -> None:
        """Ask the running job to stop; `failed` comes within a second."""
        if self._adding is not None:
            self._endWith(Cancelled())
        elif self.isRunning and self._stopBy is None:
            self._stopBy = time.monotonic() + CANCEL_S
            self._worker.cancel(self._requestId)

    def poll(self) -> None:
        """Take the worker's events, and the next steps of bringing a result in; call it often from the main thread."""
        if self._worker is not None:
            self._worker.poll()
        if self._stopBy is not None and time.monotonic() > self._stopBy:
            self._endWith(Cancelled())
        if self._adding is not None:
            self._takeSteps()

    def ask(self, kind: str, errand: Errand, /, **payload: Any) -> str:
        """Give the worker a job beside the one that is told by signals; it waits its turn.

        Args:
            kind: One of the worker's.
            errand: Told how it ends, from within `poll`.
            payload: JSON-ready values.

        Returns:
            The errand's id.

        Raises:
            ResourceError: The worker cannot be started.
        """
        id = self._readyWorker().request(kind, **payload)
        self._errands[id] = errand
        return id

    def withdraw(self, id: str) -> None:
        """Cancel an errand; it is told nothing any more."""
        if self._errands.pop(id, None) is not None:
            self._worker.cancel(id)

    def close(self) -> None:
        """Stop the worker, without a word about what it was doing."""
        self._forgetJob()
        self._errands.clear()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # For the modules' logics

    def _addResult(self, paths: dict[str, str]) -> Adding:
        """Bring the worker's files, by role, into the scene step by step and return the nodes."""
        raise NotImplementedError

    def _showPreview(self, path: Path) -> None:
        """Show an intermediate result."""

    def _readyWorker(self) -> Worker:
        if self._worker is None:
            self._worker = self._makeWorker(self._take)
        return self._worker

    def _wait(self, start: Callable[[], None], idle: Callable[[], None] | None) -> Any:
        """Start a job, wait for it, and return what `finished` tells or raise what `failed` does; an interrupt cancels the job."""
        outcome: list[Any] = []
        signals = (self.finished, self.failed)
        hasStarted = False
        try:
            for signal in signals:
                signal.connect(outcome.append)
            start()
            hasStarted = True
            while not outcome:
                self.poll()
                if idle or self._adding is None:
                    (idle or _sleep)()
        finally:
            for signal in signals:
                signal.disconnect(outcome.append)
            if hasStarted:  # otherwise what runs was begun by somebody else, such as the panel
                self.cancel()  # does something only if the waiting was interrupted
        if isinstance(outcome[0], SparseAnatomyError):
            raise outcome[0]
        return outcome[0]

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("id") in self._errands:
            self._takeErrand(event)
        elif self.isRunning and event.get("id") == self._requestId:
            self._takeEvent(event)  # otherwise it is of a request that is none of ours any more

    def _takeErrand(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "progress":
                self._errands[event["id"]].progressed(event["fraction"], event["message"])
            case "warning":
                self._errands[event["id"]].warned(event["message"])
            case "result":
                self._errands.pop(event["id"]).done(event["paths"])
            case "failure":
                self._errands.pop(event["id"]).failed(errorOf(event))

    def _takeEvent(self, event: dict[str, Any]) -> None:
        stopping = self._stopBy is not None
        match event["event"]:
            case "progress" if not stopping:
                self.progressed.emit(event["fraction"], event["message"])
            case "warning" if not stopping:
                self.warned.emit(event["message"])
            case "preview" if not stopping:
                self._showPreview(Path(event["path"]))
            case "result" if stopping:  # it was done just before
                self._endWith(Cancelled())
            case "result":
                self._takeResult(event["paths"])
            case "failure":
                self._endWith(errorOf(event))

    def _takeResult(self, paths: dict[str, str]) -> None:
        self._adding = self._addResult(paths)

    def _takeSteps(self) -> None:
        until = time.perf_counter() + STEPS_S
        try:
            while next(self._adding) is not REST and time.perf_counter() < until:
                pass
        except StopIteration as done:
            self._end(self.finished, done.value)
        except Exception as error:  # a panel shows no traceback: it goes to a log file
            self._endWith(explain(error))

    def _endWith(self, error: SparseAnatomyError) -> None:
        self._end(self.failed, error)

    def _end(self, signal: Signal, outcome: Any) -> None:
        self._forgetJob()
        signal.emit(outcome)

    def _forgetJob(self) -> None:
        adding, self._adding = self._adding, None
        self._requestId, self._stopBy = "", None
        if adding is not None:
            adding.close()


def finished(adding: Adding) -> Any:
    """Take all steps at once and return the nodes."""
    while True:
        try:
            next(adding)
        except StopIteration as done:
            return done.value


def errorOf(failure: dict[str, Any]) -> SparseAnatomyError:
    """Return the error that an event `failure` tells."""
    return _ERRORS.get(failure["kind"], SparseAnatomyError)(failure["message"], failure["remedy"])


def _sleep() -> None:
    time.sleep(_POLL_INTERVAL_S)
