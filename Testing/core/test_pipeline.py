"""From case to result: what is checked first, what a killed run leaves, what a failure does not touch."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
from tiny_case import fake_reconstruction, make_tiny_case

from IntraopReconLib.core import pipeline
from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.pipeline import job_folder, reconstruct_case
from IntraopReconLib.core.reconstruction import silent
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError
from SparseAnatomyLib.failures import explain
from SparseAnatomyLib.provenance import result_warnings

CONFIG = ReconstructionConfig(spacing_mm=4.0)
IN_A_KERNEL = SystemError("CPUDispatcher returned a result with an exception set")  # as Ctrl-C within a compiled kernel comes out of it
IN_A_KERNEL.__cause__ = KeyboardInterrupt()


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_tiny_case(tmp_path_factory.mktemp("pipeline"))


class FakeReconstruct:
    """Stands for the reconstruction: saves a checkpoint, notes what it found, then ends as it is told."""

    def __init__(self, error=None):
        self.error = error
        self.found = []

    def __call__(self, views, config, report, checkpoint: Path):
        state = checkpoint / "state"
        self.found.append(state.read_text() if state.exists() else "")
        state.write_text("half way")
        report(0.5, "half way")
        if self.error:
            raise self.error
        return fake_reconstruction(views, config)


@pytest.fixture
def fake(monkeypatch):
    def install(error=None):
        reconstruct = FakeReconstruct(error)
        monkeypatch.setattr(pipeline, "reconstruct", reconstruct)
        return reconstruct

    return install


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_case_becomes_a_result_and_nothing_else_is_left(case, tmp_path, fake):
    fake()
    seen = []
    paths = reconstruct_case(case, tmp_path / "new" / "out", CONFIG, lambda fraction, message, preview=None: seen.append(fraction))
    assert all(path.exists() for path in paths.values()) and not job_folder(tmp_path / "new" / "out").exists()
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1
    assert "Only four X-rays: the shape is rough." in result_warnings(paths)
    assert json.loads(paths["report_json"].read_text())["inputs_sha256"].keys() > {"poses.json"}


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), ResourceError("Full."), MemoryError(), IN_A_KERNEL])
def test_an_interrupted_run_goes_on_from_its_checkpoint(case, tmp_path, fake, error):
    fake(error)
    with pytest.raises(type(error)):
        reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    again = fake()
    reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    assert again.found == ["half way"] and not job_folder(tmp_path / "out").exists()


def test_an_interrupt_within_a_kernel_is_a_cancel():
    assert (explain(IN_A_KERNEL).kind, explain(IN_A_KERNEL).exit_code) == ("cancelled", 3)


def test_a_checkpoint_of_other_settings_or_other_xrays_is_thrown_away(case, tmp_path, fake):
    changed = shutil.copytree(case, tmp_path / "changed")
    xray = sorted((changed / "xrays").iterdir())[0]
    poses = json.loads((changed / "poses.json").read_text())
    poses["views"][0]["air_intensity"] += 1
    (changed / "poses.json").write_text(json.dumps(poses))
    assert xray.exists()
    runs = [(case, CONFIG), (case, ReconstructionConfig(spacing_mm=4.0, seed=1)), (changed, ReconstructionConfig(spacing_mm=4.0, seed=1))]
    for folder, config in runs:
        reconstruct = fake(Cancelled())
        with pytest.raises(Cancelled):
            reconstruct_case(folder, tmp_path / "out", config, silent)
        assert reconstruct.found == [""]


@pytest.mark.parametrize("error", [InputError("View 3 is empty."), KeyError("bug"), SystemError("bug")])
def test_a_failure_leaves_no_checkpoint_that_would_make_it_fail_again(case, tmp_path, fake, error):
    fake(error)
    with pytest.raises(type(error)):
        reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [Cancelled(), KeyError("bug"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failure_leaves_an_earlier_result_as_it_was(case, tmp_path, fake, error):
    fake()
    reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    (tmp_path / "out" / "notes.txt").write_text("the user's own")
    before = content(tmp_path / "out")
    fake(error)
    with pytest.raises((Cancelled, KeyError, ResourceError)):
        reconstruct_case(case, tmp_path / "out", ReconstructionConfig(spacing_mm=4.0, seed=1), silent)
    after = content(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    fake()
    reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    assert (tmp_path / "out" / "notes.txt").read_text() == "the user's own"


def test_a_disk_that_fills_up_while_computing_is_a_matter_of_resources_and_keeps_the_checkpoint(case, tmp_path, fake):
    fake(OSError(errno.ENOSPC, "No space left on device", "state"))
    with pytest.raises(ResourceError, match="disk is full"):
        reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    assert (job_folder(tmp_path / "out") / "checkpoint" / "state").exists()


def test_a_disk_that_fills_up_while_writing_leaves_no_half_result(case, tmp_path, fake, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    fake()
    reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    before = content(tmp_path / "out")
    monkeypatch.setattr("IntraopReconLib.core.result.write_stl", full)
    with pytest.raises(ResourceError):
        reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    after = content(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert not [name for name in set(after) - set(before) if "job.partial" not in name]


def test_a_disk_without_room_is_refused_before_anything_is_computed(case, tmp_path, fake, monkeypatch):
    reconstruct = fake()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(ResourceError, match="1 MB left"):
        reconstruct_case(case, tmp_path / "out", CONFIG, silent)
    assert not reconstruct.found and not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["xrays", "xrays/result", "poses.json", "poses.json/result"])
def test_a_result_folder_that_will_not_do_is_refused_before_anything_is_computed(case, tmp_path, fake, where):
    reconstruct = fake()
    before = content(case)
    with pytest.raises(InputError, match=r"folder|file") as caught:
        reconstruct_case(case, case / where, CONFIG, silent)
    assert where.split("/")[0] in caught.value.message and caught.value.remedy
    assert not reconstruct.found and content(case) == before


def test_a_bad_case_or_setting_makes_no_folder(case, tmp_path, fake):
    fake()
    (tmp_path / "empty").mkdir()
    for folder, config in [(tmp_path / "empty", CONFIG), (case, ReconstructionConfig(spacing_mm=-1.0))]:
        with pytest.raises(InputError):
            reconstruct_case(folder, tmp_path / "out", config, silent)
    assert not (tmp_path / "out").exists()
