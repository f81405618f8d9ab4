"""The worker's serve loop: requests in on stdin, events out on stdout, one job at a time on the main thread.

A request that comes while a job runs waits its turn. A cancel is read by the reader thread at once: a waiting job is answered there and
then, the running one by the next call of its `report`, which raises Cancelled. The worker ends when stdin closes: its host is gone.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .errors import Cancelled, InputError
from .failures import explain
from .protocol import (
    CANCEL,
    PROTOCOL_VERSION,
    UPDATE_REMEDY,
    Event,
    Failure,
    Preview,
    Progress,
    ProtocolError,
    Request,
    Result,
    Started,
    Warn,
    event_line,
    parse_request,
    read_lines,
)
from .threads import let_idle_threads_sleep

PROGRESS_INTERVAL_S = 0.05  # more often than a bar can move would only fill the pipe of a busy host
ORPHAN_GRACE_S = 5.0  # how long a job may take to notice that its host has died


class Job:
    """A running request, as its handler sees it.

    Attributes:
        payload: What came with the request.
        log_file: Where the traceback of an internal error goes; a handler sets it once it knows its folder.
    """

    def __init__(self, request: Request, emit: Callable[[Event], None]) -> None:
        self.id = request.id
        self.payload = request.payload
        self.log_file: Path | None = None
        self.cancelled = threading.Event()
        self._emit = emit
        self._last_progress_s = float("-inf")

    def report(self, fraction: float, message: str) -> None:
        """Tell the host how far the job is.

        Raises:
            Cancelled: The host has asked to stop, or is gone.
        """
        if self.cancelled.is_set():
            raise Cancelled()
        now_s = time.monotonic()
        if fraction >= 1 or now_s - self._last_progress_s >= PROGRESS_INTERVAL_S:
            self._last_progress_s = now_s
            self._emit(Progress(self.id, min(max(float(fraction), 0.0), 1.0), message))

    def preview(self, path: Path) -> None:
        """Tell the host that an intermediate result lies at `path`."""
        self._emit(Preview(self.id, str(path)))

    def warn(self, message: str) -> None:
        """Tell the user something that does not stop the job."""
        self._emit(Warn(self.id, message))

    def text(self, name: str) -> str:
        """Return a text of the payload.

        Raises:
            InputError: It is missing, empty or something else.
        """
        value = self.payload.get(name)
        if not (isinstance(value, str) and value):
            raise InputError(f"The request does not say its {name}.", f"Give a path or a name as {name}.")
        return value


Handler = Callable[[Job], Mapping[str, Path | str]]
"""Does the job and returns its files by their role; raises SparseAnatomyErrors."""


def serve(handlers: Mapping[str, Handler]) -> int:
    """Answer requests until stdin closes.

    Takes the process's stdin and stdout for itself: what anything else prints goes to stderr, and what anything else reads is empty.

    Args:
        handlers: By request kind.

    Returns:
        The process's exit code.
    """
    let_idle_threads_sleep()
    requests, events = _take_standard_streams()
    worker = _Worker(handlers, events)
    reader = threading.Thread(target=worker.read, args=(requests,), daemon=True, name="requests")
    reader.start()
    worker.work()
    return 0


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return private copies of stdin and stdout; point the public ones to nothing and to stderr.

    On the level of file descriptors, for C libraries print too. (On Windows a DLL that is loaded while another thread waits on the
    process's own stdin would hang: the public one must not be that pipe.)
    """
    requests = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, events


class _Worker:
    def __init__(self, handlers: Mapping[str, Handler], events: BinaryIO) -> None:
        self._handlers = handlers
        self._events = events
        self._write_lock = threading.Lock()
        self._jobs: dict[str, Job] = {}  # waiting and running
        self._jobs_lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Job, Handler] | None] = queue.SimpleQueue()
        self._running = ""
        self._host_gone = False

    # the reader thread

    def read(self, requests: BinaryIO) -> None:
        """Take requests until stdin closes, then see to it that the process ends."""
        for line in read_lines(requests):
            if not line.strip():
                continue
            try:
                self._accept(parse_request(line))
            except ProtocolError as error:
                self._refuse(error)
        self._leave()
        time.sleep(ORPHAN_GRACE_S)
        os._exit(Cancelled.exit_code)  # the job reports to nobody and does not look up

    def _accept(self, request: Request) -> None:
        if request.kind == CANCEL:
            self._cancel(request.payload.get("target"))
            return
        handler = self._handlers.get(request.kind)
        if handler is None:
            raise ProtocolError(f"kind: expected one of {', '.join([*self._handlers, CANCEL])}.", request.id)
        job = Job(request, self._emit)
        with self._jobs_lock:
            if request.id in self._jobs:
                raise ProtocolError("id: expected a new one, got that of a job which waits or runs.", request.id)
            self._jobs[request.id] = job
        self._queue.put((job, handler))

    def _refuse(self, error: ProtocolError) -> None:
        message = f"The worker (protocol {PROTOCOL_VERSION}) does not understand a request. {error}"
        self._emit(Failure(error.request_id, "input", message, UPDATE_REMEDY))

    def _cancel(self, target: Any) -> None:
        with self._jobs_lock:
            job = self._jobs.get(target) if isinstance(target, str) else None
            if job is None:
                return  # it has ended meanwhile: its result or failure is on the way
            job.cancelled.set()
            waiting = self._running != job.id
            if waiting:
                del self._jobs[job.id]
        if waiting:
            error = Cancelled()
            self._emit(Failure(job.id, error.kind, error.message, error.remedy))

    def _leave(self) -> None:
        with self._jobs_lock:
            self._host_gone = True
            for job in self._jobs.values():
                job.cancelled.set()
        self._queue.put(None)

    # the main thread

    def work(self) -> None:
        """Do the jobs in the order they came until the host is gone."""
        while (item := self._queue.get()) is not None and not self._host_gone:
            job, handler = item
            with self._jobs_lock:
                if job.id not in self._jobs or self._jobs[job.id] is not job:
                    continue  # cancelled while it waited
                self._running = job.id
            self._run(job, handler)

    def _run(self, job: Job, handler: Handler) -> None:
        self._emit(Started(job.id))
        try:
            paths = {role: str(path) for role, path in handler(job).items()}
            answer: Event = Result(job.id, paths)
        except BaseException as error:  # a handler that calls sys.exit must not take the worker along
            known = explain(error, job.log_file)
            answer = Failure(job.id, known.kind, known.message, known.remedy)
        with self._jobs_lock:  # before the answer: the host may use the id again once it has it
            del self._jobs[job.id]
            self._running = ""
        self._emit(answer)

    # both

    def _emit(self, event: Event) -> None:
        line = event_line(event)
        try:
            with self._write_lock:
                while line:
                    line = line[self._events.write(line) :]
        except OSError:  # nobody listens: the reader will see stdin close
            self._leave()
