"""What the modules' logics share: one job at a time in a worker, told by signals, with the result brought into a scene."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.failures import explain

from .Signal import Signal
from .WorkerProcess import WorkerProcess

_ERRORS = {cls.kind: cls for cls in (InputError, ResourceError, Cancelled)}
_POLL_INTERVAL_S = 0.05


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


class WorkerLogic:
    """Runs jobs for one scene. Whoever owns it calls `poll` from a timer while `isRunning`.

    A failure is a message with a remedy and leaves the scene as it is.

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

    @property
    def isRunning(self) -> bool:
        """Whether a job is on its way."""
        return bool(self._requestId)

    def cancel(self) -> None:
        """Ask the running job to stop; `failed` comes within a second."""
        if self.isRunning:
            self._worker.cancel(self._requestId)

    def poll(self) -> None:
        """Take the worker's events; call it often from the main thread."""
        if self._worker is not None:
            self._worker.poll()

    def close(self) -> None:
        """Stop the worker, without a word about what it was doing."""
        self._requestId = ""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # For the modules' logics

    def _addResult(self, paths: dict[str, str]) -> Any:
        """Bring the worker's files, by role, into the scene and return the nodes."""
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
        try:
            for signal in signals:
                signal.connect(outcome.append)
            start()
            while not outcome:
                self.poll()
                (idle or _sleep)()
        finally:
            for signal in signals:
                signal.disconnect(outcome.append)
            self.cancel()  # only if the waiting was interrupted
        if isinstance(outcome[0], SparseAnatomyError):
            raise outcome[0]
        return outcome[0]

    def _take(self, event: dict[str, Any]) -> None:
        if not self.isRunning or event.get("id") != self._requestId:
            return  # of a request that is none of ours any more
        match event["event"]:
            case "progress":
                self.progressed.emit(event["fraction"], event["message"])
            case "warning":
                self.warned.emit(event["message"])
            case "preview":
                self._showPreview(Path(event["path"]))
            case "result":
                self._takeResult(event["paths"])
            case "failure":
                self._end(self.failed, _ERRORS.get(event["kind"], SparseAnatomyError)(event["message"], event["remedy"]))

    def _takeResult(self, paths: dict[str, str]) -> None:
        try:
            nodes = self._addResult(paths)
        except Exception as error:  # a panel shows no traceback: it goes to a log file
            self._end(self.failed, explain(error))
        else:
            self._end(self.finished, nodes)

    def _end(self, signal: Signal, outcome: Any) -> None:
        self._requestId = ""
        signal.emit(outcome)


def _sleep() -> None:
    time.sleep(_POLL_INTERVAL_S)
