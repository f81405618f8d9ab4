"""Volumes whose files are damaged in ways that ITK does not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.volume_files import check_whole, name_of, voxel_file
from SparseAnatomyLib.volumes import read_volume

NAMES = ("a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.nii.gz")
NOISE = np.random.default_rng(0).integers(0, 9, (6, 7, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    for name in (*NAMES, "a.hdr", "raw.nrrd", "raw.mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(folder / name), useCompression=name in NAMES)
    return folder


def holder(path: Path) -> Path:
    """Return the file that holds the voxels."""
    return voxel_file(path) or path


@pytest.mark.parametrize("name", [*NAMES, "a.hdr", "raw.nrrd", "raw.mha"])
def test_whole_files_are_read(folder, name):
    np.testing.assert_array_equal(read_volume(folder / name)[0], NOISE)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_changed_bit_among_compressed_voxels_is_refused_or_changes_nothing(folder, tmp_path, name, data):
    for part in {folder / name, holder(folder / name)}:
        (tmp_path / part.name).write_bytes(part.read_bytes())
    path = tmp_path / name
    content = bytearray(holder(path).read_bytes())
    start = content.find(b"\n\n") + 2 if name == "a.nrrd" else content.find(b"LOCAL\n") + 6 if name == "a.mha" else 0
    content[data.draw(st.integers(start, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    holder(path).write_bytes(bytes(content))
    try:
        array, _ = read_volume(path)
    except InputError as error:
        assert name in error.message and error.remedy
    else:
        np.testing.assert_array_equal(array, NOISE)  # such as the time in gzip's header


@pytest.mark.parametrize("name", [*NAMES, "a.hdr"])
def test_truncated_voxels_are_refused(folder, tmp_path, name):
    for part in {folder / name, holder(folder / name)}:
        (tmp_path / part.name).write_bytes(part.read_bytes())
    voxels = holder(tmp_path / name)
    voxels.write_bytes(voxels.read_bytes()[: -voxels.stat().st_size // 3])
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(tmp_path / name)


def test_dots_in_names():
    names = {"a.nrrd": "a", "1.2.840.7.nii.gz": "1.2.840.7", "smith.2024.seg.nrrd": "smith.2024", "a.nii": "a", "note.txt": "note.txt"}
    assert {name: name_of(Path(name)) for name in names} == names


def test_where_the_voxels_are(folder):
    assert {name: voxel_file(folder / name) is not None for name in NAMES} == {name: name in ("a.nhdr", "a.mhd") for name in NAMES}
    assert voxel_file(folder / "a.hdr") == folder / "a.img"


def test_what_is_no_volume_is_left_to_itk(tmp_path):
    (tmp_path / "text.nrrd").write_text("no header")
    check_whole(tmp_path / "text.nrrd")
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(tmp_path / "text.nrrd")
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path)
