"""The module's own worker: real reconstructions in a real process, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import SimpleITK

from IntraopReconLib.core.config import ReconstructionConfig, SimulationConfig
from IntraopReconLib.core.pipeline import job_folder
from IntraopReconLib.core.simulate_case import simulate_case
from SparseAnatomyLib.host.WorkerProcess import WorkerProcess

CONFIG = ReconstructionConfig(method="splat", quality="preview", spacing_mm=3.0)


class Host:
    """The worker and what it has said."""

    def __init__(self):
        self.events = []
        self.worker = WorkerProcess("IntraopReconLib.worker", self.events.append)

    def wait(self, id, condition=lambda event: False):
        """Poll until the request is answered or an event meets the condition; return that event."""
        deadline = time.monotonic() + 240
        seen = 0
        while time.monotonic() < deadline:
            self.worker.poll()
            for event in self.events[seen:]:
                if event["id"] == id and (event["event"] in ("result", "failure") or condition(event)):
                    return event
            seen = len(self.events)
            time.sleep(0.01)
        raise AssertionError(f"No answer; only {self.events[-10:]}.")

    def kill(self):
        """Kill the worker, and poll until its death is noticed: only then does the next request go to a new one."""
        os.kill(self.worker.pid, signal.SIGKILL)
        while self.worker.isRunning:
            self.worker.poll()
            time.sleep(0.01)

    def reconstruct(self, case, out, config=None):
        return self.worker.request("reconstruct", case=str(case), out=str(out), config=(config or CONFIG).to_json())


@pytest.fixture(scope="module")
def host():
    host = Host()
    yield host
    host.worker.stop()


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    ball = SimpleITK.GaussianSource(SimpleITK.sitkFloat32, [40] * 3, [9, 6, 12], [0] * 3, 2000.0, [-39.0] * 3, [2.0] * 3)
    SimpleITK.WriteImage(SimpleITK.Cast(ball - 1000.0, SimpleITK.sitkInt16), str(folder / "ct.nrrd"))
    config = SimulationConfig(views=8, size_px=64, center_lps_mm=(0.0, 0.0, 0.0), radius_mm=None)
    simulate_case(folder / "ct.nrrd", folder / "case", config)
    return folder / "case"


def test_ping_and_warmup_are_answered_without_files(host):
    for kind in ("ping", "warmup"):
        assert host.wait(host.worker.request(kind))["paths"] == {}


def test_a_reconstruction_gives_previews_then_files_and_repeats_itself(host, case, tmp_path):
    volumes = []
    for name in ("first", "second"):
        id = host.reconstruct(case, tmp_path / name)
        answer = host.wait(id)
        previews = [event for event in host.events if event["id"] == id and event["event"] == "preview"]
        assert answer["event"] == "result" and Path(answer["paths"]["volume"]) == tmp_path / name / "volume.nrrd"
        assert previews and not job_folder(tmp_path / name).exists()
        volumes.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(answer["paths"]["volume"])))
    assert (volumes[0] == volumes[1]).all()
    said = [event["message"] for event in host.events if event["event"] == "warning" and event["id"] == id]
    assert said == json.loads((tmp_path / "second" / "report.json").read_text())["warnings"]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({}, "case"),
        ({"case": "{tmp}/nothing", "out": "{tmp}/out"}, "nothing"),
        ({"case": "{tmp}", "out": "{tmp}/out"}, "empty"),
        ({"case": "{case}", "out": "{case}/xrays"}, "xrays"),
        ({"case": "{case}", "out": "{tmp}/out", "config": {"quality": "superb"}}, "quality"),
        ({"case": "{case}", "out": "{tmp}/out", "config": 7}, "settings"),
        ({"case": "{case}", "out": 7}, "out"),
    ],
)
def test_bad_input_is_the_users_to_mend(host, case, tmp_path, payload, words):
    payload = {key: value.format(tmp=tmp_path, case=case) if isinstance(value, str) else value for key, value in payload.items()}
    answer = host.wait(host.worker.request("reconstruct", **payload))
    assert (answer["event"], answer["kind"]) == ("failure", "input"), answer
    assert words in answer["message"] and answer["remedy"] and not (tmp_path / "out").exists()


def test_cancel_ends_the_run_and_nothing_but_the_checkpoint_is_left(host, case, tmp_path):
    id = host.reconstruct(case, tmp_path / "out")
    host.wait(id, lambda event: event["event"] == "progress" and event["fraction"] > 0.05)
    host.worker.cancel(id)
    assert host.wait(id)["kind"] == "cancelled"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["job.partial"]


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9])
def test_a_killed_run_is_resumed_and_gives_a_whole_result(host, case, tmp_path, fraction):
    id = host.reconstruct(case, tmp_path / "out")
    host.wait(id, lambda event: event["event"] == "progress" and event["fraction"] >= fraction)
    host.kill()
    answer = host.wait(id)
    if answer["event"] == "failure":  # otherwise it was done just before
        assert answer["kind"] == "resource" and "checkpoint" in answer["remedy"]
        answer = host.wait(host.reconstruct(case, tmp_path / "out"))
    assert answer["event"] == "result", answer
    assert not job_folder(tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_costs_time_and_no_more(host, case, tmp_path, content):
    id = host.reconstruct(case, tmp_path / "out")
    host.wait(id, lambda event: event["event"] == "progress" and event["fraction"] > 0.6)
    host.kill()
    host.wait(id)
    damaged = [path for path in (job_folder(tmp_path / "out") / "checkpoint").rglob("*") if path.is_file()]
    for path in damaged:
        path.write_bytes(content)
    answer = host.wait(host.reconstruct(case, tmp_path / "out"))
    assert damaged and answer["event"] == "result", answer


def test_a_calibration_without_beads_is_refused_with_a_remedy(host, case):
    answer = host.wait(host.worker.request("calibrate", case=str(case)))
    assert (answer["event"], answer["kind"]) == ("failure", "input")
    assert "fiducials.mrk.json" in answer["message"]
    answer = host.wait(host.worker.request("calibrate", case=str(case), known_distance_mm="far"))
    assert (answer["event"], answer["kind"], answer["remedy"]) == ("failure", "input", "Give it in mm.")
