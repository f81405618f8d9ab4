"""ReconLogic with the worker's real process: what comes into the scene, what a failure or a kill leaves of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

pytest.importorskip("slicer")

from IntraopReconLib.core.config import ReconstructionConfig, Region, SimulationConfig
from IntraopReconLib.core.pipeline import job_folder
from IntraopReconLib.core.simulate_case import simulate_case
from IntraopReconLib.host.ReconLogic import ReconLogic
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.HeadlessScene import HeadlessScene
from SparseAnatomyLib.host.WorkerProcess import WorkerProcess

VIEWS = 12
CONFIG = ReconstructionConfig(method="voxel", quality="preview", spacing_mm=4.0)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real_worker")
    ball = SimpleITK.GaussianSource(SimpleITK.sitkFloat32, [40] * 3, [9, 6, 12], [0] * 3, 2000.0, [-39.0] * 3, [2.0] * 3)
    SimpleITK.WriteImage(SimpleITK.Cast(ball - 1000.0, SimpleITK.sitkInt16), str(folder / "ct.nrrd"))
    config = SimulationConfig(views=VIEWS, size_px=64, center_lps_mm=(0.0, 0.0, 0.0), radius_mm=None)
    simulate_case(folder / "ct.nrrd", folder / "patient", config)
    return folder / "patient"


class Workers:
    """Makes worker processes and remembers the last one."""

    def __call__(self, deliver) -> WorkerProcess:
        self.process = WorkerProcess("IntraopReconLib.worker", deliver)
        return self.process


@pytest.fixture(scope="module")
def session():
    """A scene with its logic and worker: (scene, logic, workers), shared so that the worker starts once."""
    scene, workers = HeadlessScene(), Workers()
    logic = ReconLogic(scene.scene, workers)
    yield scene.scene, logic, workers
    logic.close()


def names(scene) -> set[str]:
    return {scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}


def test_a_case_becomes_nodes_in_the_scene(session, case, tmp_path):
    scene, logic, _ = session
    warned, fractions = [], []
    logic.warned.connect(warned.append)
    logic.progressed.connect(lambda fraction, message: fractions.append(fraction))
    nodes = logic.reconstruct(case, tmp_path / "out", CONFIG)
    array, grid = Nodes.arrayFromVolumeNode(nodes.volume)
    written = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out" / "volume.nrrd")))
    np.testing.assert_array_equal(array, written)
    np.testing.assert_allclose(grid.spacing_mm, 4.0)
    brightest = grid.points_lps_mm()[np.unravel_index(array.argmax(), array.shape)]
    assert np.linalg.norm(brightest) < 20  # the phantom's middle
    assert len(nodes.xrays.images) == VIEWS and nodes.bone is not None
    assert fractions == sorted(fractions) and warned == json.loads((tmp_path / "out" / "report.json").read_text())["warnings"]
    assert not logic.isRunning and "patient volume" in names(scene)


@pytest.mark.parametrize("damage", ["empty file", "text", "mirrored", "outside"])
def test_bad_input_is_a_message_and_leaves_the_scene(session, case, tmp_path, damage):
    scene, logic, _ = session
    own = shutil.copytree(case, tmp_path / "damaged")
    config = CONFIG
    poses = json.loads((own / "poses.json").read_text())
    if damage == "mirrored":
        poses["views"][3]["column_step_lps_mm"] = [-value for value in poses["views"][3]["column_step_lps_mm"]]
        (own / "poses.json").write_text(json.dumps(poses))
    elif damage == "outside":
        config = replace(CONFIG, region=Region((0.0, 0.0, 900.0), (50.0, 50.0, 50.0)))
    else:
        (own / "xrays" / "view_003.dcm").write_bytes(b"" if damage == "empty file" else b"Patient was fine.\n" * 50)
    before = names(scene)
    with pytest.raises(InputError, match="outside every view" if damage == "outside" else "view_003") as caught:
        logic.reconstruct(own, tmp_path / "out", config)
    assert caught.value.remedy and "Traceback" not in str(caught.value)
    assert names(scene) == before and not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
@pytest.mark.slow
def test_a_killed_worker_is_a_message_and_the_next_run_gives_the_same_volume(session, case, tmp_path):
    scene, logic, workers = session
    config = ReconstructionConfig(method="splat", quality="preview", spacing_mm=4.0)
    whole, _ = Nodes.arrayFromVolumeNode(logic.reconstruct(case, tmp_path / "whole", config).volume)
    for moment in np.random.default_rng(1).uniform(0, 2, 4):
        before, start = names(scene), time.monotonic()

        def kill_in_time(moment=moment, start=start):
            if logic.isRunning and time.monotonic() - start > moment:
                os.kill(workers.process.pid, signal.SIGKILL)
            time.sleep(0.01)

        try:
            logic.reconstruct(case, tmp_path / "out", config, idle=kill_in_time)
        except ResourceError as error:
            assert "checkpoint" in error.remedy and before <= names(scene) and not (tmp_path / "out" / "volume.nrrd").exists()
        else:
            break
    nodes = logic.reconstruct(case, tmp_path / "out", config)
    np.testing.assert_array_equal(Nodes.arrayFromVolumeNode(nodes.volume)[0], whole)
    assert not job_folder(tmp_path / "out").exists()
