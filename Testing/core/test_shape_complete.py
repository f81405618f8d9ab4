"""From slices to a shape, its surface and how sure they are; whatever comes in, nothing comes out that is not what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from shape_toys import EXTENT_MM, TURNED, Toy, ball_slices, moved, moved_grid, toy_prior

from ShapeCompletionLib.core.complete import complete
from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.prior import Prior
from ShapeCompletionLib.core.sampling import Context, Slice, context_from_labels
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import dice

STAGES = {"check", "interpolation", "surface", "probability", "mesh", "next slice"}
SHIFT_MM = np.array([33.0, -12.5, 210.0])


def swollen(**changes) -> Prior:
    """Return a prior that believes everything to be larger than interpolated."""
    prior = toy_prior(**changes)
    with torch.no_grad():
        prior.refine.exit.bias.fill_(6.0)
    return prior


def turned(context: Context) -> Context:
    return Context(tuple(moved(one, TURNED, SHIFT_MM) for one in context.slices), moved_grid(context.grid, TURNED, SHIFT_MM))


CONTEXTS = {
    "parallel": Toy().context("axial"),
    "three planes": Toy().context("three"),
    "turned": turned(Toy().context("axial", 8.0, 1.5)),
    "known to be empty": Toy().context("sagittal", 12.0, keep_empty=True),
}


@pytest.mark.parametrize("prior", [None, toy_prior()], ids=["no prior", "prior"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_a_completion_is_what_it_says(name, prior):
    context = CONTEXTS[name]
    done = complete(context, prior)
    assert done.grid is context.grid and done.probability.shape == context.grid.shape_kji and done.probability.dtype == np.float32
    assert (done.probability >= 0).all() and (done.probability <= 1).all()
    points, triangles = done.mesh.points_lps_mm, done.mesh.triangles
    assert done.confidence.shape == (len(points),) and (done.confidence >= 0).all() and (done.confidence <= 1).all()
    assert len(points) and triangles.min() == 0 and triangles.max() == len(points) - 1
    assert done.mesh.volume_mm3 == pytest.approx(done.shape.sum() * context.grid.voxel_volume_mm3, rel=0.03)
    inside = transform_points(context.grid.lps_from_ijk, np.argwhere(done.shape)[:, ::-1].astype(float))
    assert (points.min(0) > inside.min(0) - 2).all() and (points.max(0) < inside.max(0) + 2).all()
    assert done.method == ("inr" if prior else "interpolate") and done.prior == ("toy" if prior else None)
    assert (done.evidence is None) == (prior is None) and 0 <= done.agreement <= 1 and done.reason.endswith(".")
    assert set(done.seconds) == STAGES | ({"prior", "trust"} if prior else set()) and min(done.seconds.values()) >= 0
    truth_grid = context.grid if name != "turned" else moved_grid(context.grid, TURNED.T, -TURNED.T @ SHIFT_MM)
    assert dice(done.shape, Toy().on(truth_grid) > 0) > (0.72 if name == "three planes" else 0.85)
    plane = done.next_slice
    assert plane is not None and np.linalg.norm(plane.normal_lps) == pytest.approx(1) and plane.extent_mm > 0 and plane.gain > 0


def test_the_slices_stand_in_the_result():
    for prior in (None, toy_prior(), swollen()):
        context = Toy().context("axial")
        done = complete(context, prior, CompletionConfig("auto" if prior is None else "inr"))
        for one in context.slices:
            ijk = np.rint(transform_points(np.linalg.inv(context.grid.lps_from_ijk), one.points_lps_mm())).astype(int)
            within = ((ijk >= 0) & (ijk < context.grid.size_ijk)).all(-1)
            np.testing.assert_array_equal(done.shape[tuple(ijk[within].T[::-1])], one.mask[within])


def test_a_shape_smaller_than_the_voxels_is_no_empty_result():
    k, j, i = np.ogrid[-12:12, -12:12, -12:12]
    labels = (k / 6) ** 2 + (j / 4) ** 2 + (i / 4) ** 2 < 1
    labels[(np.arange(24) - 12) % 5 > 0] = False
    context = context_from_labels(labels, VoxelGrid((24, 24, 24), [1.0] * 3, [0.0] * 3), spacing_mm=10.0)
    with pytest.raises(InputError, match="smaller than the voxels"):
        complete(context)


@pytest.mark.parametrize("spacing_mm", [None, 0.37])
@pytest.mark.parametrize("axis", [0, 2])
def test_slices_stand_in_the_result_of_a_volume_whose_planes_are_no_layers_of_it(axis, spacing_mm):
    """Voxels of 0.9 x 1.7 x 3.1 mm become cubes of 0.9 mm: the one nearest to a pixel is on its side."""
    size = np.array([70, 38, 21])
    grid = VoxelGrid(tuple(size), [0.9, 1.7, 3.1], -TURNED @ ((size - 1) * [0.9, 1.7, 3.1] / 2), TURNED)
    drawn = np.zeros(grid.shape_kji, bool)
    planes = [slice(None)] * 3
    planes[axis] = slice(1, None, 3 if axis == 0 else 9)
    drawn[tuple(planes)] = (Toy().on(grid) > 0)[tuple(planes)]
    context = context_from_labels(drawn, grid, spacing_mm=spacing_mm)
    done = complete(context, swollen(), CompletionConfig("inr"))
    for one in context.slices:
        ijk = np.rint(transform_points(np.linalg.inv(done.grid.lps_from_ijk), one.points_lps_mm())).astype(int)
        within = ((ijk >= 0) & (ijk < done.grid.size_ijk)).all(-1)
        np.testing.assert_array_equal(done.shape[tuple(ijk[within].T[::-1])], one.mask[within])


def test_a_shape_that_reaches_farther_than_the_grid_is_whole(monkeypatch):
    """Of two slices in its middle, a prior knows how the rest goes on; the grid around the slices does not."""
    context = Toy().context("axial")
    middle = [one for one in context.slices if one.mask.sum() > 200][:2]
    flat = Context(tuple(middle), VoxelGrid.box(middle[0].origin_lps_mm * [0, 0, 1] + [0, 0, 4], [63, 63, 13], 1.0))
    done = complete(flat, swollen(), CompletionConfig("inr"))
    assert done.grid.size_ijk[2] > 13 and done.probability.shape == done.grid.shape_kji
    assert not any(done.shape.take(end, axis).any() for axis in range(3) for end in (0, -1))
    assert not any("cut off" in warning for warning in done.warnings)
    for one in middle:
        ijk = np.rint(transform_points(np.linalg.inv(done.grid.lps_from_ijk), one.points_lps_mm())).astype(int)
        within = ((ijk >= 0) & (ijk < done.grid.size_ijk)).all(-1)
        np.testing.assert_array_equal(done.shape[tuple(ijk[within].T[::-1])], one.mask[within])
    monkeypatch.setattr("ShapeCompletionLib.core.complete.MAX_VOXELS", 1000)
    cut = complete(flat, swollen(), CompletionConfig("inr"))
    assert cut.grid is flat.grid and any("cut off" in warning for warning in cut.warnings)


def test_where_the_grid_grows_a_plane_stays_empty_beyond_what_slices_were_cut_to():
    slices = tuple(Slice(np.pad(np.ones((4, 4), bool), 2), [-3.5, -3.5, height], [1, 0, 0], [0, 1, 0]) for height in (-2.0, 2.0))
    grid = VoxelGrid.box(np.array([0.0, 0.0, 0.0]), [8, 8, 9], 1.0)
    done = complete(Context(slices, grid), swollen(), CompletionConfig("inr"))
    assert done.grid is not grid
    heights = done.grid.points_lps_mm()[..., 2]
    for one in slices:
        assert done.shape[np.abs(heights - one.origin_lps_mm[2]) < 0.1].sum() == one.mask.sum()


def test_specks_are_in_neither_the_shape_nor_the_surface_and_small_outlines_are_in_both():
    prior = toy_prior()
    with torch.no_grad():
        prior.refine.exit.weight.normal_(0, 2.0, generator=torch.Generator().manual_seed(0))
    context = Toy().context("axial")
    rough = complete(context, prior, CompletionConfig("inr"))
    pieces, _ = ndimage.label(rough.shape, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    assert sizes.min() >= 0.01 * sizes.sum()
    island = [replace(one, mask=one.mask.copy()) for one in context.slices]
    for one in island[1:2]:
        one.mask[2:5, 2:5] = True
    done = complete(Context(tuple(island), context.grid))
    ijk = np.rint(transform_points(np.linalg.inv(done.grid.lps_from_ijk), island[1].points_lps_mm()[3, 3])).astype(int)
    assert done.shape[tuple(ijk[::-1])]
    assert np.linalg.norm(done.mesh.points_lps_mm - island[1].points_lps_mm()[3, 3], axis=1).min() < 3


def test_the_agreement_of_a_small_structure_is_that_of_its_result():
    """In the prior's cube it would be a few voxels, of which half lie on the border."""
    slices = ball_slices(1.5, 1.0, pixel_mm=0.125)
    done = complete(Context(slices, VoxelGrid.box(np.zeros(3), 8.0, 0.125)), swollen(), CompletionConfig("inr"))
    plain = complete(Context(slices, done.grid))
    assert done.agreement == pytest.approx(dice(done.shape, plain.shape), abs=1e-3)


def test_the_same_slices_give_the_same_shape():
    context, prior = Toy().context("axial", voxel_mm=2.0), swollen()
    first, second = (complete(context, prior, CompletionConfig("inr")) for _ in range(2))
    np.testing.assert_array_equal(first.probability, second.probability)
    np.testing.assert_array_equal(first.mesh.points_lps_mm, second.mesh.points_lps_mm)
    np.testing.assert_array_equal(first.confidence, second.confidence)
    np.testing.assert_array_equal(first.next_slice.center_lps_mm, second.next_slice.center_lps_mm)
    assert first.evidence == second.evidence and first.reason == second.reason and first.warnings == second.warnings


def test_the_slices_are_not_changed():
    context = Toy().context("axial", voxel_mm=2.0)
    before = [(one.mask.copy(), one.points_lps_mm()) for one in context.slices]
    complete(context, swollen(), CompletionConfig("inr", steps=3))
    for one, (mask, points) in zip(context.slices, before, strict=True):
        np.testing.assert_array_equal(one.mask, mask)
        np.testing.assert_array_equal(one.points_lps_mm(), points)


def test_methods():
    context, prior = Toy().context("axial", voxel_mm=2.0), swollen()
    plain = complete(context)
    asked = complete(context, prior, CompletionConfig("interpolate"))
    assert plain.method == asked.method == "interpolate" and asked.prior is None and asked.agreement == 1
    assert plain.reason != asked.reason and "asked for" in asked.reason
    assert dice(plain.shape, asked.shape) > 0.99
    by_prior = complete(context, prior, CompletionConfig("inr"))
    assert by_prior.method == "inr" and by_prior.shape.sum() > 1.1 * plain.shape.sum()
    with pytest.raises(InputError, match="needs a prior") as caught:
        complete(context, None, CompletionConfig("inr"))
    assert caught.value.remedy


def test_a_result_unlike_the_interpolation_is_said():
    context = Toy().context("axial", 14.0, 2.0)
    done = complete(context, swollen(), CompletionConfig("inr"))
    assert done.agreement < 0.8
    assert any(f"{100 * done.agreement:.0f} % only" in warning for warning in done.warnings)
    assert not any("% only" in warning for warning in complete(context, toy_prior(), CompletionConfig("inr")).warnings)


def test_a_prior_that_does_not_fit_is_not_used():
    context = Toy().context("axial", 8.0, 2.0)
    done = complete(context, swollen(usual_evidence=1e6))
    assert done.method == "interpolate" and done.prior is None and done.evidence is not None
    assert any("was not used" in warning for warning in done.warnings) and "interpolated" in done.reason
    np.testing.assert_array_equal(done.shape, complete(context, swollen(), CompletionConfig("interpolate")).shape)


def test_what_the_context_warns_of_is_passed_on():
    context = replace(Toy().context("axial", 8.0, 2.0), warnings=("Coarser voxels.",))
    assert complete(context).warnings[0] == "Coarser voxels."


def empty(one: Slice) -> Slice:
    return replace(one, mask=np.zeros_like(one.mask))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda slices: (), "no slice"),
        (lambda slices: slices[:1], "one slice"),
        (lambda slices: tuple(empty(one) for one in slices), "empty"),
        (lambda slices: (replace(slices[0], mask=np.ones_like(slices[0].mask)), *slices[1:]), "filled"),
        (lambda slices: (slices[0], moved(slices[1], np.eye(3), np.array([0, 0, 1000.0]))), "mm apart"),
    ],
)
@pytest.mark.parametrize("prior", [None, toy_prior()], ids=["no prior", "prior"])
def test_bad_slices_are_refused(change, words, prior):
    context = Toy().context("axial", 8.0, 2.0)
    with pytest.raises(InputError, match=words) as caught:
        complete(Context(change(context.slices), context.grid), prior)
    assert caught.value.exit_code == 2 and caught.value.remedy


def test_progress_rises_to_the_end_and_cancelling_ends_it():
    context, reported = Toy().context("axial", 8.0, 2.0), []
    complete(context, toy_prior(), report=lambda fraction, message: reported.append((fraction, message)))
    fractions = [fraction for fraction, _ in reported]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and all(message for _, message in reported)
    for stop in range(len(reported)):
        calls = []

        def report(fraction: float, message: str, calls=calls, stop=stop) -> None:
            calls.append(fraction)
            if len(calls) > stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            complete(context, toy_prior(), report=report)
        assert len(calls) == stop + 1


def test_beyond_two_slices_far_apart_the_shape_still_ends_where_interpolation_says():
    """Without a prior, nothing cuts the shape off before the interpolation ends it, half the gap beyond the last slices."""
    rows = np.arange(60) - 29.5
    disk = np.hypot(rows[:, None], rows[None]) < 15
    slices = tuple(Slice(disk, [-29.5, -29.5, height], [1, 0, 0], [0, 1, 0]) for height in (-18.0, 18.0))
    grid = VoxelGrid.box(np.zeros(3), [59, 59, 101], 1.0)
    shape = complete(Context(slices, grid)).shape
    heights = grid.points_lps_mm()[..., 2][shape]
    assert heights.min() == pytest.approx(-36, abs=1.5) and heights.max() == pytest.approx(36, abs=1.5)


def test_no_voxel_is_inside_far_from_everything():
    context = Toy().context("axial", 8.0)
    wide = Context(context.slices, VoxelGrid.box(np.zeros(3), 3 * EXTENT_MM, 3.0))
    for prior in (None, swollen()):
        done = complete(wide, prior)
        far = np.abs(wide.grid.points_lps_mm()).max(-1) > 0.8 * EXTENT_MM
        assert done.shape.any() and not done.shape[far].any() and done.probability[far].max() < 0.05
    for prior in (None, toy_prior()):
        plane = complete(wide, prior).next_slice
        assert np.abs(plane.center_lps_mm).max() < 0.4 * EXTENT_MM  # where the shape is, not in a haze around it
