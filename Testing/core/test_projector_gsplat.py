"""The projector through gsplat where its camera differs from ours; `test_projector` holds it to the reference elsewhere."""

from __future__ import annotations

import sys
from dataclasses import replace

import gsplat_stand_in
import numpy as np
import pytest
import torch
from splat_scenes import NEEDS_CARD, NEEDS_GSPLAT, NEEDS_WARP, ROTATIONS_DEG, converted, oblique_view, one_gaussian, random_gaussians

from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.projector import Cameras, project
from SparseAnatomyLib.geometry import XrayView

pytestmark = NEEDS_WARP
VIEWS = [oblique_view(degrees) for degrees in ROTATIONS_DEG]


@pytest.fixture
def through_gsplat():
    """Return the module, with the stand-in in the place of gsplat."""
    from IntraopReconLib.core.splatting import _projector_gsplat

    with gsplat_stand_in.in_place():
        yield _projector_gsplat


def mirrored(view: XrayView) -> XrayView:
    """Return the same detector, read from its other side."""
    columns = view.size_px[0]
    return replace(
        view,
        detector_origin_lps_mm=view.detector_origin_lps_mm + (columns - 1) * view.column_step_lps_mm,
        column_step_lps_mm=-view.column_step_lps_mm,
    )


def oblique_axes(view: XrayView) -> XrayView:
    """Return a view whose rows lean against its columns by some 30 degrees."""
    return replace(view, row_step_lps_mm=view.row_step_lps_mm + 0.6 * view.column_step_lps_mm)


def beside(view: XrayView, pixel, share=0.6, sigmas_mm=(4.0, 4.0, 4.0)) -> Gaussians:
    """Return a Gaussian on the ray to a pixel, at a share of the way to the detector."""
    ray = view.pixel_lps_mm(pixel) - view.source_lps_mm
    return one_gaussian(view.source_lps_mm + ray * share, sigmas_mm, (0.9, 0.3, -0.2, 0.4))


def images_and_gradients(gaussians: Gaussians, cameras: Cameras, kernel: str) -> list[torch.Tensor]:
    ours = converted(gaussians, torch.float32, True)
    images = project(ours, cameras, kernel)
    column, row = torch.meshgrid(torch.arange(images.shape[2]), torch.arange(images.shape[1]), indexing="xy")
    (images * torch.cos(0.05 * column + 0.11 * row + 0.4)).sum().backward()
    return [images.detach(), *(parameter.grad for parameter in ours.named().values())]


def assert_right(gaussians: Gaussians, cameras: Cameras) -> None:
    """Compare images with the reference, as near as four standard deviations come; all with Warp's own footprints, which end there too."""
    ours, warps = (images_and_gradients(gaussians, cameras, kernel) for kernel in ("gsplat", "warp"))
    expected = project(gaussians, cameras, "reference")
    assert (ours[0] - expected).abs().max() < 5e-3 * expected.max()
    for a, b in zip(ours, warps, strict=True):
        assert b.abs().max() > 0
        assert (a - b).abs().max() < 5e-5 * b.abs().max()


@pytest.mark.parametrize(
    "changed", [mirrored, oblique_axes, lambda view: mirrored(oblique_axes(view))], ids=["mirrored", "oblique", "both"]
)
def test_detectors_that_are_no_camera_s_are_projected_into_all_the_same(through_gsplat, changed):
    views = [changed(view) for view in VIEWS]
    assert_right(random_gaussians(60, seed=2, reach_mm=25), Cameras.of(views))


def test_mirrored_views_are_mirrored(through_gsplat):
    gaussians = random_gaussians(60, seed=2, dtype=torch.float32)
    images = project(gaussians, Cameras.of([*VIEWS, *map(mirrored, VIEWS)]), "gsplat")
    torch.testing.assert_close(images[4:], images[:4].flip(2), rtol=1e-3, atol=1e-5)


OUTSIDE = [(105, 20), (-30, 20), (30, -20), (30, 70), (-20, -16), (92, 64)]  # more than 15 % of 71 x 47 pixels away


@pytest.mark.parametrize("pixel", OUTSIDE)
def test_what_reaches_in_from_outside_keeps_its_shape(through_gsplat, pixel):
    near = replace(VIEWS[1], source_lps_mm=VIEWS[1].source_lps_mm * (80 / 600))  # rays far from parallel
    gaussians = beside(near, pixel, 0.16, (5.0, 6.0, 9.0))
    cameras = Cameras.of([near])
    assert project(gaussians, cameras, "reference").max() > 0.03
    assert_right(gaussians, cameras)


def test_the_field_is_wide_enough_for_what_is_before_the_source(through_gsplat):
    near = replace(VIEWS[1], source_lps_mm=VIEWS[1].source_lps_mm * (80 / 600))
    for pixel in ((-300, 20), (600, 20), (30, -300), (30, 500)):
        gaussians = beside(near, pixel, 0.02, (12.0, 15.0, 20.0))
        assert project(gaussians, Cameras.of([near]), "reference").max() > 0.1
        assert_right(gaussians, Cameras.of([near]))


def test_it_would_not_with_a_field_as_wide_as_the_image(through_gsplat, monkeypatch):
    """So the test before can fail."""
    near = replace(VIEWS[1], source_lps_mm=VIEWS[1].source_lps_mm * (80 / 600))
    gaussians, cameras = beside(near, OUTSIDE[0], 0.16, (5.0, 6.0, 9.0)), Cameras.of([near])
    monkeypatch.setattr(through_gsplat, "FIELD_PX", near.size_px[0])
    ours, expected = project(converted(gaussians, torch.float32), cameras, "gsplat"), project(gaussians, cameras, "reference")
    assert (ours - expected).abs().max() > 0.02 * expected.max()


def test_it_draws_what_warp_s_own_lists_draw(through_gsplat):
    gaussians, cameras = random_gaussians(300, seed=4, reach_mm=60, dtype=torch.float32), Cameras.of(VIEWS)
    ours, theirs = (project(gaussians, cameras, kernel) for kernel in ("gsplat", "warp"))
    assert (ours - theirs).abs().max() < 1e-4 * theirs.max()


@pytest.mark.parametrize("size_px", [(16, 16), (1, 1), (15, 33)])
def test_images_of_any_size(through_gsplat, size_px):
    gaussians, view = random_gaussians(60, seed=2, reach_mm=25), oblique_view(ROTATIONS_DEG[2], size_px)
    ours, theirs = (project(converted(gaussians, torch.float32), Cameras.of([view]), kernel) for kernel in ("gsplat", "warp"))
    assert ours.shape == (1, *size_px[::-1]) and ours.max() > 0
    assert (ours - theirs).abs().max() < 1e-4 * theirs.max()


def test_no_gaussians_give_nothing_and_ask_gsplat_nothing(through_gsplat):
    none = converted(random_gaussians(0), torch.float32, True)
    images = project(none, Cameras.of(VIEWS), "gsplat")
    assert images.shape == (4, 47, 71) and (images == 0).all()
    images.sum().backward()
    assert none.means_mm.grad.shape == (0, 3)


def test_what_none_of_the_tiles_shows_is_no_error(through_gsplat):
    behind = one_gaussian(VIEWS[0].source_lps_mm * 2, dtype=torch.float32)
    assert (project(behind, Cameras.of(VIEWS[:1]), "gsplat") == 0).all()


@pytest.mark.parametrize("broken", ["not installed", "no toolkit", "another version"])
def test_gsplat_that_cannot_be_loaded_is_a_runtime_error(through_gsplat, monkeypatch, broken):
    """So a run goes on without the card."""
    through_gsplat.load.cache_clear()
    if broken == "no toolkit":
        monkeypatch.setattr(sys.modules["gsplat.cuda._backend"], "_C", None)
    else:
        monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None if broken == "not installed" else object())
    with pytest.raises(RuntimeError, match="gsplat cannot be"):
        project(random_gaussians(3, dtype=torch.float32), Cameras.of(VIEWS), "gsplat")


def test_loading_says_nothing_and_leaves_the_path(through_gsplat, monkeypatch, capsys):
    import os

    class Backend:
        @property
        def _C(self):  # noqa: N802
            print("Setting up CUDA")
            seen.append(os.environ["PATH"])
            return object()

    seen, before = [], os.environ["PATH"]
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", Backend())
    through_gsplat.load.cache_clear()
    through_gsplat.load()
    assert capsys.readouterr().out == "" and os.environ["PATH"] == before
    assert seen[0].startswith(before) and seen[0] != before


@NEEDS_GSPLAT
def test_the_stand_in_is_as_gsplat_s_own_plain_torch():
    from gsplat.cuda import _torch_impl as theirs

    from IntraopReconLib.core.splatting import _projector_gsplat as ours
    from IntraopReconLib.core.splatting._projector_reference import symmetric

    gaussians = random_gaussians(80, seed=3, reach_mm=120, dtype=torch.float32)
    cameras, intrinsics = ours._cameras(torch.from_numpy(np.stack([oblique_axes(view).projection_matrix for view in VIEWS])))
    covariances, size = gaussians.covariances_mm2(), (71, 47)
    for width, height in (size, (ours.FIELD_PX,) * 2):
        options = {"width": width, "height": height, "eps2d": 0.0, "near_plane": 1.0}
        found = gsplat_stand_in.fully_fused_projection(gaussians.means_mm, covariances, None, None, cameras, intrinsics, **options)
        expected = theirs._fully_fused_projection(gaussians.means_mm, symmetric(covariances), cameras, intrinsics, **options)
        torch.testing.assert_close(found[0], expected[0])
        seen = (expected[0] > 0).all(-1)
        assert 20 < seen.sum() < seen.numel()
        for a, b in zip(found[1:4], expected[1:4], strict=True):
            torch.testing.assert_close(a[seen], b[seen], rtol=1e-4, atol=1e-4)
    expected[1][~seen] = 0  # else it counts the tiles of nothing
    tiles = theirs._isect_tiles(expected[1], expected[0], expected[2], 16, 5, 3)
    for a, b in zip(gsplat_stand_in.isect_tiles(expected[1], expected[0], expected[2], 16, 5, 3), tiles, strict=True):
        torch.testing.assert_close(a, b)
    starts = theirs._isect_offset_encode(tiles[1], len(VIEWS), 5, 3)
    torch.testing.assert_close(gsplat_stand_in.isect_offset_encode(tiles[1], len(VIEWS), 5, 3), starts)


@NEEDS_GSPLAT
@NEEDS_CARD
@pytest.mark.gpu
def test_gsplat_itself_projects_as_the_stand_in():
    gaussians, cameras = random_gaussians(300, seed=4, reach_mm=60, dtype=torch.float32), Cameras.of([*VIEWS, oblique_axes(VIEWS[0])])
    with gsplat_stand_in.in_place():
        expected = project(gaussians, cameras, "gsplat")
    there = Gaussians(*(parameter.cuda() for parameter in gaussians.named().values()))
    assert (project(there, cameras, "gsplat").cpu() - expected).abs().max() < 1e-4 * expected.max()
