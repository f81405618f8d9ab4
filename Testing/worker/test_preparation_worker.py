"""What the worker does with X-rays before a reconstruction, and what it says of requests that are none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "core"))  # its calibrate_scenes

from calibrate_scenes import ANGLES, make_bead_case

from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.worker.preparation import calibrate, describe, import_poses, preview_standardization
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.protocol import Progress, Request, Warn
from SparseAnatomyLib.worker import Job


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    """A case of five X-rays with beads; the tests go on from one another's poses."""
    folder = tmp_path_factory.mktemp("preparation") / "knee"
    make_bead_case(folder)
    return folder


def job(kind: str, **payload) -> tuple[Job, list]:
    """Return a job and the list that its events go to."""
    events: list = []
    return Job(Request("1", kind, payload), events.append), events


def test_xrays_are_described_calibrated_and_standardized(case, tmp_path):
    one, events = job("describe", sources=[str(case / "xrays")], cases=str(tmp_path / "cases"), out=str(tmp_path / "out"))
    paths = describe(one)
    assert paths["case"] == tmp_path / "cases" / "xrays"
    assert len(json.loads(paths["description"].read_text())["views"]) == len(ANGLES)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    jig = read_fiducials(case / "fiducials.mrk.json")
    points = [[*position, label] for position, label in zip(jig.position_lps_mm.tolist(), jig.labels, strict=True)]
    one, events = job("calibrate", case=str(paths["case"]), jig=points)
    assert calibrate(one)["poses"].is_file()
    payload = {"case": str(paths["case"]), "out": str(tmp_path / "preview"), "standardize": "on", "skipped": ["xrays/view_001.dcm"]}
    preview = json.loads(preview_standardization(job("preview_standardization", **payload)[0])["standardization"].read_text())
    assert preview["applies"]
    assert [view["name"] for view in preview["views"]] == [f"xrays/view_{number:03d}.dcm" for number in (0, 2, 3, 4)]
    for view in preview["views"]:
        assert all((tmp_path / "preview" / name).is_file() for name in view["pictures"].values())


def test_what_is_left_out_is_a_warning(case, tmp_path):
    (tmp_path / "notes.txt").write_text("no X-ray")
    sources = [str(tmp_path / "notes.txt"), str(case / "xrays" / "view_000.dcm")]
    one, events = job("describe", sources=sources, cases=str(tmp_path / "cases"), out=str(tmp_path / "out"))
    describe(one)
    assert ["notes.txt" in event.message for event in events if isinstance(event, Warn)] == [True]


@pytest.mark.parametrize(
    ("handler", "payload"),
    [
        (describe, {}),
        (describe, {"sources": "knee", "cases": "c", "out": "o"}),
        (describe, {"sources": [1], "cases": "c", "out": "o"}),
        (calibrate, {}),
        (calibrate, {"case": "knee", "beads": []}),
        (calibrate, {"case": "knee", "jig": "points"}),
        (calibrate, {"case": "knee", "jig": []}),
        (calibrate, {"case": "knee", "known_distance_mm": "far"}),
        (import_poses, {"case": "knee", "files": None}),
        (preview_standardization, {"case": "nowhere", "out": "o", "standardize": "on"}),
        (preview_standardization, {"case": "nowhere", "out": "o"}),
    ],
)
def test_requests_that_are_none_are_sentences(handler, payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        handler(job("any", **payload)[0])
    assert caught.value.remedy
