"""The serve loop, spoken to through real pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SparseAnatomyLib.protocol import (
    MAX_LINE_BYTES,
    Failure,
    Preview,
    Progress,
    ProtocolError,
    Request,
    Result,
    Started,
    Warn,
    parse_event,
    read_lines,
    request_line,
)

HERE = Path(__file__).parent
LIBRARY = HERE.parents[1] / "IntraopRecon"


class Worker:
    """A small_worker behind pipes."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "small_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(LIBRARY)])},
        )
        self.events = self._read()

    def _read(self):
        for line in read_lines(self.process.stdout):
            with contextlib.suppress(ProtocolError):  # chatter that looks like an event
                if event := parse_event(line):
                    yield event

    def ask(self, id, kind, **payload):
        self.write(request_line(Request(id, kind, payload)))

    def write(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def until_answer(self, id):
        """Return the events up to the answer to this request, that included."""
        seen = []
        for event in self.events:
            seen.append(event)
            if event.id == id and isinstance(event, Result | Failure):
                return seen
        raise AssertionError(f"No answer to {id}, only {seen}.")


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.process.stdin.close()
    try:
        worker.process.wait(10)
    finally:
        worker.process.kill()
        worker.process.stdout.close()


def wait_for(path):
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} did not appear."
        time.sleep(0.01)


def test_a_job_starts_and_gives_its_files_and_the_worker_stays_warm(worker, tmp_path):
    for n in range(3):
        path = tmp_path / f"{n} – größer.txt"
        worker.ask(f"job{n}", "echo", path=str(path), text=f"text {n}")
        assert worker.until_answer(f"job{n}") == [Started(f"job{n}"), Result(f"job{n}", {"text": str(path)})]
        assert path.read_text() == f"text {n}"


@pytest.mark.parametrize(
    ("line", "id", "words"),
    [
        (b"hello\n", "", "not JSON"),
        (b"[]\n", "", "JSON object"),
        (b"\x00\xff\n", "", "not JSON"),
        (b"{" + b'"a":1,' * (MAX_LINE_BYTES // 2) + b"}\n", "", "not JSON"),
        (b'{"id": "j", "protocol_version": 99, "kind": "echo", "payload": {}}\n', "j", "protocol_version"),
        (b'{"id": "j", "protocol_version": 1, "kind": "fly", "payload": {}}\n', "j", "kind: expected one of echo"),
        (b'{"id": "j", "protocol_version": 1, "kind": "echo"}\n', "j", "payload"),
    ],
)
def test_a_bad_request_is_answered_and_the_next_is_served(worker, tmp_path, line, id, words):
    worker.write(line)
    [failure] = worker.until_answer(id)
    assert failure.kind == "input" and words in failure.message and failure.remedy
    worker.ask("good", "echo", path=str(tmp_path / "t"), text="t")
    assert isinstance(worker.until_answer("good")[-1], Result)


def test_a_missing_field_of_the_payload_is_the_users_to_mend(worker):
    worker.ask("j", "echo", text="no path")
    failure = worker.until_answer("j")[-1]
    assert failure.kind == "input" and "path" in failure.message and failure.remedy


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("input", "input", "View 3 is black."),
        ("memory", "resource", "memory"),
        ("torch", "resource", "memory"),
        ("disk", "resource", "disk is full while writing volume.nrrd"),
        ("package", "resource", "torch is not installed"),
        ("exit", "internal", "SystemExit"),
    ],
)
def test_failures_have_a_kind_and_a_remedy(worker, tmp_path, error, kind, words):
    worker.ask("j", "fail", error=error, log=str(tmp_path / "log.txt"))
    failure = worker.until_answer("j")[-1]
    assert failure.kind == kind and words in failure.message and failure.remedy
    assert "Traceback" not in failure.message + failure.remedy
    worker.ask("k", "echo", path=str(tmp_path / "t"), text="still here")
    assert isinstance(worker.until_answer("k")[-1], Result)


def test_the_traceback_of_an_internal_error_is_in_the_log_and_nowhere_else(worker, tmp_path):
    log = tmp_path / "job" / "log.txt"
    worker.ask("j", "fail", error="internal", log=str(log))
    failure = worker.until_answer("j")[-1]
    assert failure.kind == "internal" and str(log) in failure.remedy
    assert "secret" not in failure.message + failure.remedy
    assert "KeyError: 'a secret detail'" in log.read_text() and "Traceback" in log.read_text()


def test_a_cancel_stops_the_running_job(worker, tmp_path):
    worker.ask("j", "long", path=str(tmp_path / "running"))
    wait_for(tmp_path / "running")
    worker.ask("c", "cancel", target="j")
    events = worker.until_answer("j")
    assert events[0] == Started("j") and isinstance(events[1], Progress)
    assert events[-1].kind == "cancelled"


def test_a_second_request_waits_and_can_be_cancelled_while_it_waits(worker, tmp_path):
    worker.ask("first", "long", path=str(tmp_path / "running"))
    worker.ask("second", "echo", path=str(tmp_path / "second"), text="t")
    worker.ask("third", "echo", path=str(tmp_path / "third"), text="t")
    wait_for(tmp_path / "running")
    worker.ask("c", "cancel", target="second")
    events = worker.until_answer("second")
    assert events[-1].kind == "cancelled" and Started("second") not in events
    worker.ask("c", "cancel", target="first")
    assert worker.until_answer("first")[-1].kind == "cancelled"
    assert isinstance(worker.until_answer("third")[-1], Result)
    assert not (tmp_path / "second").exists()


def test_a_cancel_of_nothing_and_an_id_in_use_do_no_harm(worker, tmp_path):
    for target in ("unknown", None, 3, ["x"]):
        worker.ask("c", "cancel", target=target)
    worker.ask("j", "long", path=str(tmp_path / "running"))
    wait_for(tmp_path / "running")
    worker.ask("j", "echo", path=str(tmp_path / "t"), text="t")
    assert "id: expected a new one" in worker.until_answer("j")[-1].message
    worker.ask("c", "cancel", target="j")
    assert worker.until_answer("j")[-1].kind == "cancelled"


def test_what_libraries_print_is_no_event(worker):
    worker.ask("j", "chatter", read=True)
    events = worker.until_answer("j")
    assert events == [Started("j"), Progress("j", 1.0, "done"), Result("j", {"stdin": "''"})]


def test_previews_and_warnings_come_through(worker):
    worker.ask("j", "preview")
    assert [type(event) for event in worker.until_answer("j")] == [Started, Preview, Preview, Warn, Result]


@pytest.mark.parametrize("kind", [None, "long", "deaf"])
def test_the_worker_leaves_when_its_host_dies(tmp_path, kind):
    worker = Worker()
    child = None
    if kind:
        worker.ask("j", kind, path=str(tmp_path / "running"))
        wait_for(tmp_path / "running")
        child = (tmp_path / "running").read_text()
    worker.process.stdin.close()
    worker.process.stdout.close()
    try:
        assert worker.process.wait(30) in (0, 3)
    finally:
        worker.process.kill()
        if child and child.isdigit():
            os.kill(int(child), signal.SIGKILL)
