"""Two runs at once into one result folder: the second one is told, the first one is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_case import fake_reconstruction, make_tiny_case

from IntraopReconLib.core import pipeline
from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.pipeline import reconstruct_case
from SparseAnatomyLib import staging
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.staging import only_writer

CONFIG = ReconstructionConfig(quality="preview")
HOLD = """
import sys, time
from pathlib import Path
from SparseAnatomyLib.staging import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    return make_tiny_case(tmp_path_factory.mktemp("writers"))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(staging, "_LOCK_SECONDS", 0.0)


def test_a_second_run_is_told_and_the_first_goes_on(case, tmp_path, monkeypatch, impatient):
    out, told = tmp_path / "result", []

    def reconstruct(views, config, report, checkpoint):
        if not told:
            (checkpoint / "stage.npz").write_bytes(b"the first run's")
            with pytest.raises(InputError, match="Another run is writing") as caught:
                reconstruct_case(case, out, CONFIG, lambda *_: None)
            told.append(caught.value)
            assert (checkpoint / "stage.npz").read_bytes() == b"the first run's"
        return fake_reconstruction(views, config)

    monkeypatch.setattr(pipeline, "reconstruct", reconstruct)
    reconstruct_case(case, out, CONFIG, lambda *_: None)
    assert told[0].remedy and "result" in told[0].message
    assert (out / "volume.nrrd").is_file()
    assert not list(out.glob(".*")) and not (out / "job.partial").exists()


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_run_that_was_killed_holds_nothing(tmp_path, end, impatient):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="Another run"), only_writer(tmp_path):
            pass
        getattr(holder, end)()
        holder.wait(20)
        with only_writer(tmp_path):
            assert list(tmp_path.iterdir())
        assert not list(tmp_path.iterdir())
    finally:
        holder.kill()
        holder.wait(20)
        holder.stdout.close()
