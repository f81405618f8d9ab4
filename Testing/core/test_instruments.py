"""Metal in the beam: exact chords of solids, screws and tools that hold together, and places drawn by chance."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from IntraopReconLib.core.simulation_config import InstrumentRanges
from IntraopReconLib.core.xrays import instruments as tools
from IntraopReconLib.core.xrays.instrument_placement import KINDS, bone_points_lps_mm, random_instruments
from IntraopReconLib.core.xrays.simulate_beads import STEEL_PER_MM, SteelBalls, shadows
from IntraopReconLib.core.xrays.solids import (
    Solids,
    add_to_volume,
    ball,
    block,
    cylinder,
    join,
    nothing,
    pose,
    solid_integrals,
    tapered,
    wire,
)
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

OBLIQUE = XrayView([30.0, -600.0, 40.0], [-140.0, 410.0, 150.0], [0.8, 0.1, 0.05], [-0.05, 0.1, -0.9], (300, 260))
FRONT = XrayView([0, -600, 0], [-80, 420, 80], [0.8, 0, 0], [0, 0, -0.8], (201, 201))
EVERYTHING = InstrumentRanges(**dict.fromkeys(KINDS, 1.0))
CENTER = np.array([5.0, -3.0, 8.0])


def built() -> dict[str, Solids]:
    """Return one of each instrument, about its own origin."""
    turn = np.linspace(0, 5, 20)
    return {
        "screw": tools.screw(30, 5, 1.0),
        "pedicle_screw": tools.pedicle_screw(45, 6.5),
        "rod": tools.rod([[0, 0, 0], [3, 0, 30], [0, 2, 60]]),
        "k_wire": tools.k_wire(120, 2.0, 8.0),
        "plate": tools.plate(5, np.array([True, False, True, True, False]), 20.0),
        "hip_screw": tools.hip_screw(90, 4),
        "prosthesis": tools.hip_prosthesis(120, 16),
        "clamp": tools.clamp(150, 0.3),
        "retractor": tools.retractor(25, 60),
        "lead": tools.lead(np.stack([20 * turn, 5 * np.sin(turn), 20 * np.cos(turn)], 1)),
        "table": tools.table_top([0, 60, 0], 200, 400),
    }


def rays(view: XrayView) -> np.ndarray:
    """Return unit vectors along the rays through the middles of the pixels, [row, column, 3]."""
    direction = view.all_pixels_lps_mm() - view.source_lps_mm
    return direction / np.linalg.norm(direction, axis=-1, keepdims=True)


# ---- solids


def test_rays_cut_the_chords_of_a_cylinder():
    start, end, radius = np.array([-30.0, 10.0, -25.0]), np.array([35.0, -15.0, 30.0]), 9.0
    image = solid_integrals(cylinder(start, end, radius, 0.5), OBLIQUE, subrays=1)
    axis = (end - start) / np.linalg.norm(end - start)
    direction = rays(OBLIQUE)
    across = np.linalg.norm(np.cross(direction, axis), axis=-1)  # sine between ray and axis
    apart = np.abs((OBLIQUE.source_lps_mm - start) @ np.moveaxis(np.cross(direction, axis), -1, 0).reshape(3, -1)).reshape(across.shape)
    chord = 2 * np.sqrt(np.clip(radius**2 - (apart / across) ** 2, 0, None)) / across
    nearest = np.cross(axis, np.cross(direction, axis))
    along = -((OBLIQUE.source_lps_mm - start) @ np.moveaxis(nearest, -1, 0).reshape(3, -1)).reshape(across.shape) / across**2
    middle = (OBLIQUE.source_lps_mm + along[..., None] * direction - start) @ axis
    inside = (middle > 2 * radius) & (middle < np.linalg.norm(end - start) - 2 * radius)  # away from the flat ends
    assert inside.sum() > 5000 and image[inside].max() > 0.5 * 2 * radius
    np.testing.assert_allclose(image[inside], 0.5 * chord[inside], atol=1e-4)


def test_a_cylinder_along_a_ray_is_as_long_as_it_is():
    image = solid_integrals(cylinder([0, -20, 0], [0, 30, 0], 6.0, 0.345), FRONT, subrays=1)
    assert image[100, 100] == pytest.approx(0.345 * 50, rel=1e-6)
    assert image[0, 0] == 0


def test_a_ball_is_the_ball_of_a_jig():
    center, radius = np.array([12.0, 20.0, -15.0]), 7.0
    image = solid_integrals(ball(center, radius, STEEL_PER_MM), OBLIQUE, subrays=8)
    np.testing.assert_allclose(image, shadows(SteelBalls(center[None], [radius]), OBLIQUE), atol=1e-4)


def test_a_block_is_crossed_through_its_faces():
    image = solid_integrals(block([0, 0, 0], [20, 7, 30], 0.1), FRONT, subrays=1)
    assert image[100, 100] == pytest.approx(1.4)
    direction = rays(FRONT)
    right = 100 + round(10 * 1020 / 600 / 0.8)  # 10 mm to the side
    assert image[100, right] == pytest.approx(1.4 / direction[100, right, 1], rel=1e-6)
    shadow = np.count_nonzero(image[100]) * 0.8
    assert shadow == pytest.approx(40 * 1020 / 593, abs=1.7)


def test_pixels_are_means_over_their_area():
    solids = cylinder([0, 0, -60], [0, 0, 60], 1.0, 1.0)
    wide = XrayView([0, -600, 0], [-80, 420, 80], [8, 0, 0], [0, 0, -8], (21, 21))
    coarse = solid_integrals(solids, wide, 32)
    assert coarse[10].sum() * 8 == pytest.approx(math.pi * 1020 / 600, rel=0.02)  # area of the section, magnified
    assert coarse[10, 10] == coarse[10].sum()  # the wire is thinner than a pixel


def test_a_wire_is_one_piece_without_overlaps():
    turn = np.linspace(0, math.pi, 25)
    points = np.stack([40 * np.cos(turn), np.zeros_like(turn), 40 * np.sin(turn)], 1)
    image = solid_integrals(wire(points, 1.5, 1.0), FRONT, 4)
    side = solid_integrals(cylinder([40, 0, 0], [40, 0, 30], 1.5, 1.0), FRONT, 4)
    assert image.max() == pytest.approx(side.max(), rel=0.01)  # overlaps would be twice as dark
    places = FRONT.project(points[1:-1]).round().astype(int)
    assert (maximum_filter(image, 3)[places[:, 1], places[:, 0]] > 0.9 * side.max()).all()  # and gaps would be bright


def test_holes_take_away_what_they_hold():
    bar = block([0, 0, 0], [20, 5, 20], 1.0)
    drilled = solid_integrals(join(bar, cylinder([0, -5, 0], [0, 5, 0], 4.0, -1.0)), FRONT, 1)
    assert drilled[100, 100] == 0 and drilled[100, 116] > 9.9 and drilled.min() == 0


def test_what_lies_behind_the_detector_or_the_source_shadows_nothing():
    for y in (500.0, -700.0):
        assert solid_integrals(ball([0, y, 0], 20.0, 1.0), FRONT).max() == 0
    assert solid_integrals(nothing(), FRONT).max() == 0
    assert solid_integrals(ball([0, -600, 0], 30.0, 1.0), FRONT).min() == pytest.approx(30.0, abs=1e-3)  # around the source


@settings(max_examples=15, deadline=None)
@given(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-30, 30), st.sampled_from(sorted(built())))
def test_moving_solids_and_view_together_changes_nothing(turn, tilt, shift, name):
    solids = join(built()[name])
    b_from_a = pose([shift, -shift / 2, 3.0], [math.sin(tilt), math.cos(tilt) * math.sin(turn), math.cos(tilt) * math.cos(turn)])
    small = FRONT.binned(8)
    here, there = solid_integrals(solids, small, 1), solid_integrals(solids.moved(b_from_a), small.transformed(b_from_a), 1)
    close = np.isclose(here, there, atol=1e-3, rtol=1e-3)
    assert close.mean() > 0.99  # but for rays that graze an edge


def test_solids_fill_the_voxels_that_they_shadow():
    solids = join(cylinder([-10, 2, -12], [12, -3, 10], 5.0, 0.345), tapered([5, 0, -5], [8, 6], [3, 3], 20, 0.2))
    grid = VoxelGrid.box([0, 0, 0], 60, 0.5)
    volume = np.zeros(grid.shape_kji, np.float32)
    add_to_volume(volume, grid, solids)
    assert volume.sum() * grid.voxel_volume_mm3 == pytest.approx(
        0.345 * math.pi * 25 * np.linalg.norm([22, 5, 22]) + 0.2 * (20 / 6) * 4 * (48 + 9 + 4 * 5.5 * 4.5), rel=0.01
    )
    column = volume.sum(1)[::-1] * 0.5  # along y, head up
    far = XrayView([0, -1e6, 0], [-59.5, 1e6, 59.5], [1.0, 0, 0], [0, 0, -1.0], (120, 120))  # rays along y, 0.5 mm apart
    image = solid_integrals(solids, far, 1)
    assert np.abs(image - column).max() < 0.345 * 1.5 and np.abs(image - column).mean() < 0.01 * image.max()


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan])
def test_a_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="radius_mm: expected a number above zero"):
        cylinder([0, 0, 0], [0, 0, 1], radius, 1.0)
    with pytest.raises(ValueError, match="length_mm"):
        cylinder([0, 0, 0], [0, 0, 0], 1.0, 1.0)
    with pytest.raises(ValueError, match="two points"):
        wire([[0, 0, 0]], 1.0, 1.0)


# ---- instruments


@pytest.mark.parametrize("name", built())
def test_no_instrument_shines(name):
    solids = built()[name]
    image = np.zeros(OBLIQUE.size_px[::-1])
    for one in range(len(solids)):  # without the clipping at zero of all together
        piece = Solids(*(getattr(solids, field.name)[one : one + 1] for field in dataclasses.fields(Solids)))
        sign = 1 if piece.per_mm[0] > 0 else -1
        image += sign * solid_integrals(dataclasses.replace(piece, per_mm=np.abs(piece.per_mm)), OBLIQUE, 2)
    assert image.min() > -1e-4 and image.max() > 0.02
    np.testing.assert_allclose(solid_integrals(solids, OBLIQUE, 2), np.maximum(image, 0), atol=1e-4)


def test_a_thread_lies_between_core_and_crest():
    solids = tools.screw(40, 6.5, 1.0, pitch_mm=2.6).moved(pose([0, 0, -20], [0, 0, 1]))
    image = solid_integrals(solids, FRONT, 4)
    rows = slice(90, 130)
    thick = image[rows].max(1)
    core = 6.5 * (1 - 0.28)
    assert core * 0.97 < thick.min() and thick.max() < 6.5 * 1.02 and np.ptp(thick) > 0.3
    width = (image[rows] > 0.5).sum(1) * 0.8 * 600 / 1020
    assert core - 1 < width.min() and width.max() < 6.5 + 1


def test_the_shaft_of_a_hip_screw_leaves_its_plate_at_135_degrees():
    solids = tools.hip_screw(90, 4)
    plate = np.flatnonzero(~solids.shape.any((1, 2)))[0]
    normals = solids.planes[plate, :, :3]
    along = normals[solids.planes[plate, :, 3].argmax()]
    along *= np.sign(along @ solids.center_lps_mm[plate])
    assert math.degrees(math.acos(along[2])) == pytest.approx(135)


# ---- placement


def bone_points(count: int = 200) -> np.ndarray:
    return CENTER + np.random.default_rng(3).normal(0, 20, (count, 3))


def test_same_seed_same_metal():
    first, again, other = (random_instruments(bone_points(), CENTER, EVERYTHING, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in ("center_lps_mm", "shape", "planes", "per_mm", "reach_mm"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert len(first) != len(other) or not np.allclose(first.center_lps_mm, other.center_lps_mm)


@pytest.mark.parametrize("kind", KINDS)
def test_metal_lies_in_the_field(kind):
    ranges = dataclasses.replace(InstrumentRanges(**dict.fromkeys(KINDS, 0.0)), **{kind: 1.0})
    coarse, seen = FRONT.binned(4), 0
    for seed in range(4):
        solids = random_instruments(bone_points(), CENTER, ranges, np.random.default_rng(seed))
        image = solid_integrals(solids, coarse, 1)
        assert image.min() >= 0 and np.isfinite(image).all()
        seen += image.max() > 0.2
    assert seen >= 2


def test_no_chance_no_metal():
    none = InstrumentRanges(**dict.fromkeys(KINDS, 0.0))
    assert len(random_instruments(bone_points(), CENTER, none, np.random.default_rng(0))) == 0


def test_bone_near_the_isocenter():
    grid = VoxelGrid.box(CENTER, 100, 2.0)
    volume = np.zeros(grid.shape_kji, np.float32)
    volume[20:23, 30, 24] = 0.04
    points = bone_points_lps_mm(volume, grid, CENTER, 40.0)
    expected = grid.points_lps_mm()[20:23, 30, 24]
    np.testing.assert_allclose(np.sort(points, 0), np.sort(expected, 0))
    np.testing.assert_array_equal(bone_points_lps_mm(np.zeros_like(volume), grid, CENTER, 40.0), CENTER[None])


def test_no_bone_is_refused():
    with pytest.raises(ValueError, match="bone_points: expected at least one point"):
        random_instruments(np.empty((0, 3)), CENTER, EVERYTHING, np.random.default_rng(0))
