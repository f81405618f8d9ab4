"""The host's side of a worker: starts it, sends requests, delivers its events on the main thread, kills it when it does not listen.

Needs no Qt: whoever owns it calls `poll()` from a timer (every 50 to 100 ms) or a loop.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from SparseAnatomyLib.errors import Cancelled, ResourceError, SparseAnatomyError
from SparseAnatomyLib.failures import append_log
from SparseAnatomyLib.protocol import (
    CANCEL,
    MAX_LINE_BYTES,
    UPDATE_REMEDY,
    Failure,
    Preview,
    ProtocolError,
    Request,
    Result,
    VersionError,
    event_values,
    parse_event,
    request_line,
)

from .ChildProcess import ChildProcess
from .Signal import Signal

CANCEL_GRACE_S = 1.0
STOP_GRACE_S = 1.0
_SIGKILL = -9  # as subprocess reports it; nobody but the system sends it to a worker that we still wait for


class WorkerProcess:
    """One worker, kept warm.

    Every request is answered by exactly one event `result` or `failure` (but for those that `stop` drops), whatever happens to the
    process. Events are the dictionaries of `protocol.event_values`, such as `{"event": "progress", "id": ..., "fraction": 0.5, ...}`.

    Attributes:
        onEvent: Signal; called with each event, from within `poll`.
    """

    def __init__(self, module: str, on_event: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Prepare the worker that `python -m module` is; nothing is started yet."""
        self.onEvent = Signal()
        if on_event is not None:
            self.onEvent.connect(on_event)
        self._module = module
        self._child: ChildProcess | None = None
        self._pending: dict[str, Request] = {}
        self._cancelDeadlines: dict[str, float] = {}

    @property
    def isRunning(self) -> bool:
        """Whether the process is alive."""
        return self._child is not None and self._child.isAlive

    @property
    def isBusy(self) -> bool:
        """Whether a request has no answer yet."""
        return bool(self._pending)

    @property
    def pid(self) -> int | None:
        """The process's id, for whoever watches its memory; None where there is no process."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the process unless it runs.

        Raises:
            ResourceError: The system refuses, or there is no Python to start it with.
        """
        while self._child is not None and not self._child.isAlive:
            self.poll()  # its last words and its death belong to the requests it had
        if self._child is None:
            self._child = ChildProcess(self._module)

    def request(self, kind: str, **payload: Any) -> str:
        """Send a request, starting the process where needed.

        Args:
            kind: One of the worker's.
            payload: JSON-ready values; what is large travels as a file.

        Returns:
            The request's id, which its events carry.

        Raises:
            ResourceError: As `start`.
        """
        request = Request(uuid.uuid4().hex, kind, payload)
        line = request_line(request)
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"payload: expected less than {MAX_LINE_BYTES} bytes, got {len(line)}.")
        self.start()
        self._pending[request.id] = request
        self._child.send(line)
        return request.id

    def cancel(self, id: str) -> None:
        """Ask a job to stop: its failure of kind `cancelled` comes within about a second, by force if need be."""
        if id in self._pending and id not in self._cancelDeadlines and self._child is not None:
            self._cancelDeadlines[id] = time.monotonic() + CANCEL_GRACE_S
            self._child.send(request_line(Request(uuid.uuid4().hex, CANCEL, {"target": id})))

    def poll(self) -> None:
        """Deliver what has come since the last call; call it often, from the main thread."""
        child = self._child
        if child is None:
            return
        for line in child.newLines():
            self._take(line)
            if self._child is not child:
                return  # a listener has stopped or restarted the worker
        if child.hasEnded:
            self._bury(child)
        elif any(deadline < time.monotonic() for deadline in self._cancelDeadlines.values()):
            self._killForCancel()

    def stop(self) -> None:
        """End the process: politely, then by force. Requests without an answer are dropped; no event comes any more."""
        self._pending.clear()
        self._cancelDeadlines.clear()
        self._discard(grace_s=STOP_GRACE_S)

    def _take(self, line: bytes) -> None:
        try:
            event = parse_event(line)
        except VersionError as error:
            self._discard()
            self._failAll(SparseAnatomyError(f"The computing process is of another version. {error}", UPDATE_REMEDY))
            return
        except ProtocolError:
            event = None
        if event is None:
            self._child.chatter.append(line)
        elif event.id in self._pending:
            if isinstance(event, Preview) and not Path(event.path).is_file():
                return  # the job has ended and tidied up
            if isinstance(event, Result):
                event = _checked(event)
            if isinstance(event, Result | Failure):
                self._forget(event.id)
            self.onEvent.emit(event_values(event))

    def _forget(self, id: str) -> None:
        del self._pending[id]
        self._cancelDeadlines.pop(id, None)

    def _discard(self, grace_s: float = 0.0) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(grace_s)

    def _failAll(self, error: SparseAnatomyError) -> None:
        for id in list(self._pending):
            self._fail(id, Cancelled() if id in self._cancelDeadlines else error)

    def _fail(self, id: str, error: SparseAnatomyError) -> None:
        if id in self._pending:  # a listener may have stopped the worker meanwhile
            self._forget(id)
            self.onEvent.emit(event_values(Failure(id, error.kind, error.message, error.remedy)))

    def _bury(self, child: ChildProcess) -> None:
        self._discard()
        if self._pending:
            self._failAll(_causeOfDeath(child))

    def _killForCancel(self) -> None:
        """Kill the worker that does not answer a cancel; jobs that only waited behind it go to a new one."""
        self._discard()
        cancelled = list(self._cancelDeadlines)
        waiting = [request for request in self._pending.values() if request.id not in cancelled]
        try:
            for request in waiting:
                self.start()
                self._child.send(request_line(request))
        except ResourceError as error:
            self._failAll(error)
        for id in cancelled:
            self._fail(id, Cancelled())


def _checked(result: Result) -> Result | Failure:
    """Return the result if the files it names are there, otherwise the failure that it is."""
    missing = [path for path in result.paths.values() if not Path(path).exists()]
    if not missing:
        return result
    message = f"The computing process says that it is done, but {missing[0]} is not there."
    return Failure(result.id, "internal", message, "Check that the folder still exists and that nothing cleans it up, then run it again.")


def _causeOfDeath(child: ChildProcess) -> SparseAnatomyError:
    again = "Run it again: a reconstruction goes on from its last checkpoint."
    if child.exitCode == _SIGKILL:
        message = "The system has ended the computing process, most likely because the memory was full."
        return ResourceError(message, f"Close other programs, or choose a larger voxel spacing or a smaller region. {again}")
    log = append_log(child.lastWords())
    where = f" If it happens twice, report it with this log file: {log}" if log else ""
    return SparseAnatomyError(f"The computing process has ended unexpectedly (exit code {child.exitCode}).", f"{again}{where}")
