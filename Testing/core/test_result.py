"""A result folder is written whole or not at all, and says where its voxels lie."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_result import BONE_RADIUS_MM, CENTER_LPS_MM, oblique_grid, small_case, small_reconstruction

from IntraopReconLib.core import result as result_module
from IntraopReconLib.core.result import write_result
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import read_vtp
from SparseAnatomyLib.volumes import read_volume, write_volume

FILES = {"volume.nrrd", "coverage.nrrd", "bone.vtp", "bone.stl", "views.npz", "report.json", "report.html"}
CASE = small_case()
RECONSTRUCTION = small_reconstruction(CASE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "deep" / "result"
    return out, write_result(out, RECONSTRUCTION, CASE)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_are_there_and_nothing_else(written):
    out, paths = written
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in paths.values()} == FILES
    assert all(path.is_file() for path in paths.values())
    assert set(paths) == {"volume", "coverage", "mesh_vtp", "mesh_stl", "views", "report_html", "report_json"}


@pytest.mark.parametrize(("name", "array"), [("volume", RECONSTRUCTION.attenuation_per_mm), ("coverage", RECONSTRUCTION.coverage)])
def test_volumes_come_back_where_they_were(written, name, array):
    back, grid = read_volume(written[1][name])
    np.testing.assert_array_equal(back, array)
    np.testing.assert_allclose(grid.lps_from_ijk, RECONSTRUCTION.grid.lps_from_ijk, atol=1e-9)


def test_volume_header_is_what_interfaces_say(written):
    header = written[1]["volume"].read_bytes().split(b"\n\n")[0].decode()
    assert "type: float" in header
    assert "space: left-posterior-superior" in header
    assert "encoding: gzip" in header


def test_mesh_lies_around_the_bone(written):
    mesh = read_vtp(written[1]["mesh_vtp"])
    distance = np.linalg.norm(mesh.points_lps_mm - CENTER_LPS_MM, axis=1)
    np.testing.assert_allclose(distance, BONE_RADIUS_MM, atol=0.6)


def test_views_come_back(written):
    with np.load(written[1]["views"], allow_pickle=False) as views:
        for index, view in enumerate(CASE.views):
            assert views["name"][index] == view.name
            np.testing.assert_allclose(views[f"attenuation_{index:03d}"], view.attenuation, rtol=1e-3, atol=1e-6)
            np.testing.assert_array_equal(views[f"mask_{index:03d}"], view.mask)
            for name in ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm", "size_px"):
                np.testing.assert_array_equal(views[name][index], getattr(view.geometry, name))
                assert views[name].shape == (3, 2 if name == "size_px" else 3)


def test_a_new_result_replaces_the_old_one_and_its_metrics(tmp_path):
    write_result(tmp_path, RECONSTRUCTION, CASE)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    write_result(tmp_path, small_reconstruction(CASE, attenuation_per_mm=2 * RECONSTRUCTION.attenuation_per_mm), CASE)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"notes.txt"}
    assert read_volume(tmp_path / "volume.nrrd")[0].max() == pytest.approx(2 * RECONSTRUCTION.attenuation_per_mm.max())


def test_the_users_threshold_is_used(tmp_path):
    paths = write_result(tmp_path, RECONSTRUCTION, CASE, bone_threshold_per_mm=0.1)
    assert len(read_vtp(paths["mesh_vtp"]).triangles) == 0
    assert "no bone surface" in paths["report_json"].read_text()


@pytest.mark.parametrize("stage", ["write_volume", "write_vtp", "write_stl", "_write_views", "render_report"])
@pytest.mark.parametrize(("code", "sentence"), [(errno.ENOSPC, "is full"), (errno.EIO, "could not be written")])
def test_a_failing_disk_changes_nothing(tmp_path, monkeypatch, stage, code, sentence):
    write_result(tmp_path, RECONSTRUCTION, CASE)
    before = snapshot(tmp_path)

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(result_module, stage, fail)
    with pytest.raises(ResourceError, match=sentence) as caught:
        write_result(tmp_path, small_reconstruction(CASE, coverage=np.ones_like(RECONSTRUCTION.coverage)), CASE)
    assert caught.value.remedy
    assert snapshot(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == FILES


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = [{library!r}, {here!r}]
from small_result import small_case, small_reconstruction
from IntraopReconLib.core.result import write_result
from SparseAnatomyLib.errors import ResourceError
case = small_case()
reconstruction = small_reconstruction(case)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write_result(Path({out!r}), reconstruction, case)
except ResourceError as error:
    print("REFUSED", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("limit", [100, 16000, 30000])
def test_writes_that_really_fail_leave_no_half_written_file(tmp_path, repository, limit):
    """Each limit lets other files through: volumes, meshes, views, report."""
    program = LIMITED.format(
        library=str(repository / "IntraopRecon"), here=str(Path(__file__).parent), limit=limit, out=str(tmp_path / "out")
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "REFUSED" in done.stdout, done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_in_the_folders_place(tmp_path):
    out = tmp_path / "result"
    out.write_text("mine")
    for place in (out, out / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            write_result(place, RECONSTRUCTION, CASE)
    assert out.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        write_result(tmp_path / "result", RECONSTRUCTION, CASE)


def test_read_volume_names_the_file_and_the_fault(tmp_path):
    text = tmp_path / "text.nrrd"
    text.write_text("no volume")
    flat, colored, holed = (tmp_path / name for name in ("flat.nrrd", "colored.nrrd", "holed.nrrd"))
    SimpleITK.WriteImage(SimpleITK.Image(4, 5, SimpleITK.sitkFloat32), str(flat))
    SimpleITK.WriteImage(SimpleITK.Image([4, 5, 6], SimpleITK.sitkVectorFloat32, 3), str(colored))
    image = SimpleITK.Image([4, 5, 6], SimpleITK.sitkFloat32)
    image[1, 2, 3] = float("nan")
    SimpleITK.WriteImage(image, str(holed))
    for path in (tmp_path / "none.nrrd", tmp_path, text, flat, colored, holed):
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert str(path) in caught.value.message
        assert caught.value.remedy


def test_read_volume_keeps_every_axis_apart(tmp_path):
    """A voxel's value and place survive: sizes, spacings and directions all differ."""
    grid = VoxelGrid((4, 5, 6), [0.5, 1.0, 2.0], [1.0, 2.0, 3.0], oblique_grid().direction)
    array = np.zeros(grid.shape_kji, np.float32)
    array[5, 3, 1] = 7
    write_volume(tmp_path / "volume.nrrd", array, grid)
    image = SimpleITK.ReadImage(str(tmp_path / "volume.nrrd"))
    assert image[1, 3, 5] == 7
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint([1, 3, 5]), transform_points(grid.lps_from_ijk, np.array([1.0, 3, 5])))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_volume_is_refused(written, tmp_path, data):
    whole = written[1]["volume"].read_bytes()
    path = tmp_path / "truncated.nrrd"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 20))])
    with pytest.raises(InputError):
        read_volume(path)


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    (tmp_path / "out" / ".result-killed.partial").mkdir(parents=True)
    (tmp_path / "out" / ".result-killed.partial" / "volume.nrrd").write_bytes(b"half")
    os.utime(tmp_path / "out" / ".result-killed.partial", (0, 0))  # a run of now may still be writing
    write_result(tmp_path / "out", RECONSTRUCTION, CASE)
    assert not list((tmp_path / "out").glob(".*"))
