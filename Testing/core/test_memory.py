"""What steps that work on whole volumes hold beside them: few copies, so that large cases fit into the memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import phantom_scene
import torch
from splat_scenes import random_gaussians

from IntraopReconLib.core.checkpoint import Checkpoint
from IntraopReconLib.core.config import SartSettings
from IntraopReconLib.core.splatting import initialise
from IntraopReconLib.core.splatting.projector import Cameras, project
from IntraopReconLib.core.voxels.resampling import resample
from IntraopReconLib.core.voxels.sart import SartState, run_sart
from SparseAnatomyLib.mesh import voxels_above


@contextmanager
def peak_bytes() -> Iterator[list[int]]:
    """Give a list that holds the most bytes that numpy has held beside what it held before, once the block is left."""
    found: list[int] = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_a_checkpoint_is_written_without_a_copy(tmp_path):
    arrays = {"volume": np.ones((8, 8, 8), np.float32), "dual": np.ones((3, 128, 256, 256), np.float32)}
    with peak_bytes() as peak:
        Checkpoint(tmp_path).save("voxel", arrays.copy)
    assert peak[0] < 0.5 * arrays["dual"].nbytes
    np.testing.assert_array_equal(Checkpoint(tmp_path).load("voxel")["volume"], arrays["volume"])


def test_a_volume_is_resampled_with_one_more_of_its_size():
    ready = phantom_scene.acquisition()
    coarse, fine = ready.grid(2.0), ready.grid(1.0)
    volume = np.random.default_rng(0).random(coarse.shape_kji).astype(np.float32)
    resample(volume, coarse, fine)
    with peak_bytes() as peak:
        result = resample(volume, coarse, fine)
    assert peak[0] < 2.8 * result.nbytes


def test_a_cycle_of_sart_takes_two_volumes_beside_its_state():
    ready = phantom_scene.acquisition(3)
    grid = ready.grid(0.75)
    state = SartState.of(np.zeros(grid.shape_kji, np.float32))
    run_sart(ready, np.arange(3), grid, state, SartSettings(4), 0, lambda now: None, until=2)  # and the kernels are loaded
    with peak_bytes() as peak:
        run_sart(ready, np.arange(3), grid, state, SartSettings(4), 0, lambda now: None, until=3)
    assert state.volume.max() > 0
    assert peak[0] < 2.6 * state.volume.nbytes


def test_islands_are_taken_away_with_little_beside_their_labels():
    ready = phantom_scene.acquisition(2)
    grid = ready.grid(0.5)
    field = np.random.default_rng(0).random(grid.shape_kji).astype(np.float32)
    field[20:60, 20:60, 20:60] += 1
    with peak_bytes() as peak:
        inside = voxels_above(field, grid, 0.97, 100.0)
    assert inside[20:60, 20:60, 20:60].all() and inside.sum() < 1.5 * 40**3
    assert peak[0] < 7.5 * field.size  # a label is four bytes, and an index of numpy's eight


def test_densities_are_fitted_view_by_view(monkeypatch):
    gaussians, seen = random_gaussians(20, dtype=torch.float32), []
    cameras = Cameras.of(phantom_scene.poses(5))
    images = project(gaussians, cameras).detach()

    def watched(gaussians, cameras):
        seen.append(len(cameras))
        return project(gaussians, cameras)

    monkeypatch.setattr(initialise, "project", watched)
    initialise.fit_density(gaussians, cameras, images, torch.ones_like(images))
    assert seen == [1] * 5
