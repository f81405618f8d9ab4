"""Checkpoints: whole or not at all, and a damaged one is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from IntraopReconLib.core.checkpoint import Checkpoint

ARRAYS = {"volume": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "cycle": np.array(7), "momentum": np.array(1.25)}


def _assert_equal(loaded):
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_arrays_come_back_as_they_were(tmp_path):
    Checkpoint(tmp_path).save("coarse4", ARRAYS.copy)
    _assert_equal(Checkpoint(tmp_path).load("coarse4"))
    assert Checkpoint(tmp_path).load("splat") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["coarse4.npz"]


def test_without_a_folder_nothing_is_kept():
    checkpoint = Checkpoint(None)
    checkpoint.save("coarse4", ARRAYS.copy)
    assert checkpoint.load("coarse4") == {}


def test_a_later_save_replaces_an_earlier_one(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("voxel", lambda: {"cycle": np.array(1), "gone": np.zeros(3)})
    checkpoint.save("voxel", ARRAYS.copy)
    _assert_equal(checkpoint.load("voxel"))


def test_saves_keep_their_distance(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("IntraopReconLib.core.checkpoint.time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path)
    saved = []
    for second in range(10):
        now[0] = 100.0 + second
        checkpoint.save("voxel", lambda second=second: {"second": np.array(second)}, least_seconds=3.0)
        saved.append(int(checkpoint.load("voxel").get("second", -1)))
    assert saved == [-1, -1, -1, 3, 3, 3, 6, 6, 6, 9]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_none_or_whole(tmp_path, data):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("splat", ARRAYS.copy)
    path = tmp_path / "splat.npz"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), "bytes")):
            content[data.draw(st.integers(0, len(content) - 1), "where")] = data.draw(st.integers(0, 255), "value")
    path.write_bytes(content)
    loaded = checkpoint.load("splat")
    for name in set(loaded) & set(ARRAYS):
        np.testing.assert_array_equal(loaded[name], ARRAYS[name])


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", bytes(300)])
def test_another_file_under_the_name_is_none(tmp_path, content):
    (tmp_path / "splat.npz").write_bytes(content)
    assert Checkpoint(tmp_path).load("splat") == {}


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 8), (10, 99), (6, 99)], ids=["encrypted", "deflated", "compressed", "newer"])
def test_an_archive_of_another_kind_is_none(tmp_path, offset, value):
    Checkpoint(tmp_path).save("splat", ARRAYS.copy)
    content = bytearray((tmp_path / "splat.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    (tmp_path / "splat.npz").write_bytes(content)
    assert Checkpoint(tmp_path).load("splat") == {}


def test_a_half_written_file_is_not_read(tmp_path):
    Checkpoint(tmp_path).save("splat", ARRAYS.copy)
    (tmp_path / "splat.npz.partial").write_bytes((tmp_path / "splat.npz").read_bytes()[:200])
    _assert_equal(Checkpoint(tmp_path).load("splat"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_last_save(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("splat", ARRAYS.copy)
    (tmp_path / "splat.npz.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save("splat", lambda: {"cycle": np.array(8)})
    _assert_equal(checkpoint.load("splat"))
