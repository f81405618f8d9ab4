"""Planes are laid where a layout says, and show the section of the structure that they cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shape_toys import EXTENT_MM, Toy

from ShapeCompletionLib.core.layouts import LAYOUT_KINDS, SliceLayout, outline, outline_plane

ROOM = np.full(3, EXTENT_MM)
OBLIQUE = (1.0, -2.0, 1.0)
NORMALS = {"axial": [0, 0, 1], "coronal": [0, 1, 0], "sagittal": [1, 0, 0], "oblique": np.array(OBLIQUE) / np.sqrt(6)}


def ball(points: np.ndarray) -> np.ndarray:
    return 14.0 - np.linalg.norm(points - [1.0, 2.0, -1.0], axis=-1)


def layout_of(kind: str, **settings_of_layout) -> SliceLayout:
    return SliceLayout(kind, normal_lps=OBLIQUE if kind == "oblique" else None, **settings_of_layout)


@pytest.mark.parametrize("kind", NORMALS)
@pytest.mark.parametrize("pixel_mm", [0.5, 1.0])
def test_slices_of_any_direction_show_the_ball_they_cut(kind, pixel_mm):
    """The section of a ball is a disk whose area is known."""
    center, expected = np.array([1.0, 2.0, -1.0]), np.asarray(NORMALS[kind], float)
    slices = outline(layout_of(kind, spacing_mm=6.0, offset_mm=1.5), np.zeros(3), ROOM, ball, pixel_mm)
    assert len(slices) in (4, 5)
    heights = []
    for one in slices:
        assert np.abs(one.normal_lps @ expected) == pytest.approx(1, abs=1e-12)
        assert one.pixel_spacing_mm == pytest.approx((pixel_mm, pixel_mm))
        np.testing.assert_array_equal(one.mask, ball(one.points_lps_mm()) > 0)
        heights.append(one.origin_lps_mm @ expected)
        away = heights[-1] - center @ expected
        assert one.mask.sum() * pixel_mm**2 == pytest.approx(np.pi * (14**2 - away**2), rel=0.03, abs=8 * pixel_mm)
        reach = np.abs(one.points_lps_mm() - center).max((0, 1))
        assert reach[np.abs(expected) < 0.5].min() >= EXTENT_MM / 2 - 3  # all of the box
    np.testing.assert_allclose((np.array(heights) - 1.5) / 6, np.round((np.array(heights) - 1.5) / 6), atol=1e-9)
    np.testing.assert_allclose(np.diff(heights), 6.0, atol=1e-9)


def test_the_section_of_an_ellipsoid_has_its_closed_form_area():
    """An axial cut at height z of an ellipsoid is an ellipse of area pi a b (1 - z²/c²)."""
    radii = np.array([20.0, 12.0, 15.0])
    slices = outline(SliceLayout("axial", 5.0, 2.0), np.zeros(3), ROOM, lambda p: 1 - np.linalg.norm(p / radii, axis=-1), 0.25)
    assert len(slices) == 6
    for one in slices:
        expected = np.pi * radii[0] * radii[1] * (1 - (one.origin_lps_mm[2] / radii[2]) ** 2)
        assert one.mask.sum() / 16 == pytest.approx(expected, rel=0.01)


def test_planes_that_miss_are_kept_or_left_out():
    kept = outline(SliceLayout("axial", 2.0, keep_empty=True), np.zeros(3), ROOM, ball)
    left = outline(SliceLayout("axial", 2.0), np.zeros(3), ROOM, ball)
    assert len(kept) == 32 and len(left) == sum(one.mask.any() for one in kept) == 14  # from -14 to 12 mm, of a ball from -15 to 13
    assert outline(SliceLayout("axial", 60.0, 30.0), np.zeros(3), ROOM, ball) == ()


@settings(max_examples=40, deadline=None)
@given(st.floats(-20, 20), st.floats(3, 12), st.sampled_from(sorted(NORMALS)))
def test_the_offset_moves_the_planes_and_wraps(offset, spacing, kind):
    planes = [
        [one.origin_lps_mm @ NORMALS[kind] for one in outline(layout_of(kind, spacing_mm=spacing, offset_mm=o), np.zeros(3), ROOM, ball)]
        for o in (offset, offset + spacing)
    ]
    np.testing.assert_allclose(planes[0], planes[1], atol=1e-9)
    steps = (np.array(planes[0]) - offset) / spacing
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    np.testing.assert_allclose(np.diff(planes[0]), spacing, atol=1e-9)


def test_three_planes_meet_beside_the_center():
    center = np.array([10.0, -20.0, 30.0])
    slices = outline(SliceLayout("three", offset_mm=2.0), center, ROOM, lambda points: Toy().signed_distance(points - center))
    assert len(slices) == 3
    for one, axis in zip(slices, (2, 1, 0), strict=True):
        assert np.abs(one.normal_lps).argmax() == axis
        assert one.origin_lps_mm[axis] == pytest.approx(center[axis] + 2.0)


def test_one_plane_is_centered_on_the_foot_of_its_normal():
    normal = np.array([0.48, 0.6, 0.64])
    one = outline_plane(normal, 3.0, np.array([5.0, 6.0, 7.0]), ROOM, ball, 1.0)
    np.testing.assert_allclose(one.points_lps_mm().mean((0, 1)), np.array([5.0, 6.0, 7.0]) + 3 * normal, atol=1e-9)
    np.testing.assert_allclose(one.normal_lps, normal, atol=1e-12)


def test_a_normal_of_whole_numbers_of_any_length_will_do():
    whole = outline(SliceLayout("oblique", 8.0, 0.0, (0, 0, 2)), np.zeros(3), ROOM, ball)
    for one, other in zip(whole, outline(SliceLayout("axial", 8.0), np.zeros(3), ROOM, ball), strict=True):
        np.testing.assert_array_equal(one.points_lps_mm(), other.points_lps_mm())
        np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"kind": "diagonal"}, "kind"),
        ({"spacing_mm": 0.0}, "spacing_mm"),
        ({"spacing_mm": float("nan")}, "spacing_mm"),
        ({"kind": "oblique"}, "normal_lps"),
        ({"normal_lps": (0, 0, 1)}, "normal_lps"),
        ({"kind": "oblique", "normal_lps": (0, 0, 0)}, "normal_lps"),
    ],
)
def test_a_layout_names_what_is_wrong(changes, name):
    with pytest.raises(ValueError, match=name):
        SliceLayout(**({"kind": "axial"} | changes))


def test_every_kind_can_be_laid():
    for kind in LAYOUT_KINDS:
        assert outline(layout_of(kind), np.zeros(3), ROOM, ball)
