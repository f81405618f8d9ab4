"""Evaluation against truths whose error is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_result import BONE_PER_MM, BONE_RADIUS_MM, CENTER_LPS_MM, SPACING_MM, ball_per_mm, oblique_grid, small_case, small_reconstruction

from IntraopReconLib.core.evaluate import evaluate
from IntraopReconLib.core.result import write_result
from IntraopReconLib.core.xrays.simulate import attenuation_from_hounsfield
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.volumes import write_volume

GRID = oblique_grid()
CASE = small_case()


def make_result(out, **changes):
    write_result(out, small_reconstruction(CASE, **changes), CASE)
    return out


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return make_result(tmp_path_factory.mktemp("evaluate") / "result")


def truth_file(folder, array, grid=GRID):
    write_volume(folder / "truth.nrrd", array, grid)
    return folder / "truth.nrrd"


def test_a_perfect_result(result, tmp_path):
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(GRID)))
    assert metrics["psnr_3d_db"] is None or metrics["psnr_3d_db"] > 150  # infinite but for the rounding of the file's header
    assert metrics["ssim_3d"] == pytest.approx(1)
    assert (metrics["dice"], metrics["nsd_1mm"]) == (1, 1)
    assert metrics["asd_mm"] < metrics["hd95_mm"] < 1e-9
    assert metrics["volume_error_percent"] == 0
    assert metrics["compared_percent"] == 100
    assert metrics["ground_truth"] == "attenuation per mm"


def test_metrics_are_written_as_strict_json(result, tmp_path):
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(GRID)))
    text = (result / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == metrics
    wanted = {"psnr_3d_db", "ssim_3d", "dice", "asd_mm", "hd95_mm", "nsd_1mm", "nsd_2mm", "volume_error_percent", "psnr_3d_covered_db"}
    assert wanted <= set(metrics)
    assert not list(result.glob("*.partial"))


def test_psnr_has_the_truths_maximum_for_peak(result, tmp_path):
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(GRID) + np.float32(0.001)))
    assert metrics["psnr_3d_db"] == pytest.approx(20 * np.log10((BONE_PER_MM + 0.001) / 0.001), abs=0.01)
    assert metrics["psnr_3d_covered_db"] == pytest.approx(metrics["psnr_3d_db"], abs=0.01)


def test_errors_in_unknown_voxels_count_for_the_box_and_not_for_what_is_covered(tmp_path):
    volume = ball_per_mm(GRID)
    volume[:8, :8, :8] += 0.01  # where small_reconstruction's coverage is 0
    out = make_result(tmp_path / "result", attenuation_per_mm=volume)
    metrics = evaluate(out, truth_file(tmp_path, ball_per_mm(GRID)))
    share = 8**3 / volume.size
    assert metrics["psnr_3d_covered_db"] is None or metrics["psnr_3d_covered_db"] > 150
    assert metrics["psnr_3d_db"] == pytest.approx(20 * np.log10(BONE_PER_MM / (0.01 * np.sqrt(share))), abs=0.01)
    assert metrics["compared_covered_percent"] == pytest.approx(100 * (1 - share))


@pytest.mark.parametrize("shift_mm", [1.0, 3.0])
def test_a_shifted_truth_shows_its_distance(result, tmp_path, shift_mm):
    """Distances over a sphere moved by d are d·|cos θ|: d/2 on average, 0.95 d at the 95th percentile."""
    shift = np.array([0.6, 0.0, 0.8]) * shift_mm
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(GRID, CENTER_LPS_MM + shift)))
    assert metrics["asd_mm"] == pytest.approx(shift_mm / 2, abs=0.1)
    assert metrics["hd95_mm"] == pytest.approx(0.95 * shift_mm, abs=0.15)
    x = shift_mm / (2 * BONE_RADIUS_MM)
    assert metrics["dice"] == pytest.approx(1 - 1.5 * x + x**3 / 2, abs=0.02)
    assert metrics["volume_error_percent"] == pytest.approx(0, abs=5)


@pytest.mark.parametrize("spacing_mm", [0.7, 1.0, 3.0])
def test_truth_on_another_grid(result, tmp_path, spacing_mm):
    grid = VoxelGrid.box(CENTER_LPS_MM, 90.0, spacing_mm)  # axes along LPS, the result's are turned
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(grid), grid))
    assert metrics["compared_percent"] == 100
    assert metrics["dice"] > 0.95
    assert metrics["asd_mm"] < 0.5


def test_a_ct_is_converted(tmp_path):
    """The result is the CT's own bone-enhanced attenuation: what is left is the difference between two interpolations."""
    fine = VoxelGrid.box(CENTER_LPS_MM, 80.0, SPACING_MM / 2)
    hounsfield = np.where(ball_per_mm(fine) > BONE_PER_MM / 2, 700.0, 40.0).astype(np.float32)
    hounsfield[:, :, :6] = -1000.0
    inside = ball_per_mm(GRID) / BONE_PER_MM
    volume = inside * attenuation_from_hounsfield(np.float32(700)) + (1 - inside) * attenuation_from_hounsfield(np.float32(40))
    out = make_result(tmp_path / "result", attenuation_per_mm=volume.astype(np.float32))
    metrics = evaluate(out, truth_file(tmp_path, hounsfield, fine))
    assert metrics["ground_truth"].startswith("CT")
    assert metrics["peak_per_mm"] == pytest.approx(float(attenuation_from_hounsfield(np.float32(700))), rel=1e-3)
    assert metrics["dice"] > 0.96
    assert metrics["psnr_3d_db"] > 25


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (lambda inside: 1024 + np.where(inside > 0.5, 700, -1000), "no Hounsfield units"),  # stored with an offset
        (lambda inside: 20 * (inside > 0.5), "no Hounsfield units"),  # labels
        (lambda inside: np.where(inside > 0.5, 40, -1000), "no Hounsfield units of a CT with bone"),
    ],
)
def test_a_truth_that_is_no_ct_is_refused(tmp_path, volume, words):
    out = make_result(tmp_path / "result")
    with pytest.raises(InputError, match=words):
        evaluate(out, truth_file(tmp_path, volume(ball_per_mm(GRID) / BONE_PER_MM).astype(np.float32)))
    assert not (out / "metrics.json").exists()


@pytest.mark.parametrize("threshold", ["NaN", "1e999", "-0.01", "[" * 100_000])
def test_a_threshold_that_is_none_is_refused(tmp_path, threshold):
    out = make_result(tmp_path / "result")
    (out / "report.json").write_text(f'{{"bone": {{"threshold_per_mm": {threshold}}}}}')
    with pytest.raises(InputError, match=r"report\.json"):
        evaluate(out, truth_file(tmp_path, ball_per_mm(GRID)))


def test_a_coverage_of_another_result_is_refused(tmp_path):
    out = make_result(tmp_path / "result")
    write_volume(out / "coverage.nrrd", np.ones((4, 5, 6)), VoxelGrid.box(CENTER_LPS_MM, (6, 5, 4), 1.0))
    with pytest.raises(InputError, match=r"coverage\.nrrd"):
        evaluate(out, truth_file(tmp_path, ball_per_mm(GRID)))


def test_only_what_the_truth_covers_is_compared(result, tmp_path):
    half = VoxelGrid((12, 26, 28), GRID.spacing_mm, GRID.origin_lps_mm, GRID.direction)
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(GRID)[:, :, :12], half))
    assert metrics["compared_percent"] == pytest.approx(50)
    assert metrics["dice"] == 1
    assert metrics["psnr_3d_db"] is None or metrics["psnr_3d_db"] > 100


def test_what_every_view_sees_is_a_part_of_the_box(result, tmp_path):
    """Voxels are held against an independent statement: the cosine of the angle at each source, and the masked corner."""
    metrics = evaluate(result, truth_file(tmp_path, ball_per_mm(GRID)))
    points = GRID.points_lps_mm()
    seen = np.ones(GRID.shape_kji, bool)
    for view in CASE.views:
        geometry = view.geometry
        steps = np.stack(
            [geometry.detector_origin_lps_mm - geometry.source_lps_mm, geometry.column_step_lps_mm, geometry.row_step_lps_mm], 1
        )
        depth, column, row = np.moveaxis((points - geometry.source_lps_mm) @ np.linalg.inv(steps).T, -1, 0)
        column, row = column / depth, row / depth
        seen &= (column > -0.5) & (column < geometry.size_px[0] - 0.5) & (row > -0.5) & (row < geometry.size_px[1] - 0.5)
        seen &= ~((column < 5.5) & (row < 5.5))
    assert 10 < 100 * seen.mean() < 99
    assert metrics["compared_seen_by_all_percent"] == pytest.approx(100 * seen.mean(), abs=0.01)


def test_no_bone_in_the_result(tmp_path):
    out = make_result(tmp_path / "result", attenuation_per_mm=np.zeros(GRID.shape_kji, np.float32))
    metrics = evaluate(out, truth_file(tmp_path, ball_per_mm(GRID)))
    assert (metrics["dice"], metrics["asd_mm"], metrics["hd95_mm"], metrics["nsd_2mm"]) == (0, None, None, 0)
    assert metrics["volume_error_percent"] == -100


def test_a_truth_elsewhere_is_refused(result, tmp_path):
    (result / "metrics.json").unlink(missing_ok=True)
    away = VoxelGrid(GRID.size_ijk, GRID.spacing_mm, GRID.origin_lps_mm + 500, GRID.direction)
    with pytest.raises(InputError, match="does not overlap"):
        evaluate(result, truth_file(tmp_path, ball_per_mm(GRID), away))
    with pytest.raises(InputError, match="shows nothing"):
        evaluate(result, truth_file(tmp_path, np.zeros(GRID.shape_kji)))
    assert not (result / "metrics.json").exists()


@pytest.mark.parametrize("name", ["volume.nrrd", "coverage.nrrd", "report.json", "views.npz"])
@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_damaged_result_is_named(tmp_path, name, damage):
    out = make_result(tmp_path / "result")
    content = (out / name).read_bytes()
    (out / name).unlink()
    if damage != "missing":
        (out / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b"[1, 2]")
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        evaluate(out, truth_file(tmp_path, ball_per_mm(GRID)))
    assert not (out / "metrics.json").exists()


def test_missing_folders_and_files_are_named(result, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        evaluate(tmp_path / "nowhere", truth_file(tmp_path, ball_per_mm(GRID)))
    with pytest.raises(InputError, match=r"none\.nrrd"):
        evaluate(result, tmp_path / "none.nrrd")
