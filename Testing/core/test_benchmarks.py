"""The benchmarks' own bookkeeping: scenes, figures and tables."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from Testing.benchmarks import table
from Testing.benchmarks.provenance import provenance
from Testing.benchmarks.scenes import STANDING, Scene, load_scene, save_scene

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.xrays.radiograph import MeasuredView
from IntraopReconLib.core.xrays.simulate import random_poses
from SparseAnatomyLib.grid import VoxelGrid


@pytest.fixture
def scene() -> Scene:
    """Return two views to reconstruct from and one held out, of a volume whose voxels differ."""
    rng = np.random.default_rng(1)
    poses = random_poses(SimulationConfig(views=3, size_px=16), np.array([5.0, -7.0, 20.0]), rng)
    views = [
        MeasuredView(f"view {index:02d}", rng.random((16, 16), np.float32), np.ones((16, 16), bool), pose)
        for index, pose in enumerate(poses)
    ]
    grid = VoxelGrid.box([5.0, -7.0, 20.0], 192.0, 12.0)
    return Scene("small", views[:2], views[2:], rng.random(grid.shape_kji, np.float32), grid)


def row(name: str, **figures) -> dict:
    figures = {"psnr_3d_db": 30.0, "ssim_3d": 0.9, "dice": 0.8, "psnr_2d_db": 40.0, "cpu_s": 10.0, "wall_s": 5.0, "peak_gb": 1.0} | figures
    return {"name": name, "notes": {}, **figures}


def test_a_scene_is_read_as_it_was_written(scene, tmp_path):
    save_scene(tmp_path / "small.npz", scene)
    read = load_scene(tmp_path / "small.npz")
    assert (len(read.views), len(read.held_out)) == (2, 1)
    np.testing.assert_array_equal(read.ground_truth_per_mm, scene.ground_truth_per_mm)
    np.testing.assert_allclose(read.grid.lps_from_ijk, scene.grid.lps_from_ijk)
    for got, want in zip(read.views + read.held_out, scene.views + scene.held_out, strict=True):
        np.testing.assert_array_equal(got.attenuation, want.attenuation)
        np.testing.assert_allclose(got.geometry.projection_matrix, want.geometry.projection_matrix)


def test_the_region_is_the_box_of_the_truth(scene):
    box = VoxelGrid.box(scene.region.center_lps_mm, scene.region.extent_mm, 12.0)
    assert box.shape_kji == scene.grid.shape_kji
    np.testing.assert_allclose(box.lps_from_ijk, scene.grid.lps_from_ijk)


def test_volumes_are_compared_in_a_sphere(scene):
    volume_mm3 = scene.compared.sum() * scene.grid.voxel_volume_mm3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 88**3, rel=0.03)
    k, j, i = np.argwhere(scene.compared).mean(0)
    np.testing.assert_allclose([k, j, i], (np.array(scene.grid.shape_kji) - 1) / 2)


def test_a_coarser_scene_keeps_its_place_and_its_mean(scene):
    coarse = scene.coarsened(2)
    np.testing.assert_allclose(coarse.grid.center_lps_mm, scene.grid.center_lps_mm)
    assert coarse.ground_truth_per_mm.shape == coarse.grid.shape_kji == (8, 8, 8)
    assert coarse.ground_truth_per_mm.mean() == pytest.approx(scene.ground_truth_per_mm.mean(), rel=1e-5)
    point = np.array([15.0, -20.0, 40.0])  # binning moves the centre of the first pixel by half a pixel
    np.testing.assert_allclose(coarse.views[0].geometry.project(point), (scene.views[0].geometry.project(point) - 0.5) / 2)


def test_the_standing_scenes_are_as_described(shared_data):
    for name in STANDING:
        standing = load_scene(shared_data / "scenes" / f"{name}.npz")
        assert (len(standing.views), len(standing.held_out), standing.grid.shape_kji) == (25, 10, (128, 128, 128))
        np.testing.assert_allclose(standing.grid.center_lps_mm, 0, atol=1e-9)


@pytest.mark.slow
def test_rtk_sees_points_where_we_do(scene, tmp_path):
    if importlib.util.find_spec("itk") is None:
        pytest.skip("needs itk-rtk (pip install -e '.[bench]')")
    save_scene(tmp_path / "small.npz", scene)
    code = (
        "import json, sys, itk, pathlib; from Testing.benchmarks.scenes import load_scene;"
        "from Testing.benchmarks.baselines_rtk import geometry;"
        "views = load_scene(pathlib.Path(sys.argv[1])).views; theirs = geometry([view.geometry for view in views]);"
        "print(json.dumps([itk.array_from_matrix(theirs.GetMatrix(n)).tolist() for n in range(len(views))]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "small.npz")]  # two copies of ITK in one process abort
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    matrices = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    point = np.array([15.0, -20.0, 40.0])
    for matrix, view in zip(matrices, scene.views, strict=True):
        x, y, w = np.array(matrix) @ [*point, 1]
        np.testing.assert_allclose([x / w, y / w] / view.geometry.pixel_pitch_mm, view.geometry.project(point), atol=1e-6)


def test_processor_time_is_shown_as_a_share_of_sart(scene):
    text = table.scene_table([row("RTK SART 12", cpu_s=40.0), row("splat standard", cpu_s=10.0, psnr_3d_db=34.567)])
    assert "| splat standard | 34.57 | 0.900 | 0.800 | 40.0 | 10.0 | 0.25 | 5.0 | 1.00 |" in text


def test_a_failure_stays_in_the_table(scene):
    text = table.scene_table([row("RTK SART 12"), {"name": "ixgs 10", "failure": "MemoryError"}])
    assert "| ixgs 10 | failed: MemoryError |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_gains_are_those_of_the_better_method():
    rows = [row("RTK SART 12", psnr_3d_db=25.0), row("splat standard", psnr_3d_db=34.0), row("voxel standard", psnr_3d_db=30.0)]
    text = table.gain_table([{"name": "hip", "views": 25, "rows": [*rows, row("auto standard", psnr_3d_db=33.9)]}])
    assert text.splitlines()[-1] == "| hip | 25 | 25.0 | 34.0 | 30.0 | 33.9 | +9.0 | -0.1 |"


def test_the_readme_gets_its_section_and_keeps_the_rest(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{table.README_START}\nold\n{table.README_END}\nrest\n")
    table.fill_readme(readme, "new")
    table.fill_readme(readme, "newer")
    assert readme.read_text() == f"# Title\n{table.README_START}\n\nnewer\n\n{table.README_END}\nrest\n"
    readme.write_text("# Title\n")
    with pytest.raises(ValueError, match="benchmark:start"):
        table.fill_readme(readme, "new")
    assert readme.read_text() == "# Title\n"


def test_results_tell_no_folders_of_the_machine_they_were_made_on(tmp_path):
    command = provenance(1, ["--part", "shapes", "--data", str(tmp_path.resolve() / "data")])["command"]
    assert command == "python -m Testing.benchmarks.run --part shapes --data data"
