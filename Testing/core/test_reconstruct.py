"""reconstruct() end to end on a phantom: what it reaches, what must not matter, what it refuses, and that it goes on when stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantom_scene
import pytest
from phantom_scene import BEYOND, PHANTOM, REGION
from scipy.spatial.transform import Rotation

from IntraopReconLib.core import outside
from IntraopReconLib.core import reconstruct as module
from IntraopReconLib.core.config import EFFORTS, Effort
from IntraopReconLib.core.reconstruct import reconstruct
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError
from SparseAnatomyLib.volumes import resampled

SMALL = Effort(coarse_cycles=(2, 3), voxel_cycles=3, gaussians=400, splat_steps=10, fits=1, polish_cycles=2)
FAIR = Effort(coarse_cycles=(3, 5), voxel_cycles=4, gaussians=1500, splat_steps=60, fits=1, polish_cycles=1)
METHODS = ("voxel", "splat", "auto", "ixgs")


@pytest.fixture(autouse=True)
def small_efforts(monkeypatch):
    monkeypatch.setitem(EFFORTS, "preview", SMALL)
    monkeypatch.setitem(EFFORTS, "standard", FAIR)
    monkeypatch.setattr(module, "IXGS_GAUSSIANS", 300)


@pytest.fixture(scope="module")
def views():
    return phantom_scene.measured(phantom_scene.poses(13))


def _config(**changes):
    return phantom_scene.config(**{"ixgs_iterations": 4, "spacing_mm": 4.0, **changes})


def _psnr_db(result, phantom=PHANTOM):
    return phantom_scene.psnr_3d_db(result.attenuation_per_mm, phantom_scene.truth(result.grid, phantom))


class Recorder:
    """A report that remembers what it is told, and cancels at a given call."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.fractions, self.messages, self.previews, self.cancel_at = [], [], [], cancel_at

    def __call__(self, fraction, message, preview=None):
        self.fractions.append(fraction)
        self.messages.append(message)
        if preview is not None:
            self.previews.append(preview)
        if len(self.fractions) == self.cancel_at:
            raise Cancelled


@pytest.mark.parametrize("orbit", ["arbitrary", "circular"])
@pytest.mark.parametrize("count", [20, 25, 50])
def test_all_orbits_and_numbers_of_views_converge(count, orbit):
    views = phantom_scene.measured(phantom_scene.poses(count, orbit))
    result = reconstruct(views, _config(method="voxel", quality="standard", spacing_mm=3.0))
    assert _psnr_db(result) > 35
    assert (result.grade, result.warnings) == ("good", [])


def test_splats_converge(views):
    result = reconstruct(views, _config(method="splat", quality="standard", spacing_mm=3.0))
    assert _psnr_db(result) > 39
    assert result.method == "splat"
    assert min(fit.psnr_db for fit in result.fits) > 28


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_whole_result(views, method):
    report = Recorder()
    result = reconstruct(views, _config(method=method), report)
    assert result.method == method or method == "auto"
    assert result.grid.shape_kji == result.attenuation_per_mm.shape == result.coverage.shape
    assert result.attenuation_per_mm.dtype == result.coverage.dtype == np.float32
    assert np.isfinite(result.attenuation_per_mm).all()
    assert result.attenuation_per_mm.min() >= 0
    assert [image.shape for image in result.reprojections] == [view.attenuation.shape for view in views]
    assert [fit.name for fit in result.fits] == [view.name for view in views]
    assert sum(fit.withheld for fit in result.fits) == 2
    assert set(result.method.split("+")) <= set(result.candidates)
    assert all(rmse > 0 for rmse in result.candidates.values())
    assert [point.seconds for point in result.curve] == sorted(point.seconds for point in result.curve)
    assert sum(result.seconds.values()) > 0
    assert report.fractions == sorted(report.fractions)
    assert report.fractions[0] == 0
    assert report.fractions[-1] == 1
    assert all(report.messages)


@pytest.mark.parametrize("quality", list(EFFORTS))
def test_every_quality_runs(views, quality, monkeypatch):
    monkeypatch.setitem(EFFORTS, quality, replace(EFFORTS[quality], gaussians=300, splat_steps=12))
    assert _psnr_db(reconstruct(views, _config(quality=quality))) > 28


@pytest.mark.parametrize(("splat_rmse", "winner"), [(1e9, "voxel"), (0.0, "splat")])
def test_auto_takes_what_explains_the_withheld_views_better(views, splat_rmse, winner, monkeypatch):
    monkeypatch.setattr(module, "projection_rmse", lambda *given: splat_rmse)
    report = Recorder()
    result = reconstruct(views, _config(method="auto"), report)
    alone = reconstruct(views, _config(method=winner))
    assert result.method == winner
    assert set(result.candidates) == {"voxel", "splat"}
    np.testing.assert_array_equal(result.attenuation_per_mm, alone.attenuation_per_mm)
    assert report.fractions == sorted(report.fractions)


@pytest.mark.parametrize("ratio", [0.96, 1.09])
def test_auto_takes_the_mean_of_both_where_the_withheld_views_cannot_tell(views, ratio, monkeypatch):
    monkeypatch.setitem(EFFORTS, "preview", replace(SMALL, voxel_cycles=16))  # as many as in earnest, for the progress
    both = [reconstruct(views, _config(method=method)) for method in ("splat", "voxel")]
    error = reconstruct(views, _config(method="auto")).candidates["voxel"]
    monkeypatch.setattr(module, "projection_rmse", lambda *given: ratio * error)
    report = Recorder()
    result = reconstruct(views, _config(method="auto"), report)
    assert result.method == "splat+voxel"
    assert set(result.candidates) == {"voxel", "splat"}
    np.testing.assert_array_equal(result.attenuation_per_mm, np.mean([one.attenuation_per_mm for one in both], axis=0))
    assert [one.grade for one in both] == [result.grade] * 2
    assert report.fractions == sorted(report.fractions)
    assert max(np.diff(report.fractions)) < 0.2  # each of the two has its share of the progress
    assert report.fractions[-1] == 1


@pytest.mark.parametrize("method", METHODS)
def test_garbage_behind_the_masks_changes_nothing(views, method):
    volumes = []
    for garbage in (0.0, np.nan, 1e5):
        masked = []
        for n, view in enumerate(views):
            mask = view.mask.copy()
            mask[:, : 3 + n % 4] = False
            mask[20:26, 20:30] = n % 3 > 0
            masked.append(replace(view, mask=mask, attenuation=np.where(mask, view.attenuation, np.float32(garbage))))
        result = reconstruct(masked, _config(method=method))
        assert np.isfinite([fit.psnr_db for fit in result.fits]).all()
        volumes.append(result.attenuation_per_mm)
    np.testing.assert_array_equal(volumes[1], volumes[0])
    np.testing.assert_array_equal(volumes[2], volumes[0])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_volume(views, method):
    first, again, other = (reconstruct(views, _config(method=method, seed=seed)).attenuation_per_mm for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_of_different_size_go_together(views):
    mixed = list(views)
    for n, (rows, columns) in {1: (30, 48), 4: (44, 33), 7: (37, 41)}.items():
        small = replace(views[n].geometry, size_px=(columns, rows))
        mixed[n] = replace(views[n], attenuation=views[n].attenuation[:rows, :columns], mask=views[n].mask[:rows, :columns], geometry=small)
    result = reconstruct(mixed, _config(method="voxel", quality="standard"))
    assert [image.shape for image in result.reprojections] == [view.attenuation.shape for view in mixed]
    assert _psnr_db(result) > 31


@pytest.mark.parametrize("method", ["voxel", "splat"])
def test_moving_the_whole_scene_changes_nothing(views, method):
    motion = phantom_scene.a_rigid_motion()
    region = phantom_scene.moved_region(REGION, motion)
    report = Recorder()
    here = reconstruct(views, _config(method=method))
    there = reconstruct(phantom_scene.moved(views, motion), _config(method=method, region=region), report)
    np.testing.assert_allclose(there.grid.direction, region.direction, atol=1e-9)
    np.testing.assert_allclose(there.grid.center_lps_mm, region.center_lps_mm, atol=1e-6)
    error = there.attenuation_per_mm - here.attenuation_per_mm
    assert np.sqrt(np.mean(error**2)) < 0.003 * here.attenuation_per_mm.max()
    assert len(report.previews) >= 2
    for volume, grid in report.previews:
        assert volume.shape == grid.shape_kji
        np.testing.assert_allclose(grid.direction, region.direction, atol=1e-9)
        np.testing.assert_allclose(grid.center_lps_mm, region.center_lps_mm, atol=1e-6)


def test_scaling_the_millimeters_scales_the_attenuation(views):
    scale = np.diag([1.5, 1.5, 1.5, 1.0])
    region = replace(REGION, center_lps_mm=tuple(1.5 * x for x in REGION.center_lps_mm), extent_mm=tuple(1.5 * x for x in REGION.extent_mm))
    here = reconstruct(views, _config(method="voxel", quality="standard"))
    large = reconstruct(phantom_scene.moved(views, scale), _config(method="voxel", quality="standard", region=region, spacing_mm=6.0))
    assert phantom_scene.psnr_3d_db(1.5 * large.attenuation_per_mm, here.attenuation_per_mm) > 40


def test_an_oblique_region_holds_the_same_anatomy(views):
    tilt = phantom_scene.a_rigid_motion()[:3, :3]
    result = reconstruct(
        views, _config(method="voxel", quality="standard", region=replace(REGION, direction=tuple(map(tuple, tilt.tolist()))))
    )
    np.testing.assert_allclose(result.grid.direction, tilt)
    assert _psnr_db(result) > 30


def test_without_a_region_the_views_say_where(views):
    result = reconstruct(views, _config(method="voxel", region=None))
    assert np.linalg.norm(result.grid.center_lps_mm - np.array(phantom_scene.CENTER_LPS_MM)) < 10
    assert _psnr_db(result) > 27


def test_anatomy_beyond_the_region_is_taken_away(monkeypatch):
    views = phantom_scene.measured(phantom_scene.poses(), (*PHANTOM, BEYOND))
    cleaned = reconstruct(views, _config(method="voxel", quality="standard"))
    monkeypatch.setattr(outside, "without_outside", lambda acquisition, *rest: (acquisition, 0.0))
    left = reconstruct(views, _config(method="voxel", quality="standard"))
    assert _psnr_db(cleaned, (*PHANTOM, BEYOND)) > _psnr_db(left, (*PHANTOM, BEYOND)) + 2
    assert np.mean([fit.psnr_db for fit in cleaned.fits]) > np.mean([fit.psnr_db for fit in left.fits])


@pytest.mark.parametrize("degrees", [0, 35])
@pytest.mark.parametrize("method", ["voxel", "splat"])
def test_a_region_within_the_anatomy_is_as_good_as_that_part_of_the_whole(views, method, degrees):
    tilt = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    center = np.array(phantom_scene.CENTER_LPS_MM) + (-4.0, 2.0, 2.0)
    region = replace(REGION, center_lps_mm=tuple(center.tolist()), extent_mm=(30.0, 27.0, 24.0), direction=tuple(map(tuple, tilt.tolist())))
    part = reconstruct(views, _config(method=method, quality="standard", spacing_mm=3.0, region=region))
    whole = reconstruct(views, _config(method=method, quality="standard", spacing_mm=3.0))
    assert part.grid.size_ijk == (10, 9, 8)
    assert part.coverage.shape == part.attenuation_per_mm.shape == part.grid.shape_kji
    np.testing.assert_allclose(part.grid.center_lps_mm, center)
    expected = phantom_scene.truth(part.grid)
    of_whole = resampled(whole.attenuation_per_mm, whole.grid, part.grid, 0.0)
    assert phantom_scene.psnr_3d_db(part.attenuation_per_mm, expected) > phantom_scene.psnr_3d_db(of_whole, expected) - 2
    assert any("beyond the region" in warning for warning in part.warnings)


def test_more_voxels_than_memory_are_refused_where_the_views_say_the_region(views):
    wide = []
    for view in views:
        old = view.geometry
        steps = {name: 8 * getattr(old, name) for name in ("column_step_lps_mm", "row_step_lps_mm")}
        middle = old.pixel_lps_mm((np.array(old.size_px) - 1) / 2)
        origin = middle + 8 * (old.detector_origin_lps_mm - middle)
        wide.append(replace(view, geometry=replace(old, detector_origin_lps_mm=origin, **steps)))
    with pytest.raises(ResourceError, match="voxels"):
        reconstruct(wide, _config(method="voxel", region=None, spacing_mm=0.5))


def test_settings_that_will_not_do_are_named(views):
    with pytest.raises(InputError, match="quality"):
        reconstruct(views, _config(quality="fast"))


@pytest.mark.parametrize("method", ["voxel", "auto", "splat"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_views_are_poor_not_a_crash(views, count, method):
    result = reconstruct(views[::2][:count], _config(method=method))
    assert result.grade == "poor"
    assert any(f"{count} X-rays" in warning for warning in result.warnings)
    assert np.isfinite(result.attenuation_per_mm).all()
    assert not any(fit.withheld for fit in result.fits)


def test_one_direction_is_poor(views):
    config = _config(method="voxel")
    result = reconstruct([replace(views[0], name=f"view {n}") for n in range(12)], config)
    assert result.grade == "poor"
    assert any("similar directions" in warning for warning in result.warnings)


def test_wrong_poses_are_poor(views):
    turned = [replace(view, geometry=other.geometry) for view, other in zip(views, views[::-1], strict=True)]
    result = reconstruct(turned, _config(method="voxel", quality="standard"))
    assert result.grade == "poor"
    assert any("poses" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attenuation": np.full((44, 48), np.nan, np.float32)}, "view_003.*NaN"),
        ({"mask": np.zeros((44, 48), bool)}, "view_003.*masked"),
    ],
)
def test_a_bad_view_is_named(views, change, message):
    with pytest.raises(InputError, match=message):
        reconstruct([*views[:3], replace(views[3], **change), *views[4:]], _config())


def test_what_will_not_do_is_refused(views):
    with pytest.raises(InputError, match="at least 2"):
        reconstruct(views[:1], _config())
    with pytest.raises(InputError, match="no usable"):
        reconstruct([], _config(region=None))
    with pytest.raises(InputError, match="region of interest"):
        reconstruct(views, _config(region=replace(REGION, center_lps_mm=(900.0, 900.0, 900.0))))
    with pytest.raises(InputError, match="attenuates"):
        reconstruct([replace(view, attenuation=0 * view.attenuation) for view in views], _config())


@pytest.mark.parametrize("method", ["voxel", "splat", "auto"])
def test_images_without_any_shape_do_not_crash(views, method):
    flat = [replace(view, attenuation=np.full_like(view.attenuation, 0.3)) for view in views]
    assert np.isfinite(reconstruct(flat, _config(method=method)).attenuation_per_mm).all()


@pytest.mark.parametrize("method", ["voxel", "splat", "ixgs"])
def test_cancel_ends_it_at_once(views, method):
    report = Recorder()
    reconstruct(views, _config(method=method), report)
    calls = len(report.fractions)
    for call in range(1, calls + 1, 6):
        report = Recorder(cancel_at=call)
        with pytest.raises(Cancelled):
            reconstruct(views, _config(method=method), report)
        assert len(report.fractions) == call


def _outcome(result):
    return (
        result.method,
        result.grade,
        result.candidates,
        [(p.stage, p.withheld_rmse) for p in result.curve],
        [f.psnr_db for f in result.fits],
    )


@pytest.mark.parametrize("method", ["voxel", "splat", "auto"])
def test_a_stopped_run_goes_on_to_the_same_result(views, method, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    report = Recorder()
    whole = reconstruct(views, _config(method=method), report)
    calls = len(report.fractions)
    for call in (*range(9, calls, 8), calls - 2, calls):
        folder = tmp_path / str(call)
        folder.mkdir()
        with pytest.raises(Cancelled):
            reconstruct(views, _config(method=method), Recorder(cancel_at=call), folder)
        report = Recorder()
        result = reconstruct(views, _config(method=method), report, folder)
        np.testing.assert_array_equal(result.attenuation_per_mm, whole.attenuation_per_mm, err_msg=f"stopped at call {call}")
        assert _outcome(result) == _outcome(whole), call
        assert report.fractions == sorted(report.fractions)


def test_a_run_stopped_again_and_again_gets_there(views, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    whole = reconstruct(views, _config(method="splat"))
    for _ in range(60):
        report = Recorder(cancel_at=14)
        try:
            result = reconstruct(views, _config(method="splat"), report, tmp_path)
        except Cancelled:
            continue
        break
    np.testing.assert_array_equal(result.attenuation_per_mm, whole.attenuation_per_mm)


@pytest.mark.parametrize("content", [b"", b"damaged", None], ids=["empty", "text", "cut"])
def test_damaged_checkpoints_mean_starting_over(views, tmp_path, content, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    whole = reconstruct(views, _config(method="auto"), checkpoint=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert {"coarse4.npz", "coarse2.npz", "splat0.npz", "voxel.npz"} <= set(names)
    for name in names:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40] if content is None else content)
    again = reconstruct(views, _config(method="auto"), checkpoint=tmp_path)
    np.testing.assert_array_equal(again.attenuation_per_mm, whole.attenuation_per_mm)
    assert _outcome(again) == _outcome(whole)
