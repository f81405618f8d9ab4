"""The field between slices: as its definition says, exact on the slices, the same wherever the patient lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from shape_toys import EXTENT_MM, TURNED, Toy, ball_slices, moved, moved_grid

from ShapeCompletionLib.core.interpolate import interpolation_field
from ShapeCompletionLib.core.layouts import SliceLayout, outline
from ShapeCompletionLib.core.sampling import Slice
from SparseAnatomyLib.grid import VoxelGrid

SHIFT_MM = np.array([120.0, -310.0, 45.0])
PIXEL_MM = 2.0


def toy_slices(*layouts: SliceLayout) -> tuple[Slice, ...]:
    room = np.full(3, EXTENT_MM)
    return tuple(one for layout in layouts for one in outline(layout, np.zeros(3), room, Toy().signed_distance, PIXEL_MM))


TILTED = Rotation.from_rotvec(np.radians([3.0, -4.0, 0.0])).as_matrix()
PARALLEL = toy_slices(SliceLayout("axial", 8.0, 3.0))
LAYOUTS = {
    "parallel": PARALLEL,
    "with empty slices": toy_slices(SliceLayout("axial", 8.0, 3.0, keep_empty=True)),
    "turned over": tuple(
        Slice(one.mask.T, one.origin_lps_mm, one.row_step_lps_mm, one.column_step_lps_mm) if n % 2 else one
        for n, one in enumerate(PARALLEL)
    ),
    "oblique": toy_slices(SliceLayout("oblique", 7.0, 1.0, (1.0, 2.0, -1.0))),
    "nearly parallel": tuple(moved(one, TILTED if n < 3 else np.eye(3), np.zeros(3)) for n, one in enumerate(PARALLEL)),
    "three planes": toy_slices(SliceLayout("three", offset_mm=1.0)),
    "crossing stacks": toy_slices(SliceLayout("axial", 9.0), SliceLayout("sagittal", 11.0, keep_empty=True)),
    "one plane": toy_slices(SliceLayout("coronal", 100.0, 0.0)),
}
GRID = VoxelGrid.box(np.array([1.0, 2.0, 3.0]), 90.0, 6.3, TURNED)


# The definition, written to be read: point by point, all distances by brute force.


def reference(slices: tuple[Slice, ...], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the field and the distance to the nearest slice at points [n, 3]."""
    stacks: list[list[Slice]] = []
    for one in slices:
        cosines = [abs(one.normal_lps @ stack[0].normal_lps) for stack in stacks]
        if cosines and max(cosines) > np.cos(np.radians(20)):
            stacks[int(np.argmax(cosines))].append(one)
        else:
            stacks.append([one])
    maps = {id(one): signed_distance(one) for one in slices}
    largest = max(float(maps[id(one)].max()) for one in slices if one.mask.any())
    values = [[stack_value(stack, maps, largest, point) for stack in stacks] for point in points]
    field, nearest = [], []
    for row in values:
        weights = np.array([1 / (distance**2 + 1e-6) for _, distance in row])
        field.append(weights @ [value for value, _ in row] / weights.sum())
        nearest.append(min(distance for _, distance in row))
    return np.array(field), np.array(nearest)


def signed_distance(one: Slice) -> np.ndarray:
    """Return the distance to the nearest pixel of the other kind less half a pixel, positive inside; beyond the image is outside."""
    padded = np.pad(one.mask, 1)
    places = np.argwhere(np.ones_like(padded)) * np.array(one.pixel_spacing_mm)[::-1]
    inside = padded.ravel()
    if not inside.any():
        return np.full(one.mask.shape, -np.inf)
    half = min(one.pixel_spacing_mm) / 2
    apart = cdist(places, places)
    to_other = np.where(inside, apart[:, ~inside].min(1), apart[:, inside].min(1)).reshape(padded.shape)
    to_outline = np.maximum(to_other - half, half / 2)
    return np.where(padded, to_outline, -to_outline)[1:-1, 1:-1]


def stack_value(stack: list[Slice], maps: dict[int, np.ndarray], largest: float, point: np.ndarray) -> tuple[float, float]:
    normal = stack[0].normal_lps
    centers = np.sort([normal @ one.points_lps_mm().mean((0, 1)) for one in stack])
    gap = float(np.median(np.diff(centers))) if len(stack) > 1 else 2 * max(largest, 1.0)
    sides: dict[bool, tuple[float, Slice]] = {}
    for one in stack:
        height = float((point - one.origin_lps_mm) @ one.normal_lps * np.sign(one.normal_lps @ normal))
        side = height >= 0
        if side not in sides or abs(height) < sides[side][0]:
            sides[side] = (abs(height), one)
    found = []
    for height, one in sides.values():
        radius = radius_of(one, stack, maps, gap, largest)
        value, outside = in_plane(one, np.full_like(maps[id(one)], -radius) if not one.mask.any() else maps[id(one)], point)
        found.append((height, value, np.hypot(height, outside), radius))
    nearest = min(distance for _, _, distance, _ in found)
    if len(found) == 2:
        (a, one_value, _, _), (b, other_value, _, _) = found
        return (one_value * b + other_value * a) / (a + b), nearest
    height, value, _, radius = found[0]
    u = height / gap
    return (value * (1 - u) + min(-radius, value) * u if u <= 1 else min(-radius, value) - (u - 1) * radius), nearest


def radius_of(one: Slice, stack: list[Slice], maps: dict[int, np.ndarray], gap: float, largest: float) -> float:
    if one.mask.any():
        return float(maps[id(one)].max())
    shown = [other for other in stack if other.mask.any()]
    middle = one.points_lps_mm().mean((0, 1))
    apart = [abs(float(one.normal_lps @ (other.points_lps_mm().mean((0, 1)) - middle))) for other in shown]
    return min((float(maps[id(o)].max()) + max(d - gap, 0.0) for o, d in zip(shown, apart, strict=True)), default=largest)


def in_plane(one: Slice, values: np.ndarray, point: np.ndarray) -> tuple[float, float]:
    """Return the bilinear value below a point, less how far outside the image that is, and how far."""
    column_mm, row_mm = one.pixel_spacing_mm
    offset = point - one.origin_lps_mm
    column, row = offset @ one.column_step_lps_mm / column_mm**2, offset @ one.row_step_lps_mm / row_mm**2
    rows, columns = values.shape
    c, r = np.clip(column, 0, columns - 1), np.clip(row, 0, rows - 1)
    outside = float(np.hypot((column - c) * column_mm, (row - r) * row_mm))
    by_row = [np.interp(c, np.arange(columns), values[n]) for n in range(rows)]
    return float(np.interp(r, np.arange(rows), by_row)) - outside, outside


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_kernel_is_its_definition(name):
    slices = LAYOUTS[name]
    chosen = np.random.default_rng(1).choice(np.prod(GRID.size_ijk), 250, replace=False)
    points = GRID.points_lps_mm().reshape(-1, 3)[chosen]
    field, nearest = interpolation_field(slices).on_grid(GRID, chosen)
    expected_field, expected_nearest = reference(slices, points)
    np.testing.assert_allclose(nearest, expected_nearest, atol=2e-4)
    np.testing.assert_allclose(field, expected_field, atol=2e-3)
    whole, whole_nearest = interpolation_field(slices).on_grid(GRID)
    np.testing.assert_array_equal(whole.ravel()[chosen], field)
    np.testing.assert_array_equal(whole_nearest.ravel()[chosen], nearest)


def grid_on(one: Slice) -> VoxelGrid:
    """Return a grid of one layer whose voxels are the slice's pixels."""
    spacing = np.array(one.pixel_spacing_mm)
    direction = np.stack([one.column_step_lps_mm / spacing[0], one.row_step_lps_mm / spacing[1], one.normal_lps], 1)
    return VoxelGrid((*one.mask.shape[::-1], 1), [*spacing, 1.0], one.origin_lps_mm, direction)


@pytest.mark.parametrize("name", LAYOUTS)
def test_slices_are_met_at_their_pixels(name):
    slices = LAYOUTS[name]
    prepared = interpolation_field(slices)
    for one in slices:
        field, nearest = prepared.on_grid(grid_on(one))
        np.testing.assert_array_equal(field[0] > 0, one.mask)
        assert nearest.max() < 2e-4 and np.abs(field).min() >= 0.9 * PIXEL_MM / 4


def test_the_pixels_places_are_the_slices():
    prepared = interpolation_field(LAYOUTS["crossing stacks"])
    expected = np.concatenate([one.points_lps_mm().reshape(-1, 3) for one in prepared.slices])
    np.testing.assert_allclose(prepared.pixel_centers_lps_mm(np.arange(len(prepared.distances_mm))), expected, atol=1e-4)
    signs = np.concatenate([one.mask.ravel() for one in prepared.slices])
    np.testing.assert_array_equal(prepared.distances_mm > 0, signs)
    assert sorted(map(id, prepared.slices)) == sorted(map(id, LAYOUTS["crossing stacks"]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_where_the_patient_lies_and_in_which_order_slices_come_does_not_matter(name):
    slices = LAYOUTS[name]
    turned = tuple(moved(one, TURNED, SHIFT_MM) for one in slices)
    field, nearest = interpolation_field(slices).on_grid(GRID)
    there, nearest_there = interpolation_field(turned).on_grid(moved_grid(GRID, TURNED, SHIFT_MM))
    np.testing.assert_allclose(there, field, atol=0.01)
    np.testing.assert_allclose(nearest_there, nearest, atol=1e-3)
    if name != "nearly parallel":  # where the first of a stack gives the direction
        reversed_field, _ = interpolation_field(slices[::-1]).on_grid(GRID)
        np.testing.assert_allclose(reversed_field, field, atol=0.01)


@pytest.mark.parametrize("name", LAYOUTS)
def test_larger_millimeters_make_larger_distances(name):
    slices = LAYOUTS[name]
    field, nearest = interpolation_field(slices).on_grid(GRID)
    scaled = interpolation_field(tuple(moved(one, np.eye(3), np.zeros(3), 2.0) for one in slices))
    doubled, nearest_doubled = scaled.on_grid(moved_grid(GRID, np.eye(3), np.zeros(3), 2.0))
    np.testing.assert_allclose(doubled, 2 * field, atol=0.01)
    np.testing.assert_allclose(nearest_doubled, 2 * nearest, atol=1e-3)


# Shapes whose truth is known


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 4.0, 8.0])
def test_a_balls_volume_is_that_of_its_slices_blended(spacing_mm):
    """A blend of disks of radii r and s has area pi ((1 - u) r + u s)²: the volume is known, and falls short of the ball's."""
    field, _ = interpolation_field(ball_slices(20.0, spacing_mm, keep_empty=True)).on_grid(VoxelGrid.box(np.zeros(3), 56.0, 1.0))
    heights = np.arange(-40, 41) * spacing_mm
    radii = np.sqrt(np.maximum(20.0**2 - heights**2, 0))
    shown = radii > 0
    frusta = np.pi * spacing_mm / 3 * (radii[:-1] ** 2 + radii[:-1] * radii[1:] + radii[1:] ** 2)[shown[:-1] & shown[1:]].sum()
    caps = 2 * np.pi * radii[shown][0] ** 2 * spacing_mm / 6  # cones that end halfway to the next, empty slice
    assert (field > 0).sum() == pytest.approx(frusta + caps, rel=0.015)
    assert (field > 0).sum() == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.02 * spacing_mm)


@pytest.mark.parametrize("keep_empty", [False, True], ids=["beyond what is known", "to an empty slice"])
def test_a_cylinder_ends_halfway_to_the_next_slice(keep_empty):
    slices = outline(SliceLayout("axial", 8.0, 4.0, keep_empty=keep_empty), np.zeros(3), np.full(3, 60.0), cylinder, 0.5)
    heights = np.arange(60.0, dtype=float) - 29.5
    column, _ = interpolation_field(slices).on_grid(VoxelGrid((1, 1, 60), np.ones(3), [0.2, 0.1, heights[0]]))
    inside = heights[column.ravel() > 0]
    assert inside.min() == pytest.approx(-16, abs=1) and inside.max() == pytest.approx(16, abs=1)  # the last slices are at ±12


def cylinder(points: np.ndarray) -> np.ndarray:
    return np.minimum(10 - np.hypot(points[..., 0], points[..., 1]), 15 - np.abs(points[..., 2]))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["parallel", "with empty slices", "one plane", "oblique"]), st.floats(-25, 25), st.floats(-25, 25), st.booleans())
def test_beyond_the_last_slice_it_only_gets_less_likely(name, a, b, up):
    prepared = interpolation_field(LAYOUTS[name])
    last = prepared.slices[-1 if up else 0]
    normal = prepared.slices[0].normal_lps * (1 if up else -1)
    foot = last.points_lps_mm().mean((0, 1)) + a * last.column_step_lps_mm / 2 + b * last.row_step_lps_mm / 2
    direction = np.stack([last.column_step_lps_mm / PIXEL_MM, last.row_step_lps_mm / PIXEL_MM, normal], 1)
    field, nearest = prepared.on_grid(VoxelGrid((1, 1, 120), [1, 1, 0.5], foot, direction))
    assert (np.diff(field.ravel()) < 1e-3).all()
    np.testing.assert_allclose(nearest.ravel(), 0.5 * np.arange(120), atol=1e-3)
    assert field.ravel()[-1] < -10


def test_between_two_slices_it_is_the_blend_of_both():
    slices = ball_slices(20.0, 6.0, 3.0)
    line = VoxelGrid((1, 1, 13), [1, 1, 0.5], [5.25, 1.25, -3.0])
    field, _ = interpolation_field(slices).on_grid(line)
    np.testing.assert_allclose(field.ravel(), np.linspace(field[0, 0, 0], field[-1, 0, 0], 13), atol=1e-3)


def test_empty_slices_far_away_are_surely_outside():
    slices = toy_slices(SliceLayout("axial", 8.0, 3.0, keep_empty=True))
    prepared = interpolation_field(slices)
    empty = [n for n, one in enumerate(prepared.slices) if not one.mask.any()]
    shown = [n for n, one in enumerate(prepared.slices) if one.mask.any()]
    assert empty[0] == 0 and empty[-1] == len(slices) - 1 and len(empty) >= 4
    for n in empty:
        steps = min(abs(n - m) for m in shown)
        neighbor = prepared.radii_mm[shown[0] if n < shown[0] else shown[-1]]
        assert prepared.radii_mm[n] == pytest.approx(neighbor + 8 * (steps - 1), abs=1e-3)
    corner, _ = prepared.on_grid(VoxelGrid((1, 1, 1), np.ones(3), [0, 0, 29.0]))
    assert corner.item() < -8


def test_an_outline_at_the_images_edge_ends_there():
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    one = Slice(mask, [0, 0, 0], [1, 0, 0], [0, 1, 0])
    field, _ = interpolation_field((one,)).on_grid(VoxelGrid((1, 30, 1), np.ones(3), [4.0, -5.0, 0.0]))
    np.testing.assert_array_equal(field.ravel() > 0, (np.arange(30) >= 5) & (np.arange(30) < 25))


def test_pixels_longer_than_wide():
    mask = np.zeros((12, 40), bool)
    mask[3:9, 10:30] = True
    one = Slice(mask, [0, 0, 0], [0.5, 0, 0], [0, 3.0, 0])
    prepared = interpolation_field((one,))
    values = prepared.distances_mm.reshape(mask.shape)
    assert values[6, 20] == pytest.approx(10 * 0.5 - 0.25) and values[6, 5] == pytest.approx(-5 * 0.5 + 0.25)
    assert values[1, 20] == pytest.approx(-2 * 3.0 + 0.25)


def test_no_slice_that_shows_the_structure_is_refused():
    empty = Slice(np.zeros((4, 4), bool), [0, 0, 0], [1, 0, 0], [0, 1, 0])
    for slices in ((), (empty,)):
        with pytest.raises(ValueError, match="slices"):
            interpolation_field(slices)


def test_a_stack_knows_its_gap_and_a_lone_plane_the_size():
    prepared = interpolation_field(ball_slices(20.0, 6.0) + ball_slices(20.0, 200.0, kind="sagittal"))
    np.testing.assert_allclose(prepared.gaps_mm, [6.0, 2 * 20.0], atol=0.6)
    assert prepared.stacks.tolist() == sorted(prepared.stacks.tolist()) and set(prepared.stacks.tolist()) == {0, 1}
    points = np.stack([prepared.slices[n].origin_lps_mm[2] for n in np.flatnonzero(prepared.stacks == 0)])
    assert (np.diff(points) > 0).all() or (np.diff(points) < 0).all()
    assert prepared.on_grid(VoxelGrid((1, 1, 1), np.ones(3), np.zeros(3)))[0].item() == pytest.approx(20.0, abs=0.5)
