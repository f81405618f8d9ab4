"""The host's side: every request gets exactly one answer, whatever happens to the process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SparseAnatomyLib.host import ChildProcess
from SparseAnatomyLib.host.Signal import Signal
from SparseAnatomyLib.host.WorkerProcess import WorkerProcess
from SparseAnatomyLib.protocol import MAX_LINE_BYTES

HERE = Path(__file__).parent


class Host:
    """A worker process, polled like a panel does, and what it has said."""

    def __init__(self, module="small_worker"):
        self.events = []
        self.worker = WorkerProcess(module, self.events.append)

    def of(self, id):
        return [event for event in self.events if event["id"] == id]

    def answers(self, id):
        return [event for event in self.of(id) if event["event"] in ("result", "failure")]

    def poll_until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, f"It did not happen; only {self.events[-20:]} did."
            self.worker.poll()
            time.sleep(0.005)

    def answer(self, id):
        self.poll_until(lambda: self.answers(id))
        [answer] = self.answers(id)
        return answer


@pytest.fixture
def host(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    host = Host()
    yield host
    host.worker.stop()
    assert not host.worker.isRunning


def is_alive(pid):
    """Whether a process runs (a zombie that nobody has reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_request_starts_the_worker_and_the_next_finds_it_warm(host, tmp_path):
    first = host.worker.request("echo", path=str(tmp_path / "a"), text="a")
    assert host.answer(first) == {"event": "result", "id": first, "paths": {"text": str(tmp_path / "a")}}
    pid = host.worker.pid
    second = host.worker.request("echo", path=str(tmp_path / "b"), text="b")
    host.answer(second)
    assert host.worker.pid == pid and [e["event"] for e in host.of(second)] == ["started", "result"]
    assert not host.worker.isBusy


def test_our_own_environment_is_left_alone(host, tmp_path):
    before = dict(os.environ)
    host.answer(host.worker.request("echo", path=str(tmp_path / "a"), text="a"))
    assert dict(os.environ) == before


def test_cancel_ends_the_job_and_keeps_the_worker(host, tmp_path):
    id = host.worker.request("long", path=str(tmp_path / "running"))
    host.poll_until(lambda: (tmp_path / "running").exists())
    pid = host.worker.pid
    host.worker.cancel(id)
    host.worker.cancel(id)
    host.worker.cancel("unknown")
    assert host.answer(id)["kind"] == "cancelled"
    host.answer(host.worker.request("echo", path=str(tmp_path / "a"), text="a"))
    assert host.worker.pid == pid


def test_a_worker_deaf_to_cancel_is_killed_with_its_children_and_who_waited_is_served(host, tmp_path):
    id = host.worker.request("deaf", path=str(tmp_path / "child"))
    waiting = host.worker.request("echo", path=str(tmp_path / "a"), text="a")
    host.poll_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    pid, child = host.worker.pid, int((tmp_path / "child").read_text())
    host.worker.cancel(id)
    assert host.answer(id)["kind"] == "cancelled"
    assert not is_alive(pid) and not is_alive(child)
    assert host.answer(waiting)["event"] == "result"


def test_stop_kills_the_tree_and_is_silent(host, tmp_path):
    host.worker.request("deaf", path=str(tmp_path / "child"))
    host.poll_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    pid, child = host.worker.pid, int((tmp_path / "child").read_text())
    count = len(host.events)
    host.worker.stop()
    host.worker.stop()
    host.worker.poll()
    assert len(host.events) == count and not is_alive(pid) and not is_alive(child)
    assert not host.worker.isBusy and not host.worker.isRunning


@pytest.mark.parametrize(("how", "kind"), [("kill", "resource"), ("crash", "internal")])
def test_an_unexpected_death_is_a_failure_with_a_remedy_and_the_next_request_is_served(host, tmp_path, how, kind):
    id = host.worker.request("die", how=how)
    also = host.worker.request("echo", path=str(tmp_path / "a"), text="a")
    answer = host.answer(id)
    assert answer["kind"] == kind and "checkpoint" in answer["remedy"]
    assert host.answer(also)["kind"] == kind
    if how == "crash":
        log = Path(answer["remedy"].rpartition(": ")[2])
        assert "exit code 11" in answer["message"] and "my last words" in log.read_text()
        log.unlink()
    assert host.answer(host.worker.request("echo", path=str(tmp_path / "b"), text="b"))["event"] == "result"


def test_a_request_to_a_dead_worker_answers_the_old_ones_first(host, tmp_path):
    old = host.worker.request("long", path=str(tmp_path / "running"))
    host.poll_until(lambda: (tmp_path / "running").exists())
    os.kill(host.worker.pid, signal.SIGKILL)
    while host.worker.isRunning:
        time.sleep(0.005)
    new = host.worker.request("echo", path=str(tmp_path / "a"), text="a")
    assert host.answers(old)[0]["kind"] == "resource"
    assert host.answer(new)["event"] == "result"


def test_a_kill_at_any_moment_leaves_one_answer_each(host, tmp_path):
    rng = random.Random(0)
    for n in range(8):
        ids = [host.worker.request("echo", path=str(tmp_path / f"{n}{m}"), text="t") for m in range(3)]
        ids.append(host.worker.request("long", path=str(tmp_path / f"running{n}")))
        moment = time.monotonic() + rng.uniform(0, 0.2)
        while time.monotonic() < moment:
            host.worker.poll()
        os.kill(host.worker.pid, signal.SIGKILL)
        for id in ids:
            answer = host.answer(id)
            assert answer["event"] == "result" or (answer["kind"] == "resource" and answer["remedy"])


def test_a_result_that_names_a_missing_file_is_a_failure(host, tmp_path):
    answer = host.answer(host.worker.request("promise", path=str(tmp_path / "volume.nrrd")))
    assert answer["event"] == "failure" and answer["kind"] == "internal"
    assert str(tmp_path / "volume.nrrd") in answer["message"] and answer["remedy"]


def test_a_preview_counts_only_if_it_is_there(host):
    id = host.worker.request("preview")
    host.answer(id)
    assert [event["event"] for event in host.of(id)] == ["started", "preview", "warning", "result"]


def test_chatter_and_giant_lines_are_no_events(host):
    id = host.worker.request("chatter")
    host.answer(id)
    assert [event["event"] for event in host.of(id)] == ["started", "progress", "result"]


def test_a_worker_that_cannot_be_imported_is_a_failure(tmp_path):
    host = Host("no_such_worker")
    answer = host.answer(host.worker.request("ping"))
    log = Path(answer["remedy"].rpartition(": ")[2])
    assert answer["kind"] == "internal" and "no_such_worker" in log.read_text()
    log.unlink()
    host.worker.stop()


def test_a_worker_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    line = '@SparseAnatomy {"protocol_version": 2, "event": "started", "id": "x"}'
    (tmp_path / "newer_worker.py").write_text(f"import sys\nprint({line!r}, flush=True)\nsys.stdin.read()\n")
    host = Host("newer_worker")
    answer = host.answer(host.worker.request("ping"))
    assert "another version" in answer["message"] and "Restart" in answer["remedy"]
    assert not host.worker.isRunning


def test_a_listener_may_ask_again_or_stop_from_within_an_event(host, tmp_path):
    again = []

    def retry(event):
        if event["event"] == "failure" and not again:
            again.append(host.worker.request("echo", path=str(tmp_path / "a"), text="a"))
        elif event["event"] == "result":
            host.worker.stop()

    host.worker.onEvent.connect(retry)
    id = host.worker.request("deaf", path=str(tmp_path / "child"))
    host.poll_until(lambda: (tmp_path / "child").exists())
    host.worker.cancel(id)
    host.poll_until(lambda: again and host.answers(again[0]))
    assert host.answers(again[0])[0]["event"] == "result" and not host.worker.isRunning


def test_a_listener_that_raises_loses_no_other_event(host):
    class Mistake(Exception):
        pass

    def stumble(event):
        if event["event"] in ("preview", "warning"):
            raise Mistake

    host.worker.onEvent.connect(stumble)
    id = host.worker.request("preview")
    mistakes = 0
    while not host.answers(id):
        try:
            host.poll_until(lambda: host.answers(id))
        except Mistake:
            mistakes += 1
    assert mistakes == 2 and [event["event"] for event in host.of(id)] == ["started", "preview", "warning", "result"]


def test_a_giant_request_is_a_programmers_mistake(host):
    with pytest.raises(ValueError, match="payload"):
        host.worker.request("echo", text="x" * MAX_LINE_BYTES)
    assert not host.worker.isBusy


def test_inside_slicer_the_worker_runs_on_its_python(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    monkeypatch.setattr(ChildProcess.shutil, "which", lambda name: f"/opt/Slicer/bin/{name}")
    assert ChildProcess.pythonExecutable() == "/opt/Slicer/bin/python-real"
    monkeypatch.setattr(ChildProcess.shutil, "which", lambda name: {"PythonSlicer": "/opt/Slicer/bin/PythonSlicer"}.get(name))
    assert ChildProcess.pythonExecutable() == "/opt/Slicer/bin/PythonSlicer"


def test_importing_the_host_side_imports_no_torch():
    code = "import sys, SparseAnatomyLib.host.WorkerProcess; sys.exit(any(m in sys.modules for m in ('torch', 'slicer', 'qt', 'vtk')))"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "IntraopRecon")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_a_signal_calls_each_function_once_until_it_is_disconnected():
    seen = []
    signal_ = Signal()
    signal_.connect(seen.append)
    signal_.connect(seen.append)
    signal_.emit(1)
    signal_.disconnect(seen.append)
    signal_.disconnect(seen.append)
    signal_.emit(2)
    assert seen == [1]
