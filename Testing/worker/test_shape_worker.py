"""The module's own worker: real completions in a real process, which stays warm and survives bad requests."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ShapeCompletionLib.core.calibration import Temperature
from ShapeCompletionLib.core.config import CompletionConfig, InrSettings
from ShapeCompletionLib.core.config_check import config_to_json
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host.WorkerProcess import WorkerProcess
from SparseAnatomyLib.volumes import sitk_image

GRID = VoxelGrid.box([20.0, -30.0, 50.0], 56.0, 1.0)
ROLES = {"shape", "probability", "mesh_vtp", "report_json"}


class Host:
    """The worker and what it has said."""

    def __init__(self):
        self.events = []
        self.worker = WorkerProcess("ShapeCompletionLib.worker", self.events.append)

    def answer(self, id):
        """Poll until the request is answered."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            self.worker.poll()
            for event in self.events:
                if event["id"] == id and event["event"] in ("result", "failure"):
                    return event
            time.sleep(0.005)
        raise AssertionError(f"No answer; only {self.events[-10:]}.")

    def complete(self, segmentation, out, **payload):
        return self.answer(self.worker.request("complete", segmentation=str(segmentation), out=str(out), **payload))


@pytest.fixture(scope="module")
def host():
    host = Host()
    yield host
    host.worker.stop()


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    whole = np.linalg.norm((GRID.points_lps_mm() - GRID.center_lps_mm) / [18, 14, 22], axis=-1) < 1
    labels = np.zeros_like(whole)
    labels[4::8] = whole[4::8]
    path = tmp_path_factory.mktemp("worker") / "segmentation.nrrd"
    SimpleITK.WriteImage(sitk_image(labels, GRID, np.uint8), str(path))
    return path


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A prior that was never trained: what it says is worthless, but it loads and runs as any other."""
    import torch

    from ShapeCompletionLib.core.outer_loop import meta_parameters
    from ShapeCompletionLib.core.prior import Prior, save_prior
    from ShapeCompletionLib.core.prior_card import PriorCard
    from ShapeCompletionLib.core.refine import RefineNetwork

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("priors") / "untrained.pt"
    card = PriorCard("untrained", "Untrained", "Nothing.", "CC0", 64.0, "", 0.0, 0, "none")
    inr = meta_parameters("ridge", InrSettings(), torch.Generator().manual_seed(0))
    return save_prior(Prior(card, inr, RefineNetwork().eval(), Temperature(1.0, 0.0), -1e9), path)


def report_of(answer):
    return json.loads(Path(answer["paths"]["report_json"]).read_text())


def test_ping_and_warmup_are_answered_without_files(host, prior):
    assert host.answer(host.worker.request("ping"))["paths"] == {}
    assert host.answer(host.worker.request("warmup"))["paths"] == {}
    assert host.answer(host.worker.request("warmup", prior=str(prior)))["paths"] == {}


def test_a_completion_gives_its_files_and_its_warnings_and_repeats_itself(host, segmentation, tmp_path):
    before = segmentation.read_bytes()
    shapes = []
    for name in ("first", "second"):
        answer = host.complete(segmentation, tmp_path / name)
        assert answer["event"] == "result" and set(answer["paths"]) == ROLES, answer
        shapes.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(answer["paths"]["probability"])))
        said = [event["message"] for event in host.events if event["event"] == "warning" and event["id"] == answer["id"]]
        assert said == report_of(answer)["warnings"]
        assert report_of(answer)["method"] == "interpolate"
    np.testing.assert_array_equal(*shapes)
    assert segmentation.read_bytes() == before


def test_the_prior_stays_loaded(host, segmentation, prior, tmp_path):
    fresh = prior.with_name("fresh.pt")  # not one that another test has had loaded
    fresh.write_bytes(prior.read_bytes())
    fresh.with_suffix(".json").write_bytes(prior.with_suffix(".json").read_bytes())
    reports = []
    for name in ("first", "second"):
        answer = host.complete(segmentation, tmp_path / name, prior=str(fresh), config=config_to_json(CompletionConfig("inr")))
        assert answer["event"] == "result", answer
        reports.append(report_of(answer))
    assert [report["prior"] for report in reports] == ["fresh", "fresh"]
    assert reports[0]["inputs_sha256"]["prior"] == json.loads(prior.with_suffix(".json").read_text())["sha256"]
    assert 3 * reports[1]["seconds"]["prior file"] < reports[0]["seconds"]["prior file"]


def test_label_planes_and_settings_arrive(host, segmentation, tmp_path):
    image = SimpleITK.ReadImage(str(segmentation)) * 5
    SimpleITK.WriteImage(image, str(tmp_path / "labels.nrrd"))
    settings = {"spacing_mm": 2.0, "method": "interpolate"}
    answer = host.complete(tmp_path / "labels.nrrd", tmp_path / "out", label=5, planes=["k:20", "k:28", "k:21"], config=settings)
    assert answer["event"] == "result", answer
    report = report_of(answer)
    assert (report["label"], report["planes"], report["slices"]) == (5, ["k:20", "k:21", "k:28"], {"number": 3, "empty": 1})
    assert report["grid"]["spacing_mm"] == [2, 2, 2]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"segmentation": None}, "segmentation"),
        ({"segmentation": "{tmp}/nothing.nrrd"}, "nothing.nrrd"),
        ({"out": 7}, "out"),
        ({"out": "{seg}"}, "is a file"),
        ({"label": 4}, "no label 4"),
        ({"label": "1"}, "label"),
        ({"planes": "k:3"}, "planes"),
        ({"planes": ["q:3"]}, "q:3"),
        ({"planes": [3]}, "no plane 3"),
        ({"planes": ["k:20"]}, "Only one slice"),
        ({"config": {"quality": "best"}}, "settings"),
        ({"config": {"steps": 0}}, "steps"),
        ({"config": {"method": "inr"}}, "prior"),
        ({"prior": "{tmp}/none.pt"}, "none.pt"),
        ({"prior": 7}, "prior"),
    ],
)
def test_bad_input_is_the_users_to_mend(host, segmentation, tmp_path, payload, words):
    payload = {"segmentation": str(segmentation), "out": str(tmp_path / "out")} | payload
    payload = {key: value.format(tmp=tmp_path, seg=segmentation) if isinstance(value, str) else value for key, value in payload.items()}
    answer = host.answer(host.worker.request("complete", **payload))
    assert (answer["event"], answer["kind"]) == ("failure", "input"), answer
    assert words in answer["message"] and answer["remedy"] and not (tmp_path / "out").exists()


def test_a_cancelled_request_is_answered_once_and_the_next_one_works(host, segmentation, tmp_path):
    """Two wait their turn; the second of them is cancelled before it starts."""
    first = host.worker.request("complete", segmentation=str(segmentation), out=str(tmp_path / "first"), config={"spacing_mm": 0.5})
    second = host.worker.request("complete", segmentation=str(segmentation), out=str(tmp_path / "second"))
    host.worker.cancel(second)
    assert host.answer(second)["kind"] == "cancelled" and host.answer(first)["event"] == "result"
    assert not (tmp_path / "second").exists()
    assert host.complete(segmentation, tmp_path / "third")["event"] == "result"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_worker_fails_the_request_and_the_next_one_gets_a_new_worker(host, segmentation, tmp_path):
    id = host.worker.request("complete", segmentation=str(segmentation), out=str(tmp_path / "out"), config={"spacing_mm": 0.4})
    os.kill(host.worker.pid, signal.SIGKILL)
    assert host.answer(id)["kind"] == "resource"
    assert host.complete(segmentation, tmp_path / "out")["event"] == "result"
