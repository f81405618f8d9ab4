"""The planes that were outlined are found again, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_shape import blob, outlined

from ShapeCompletionLib.core.planes import Plane, find_planes, planes_from_text
from SparseAnatomyLib.errors import InputError

SHAPE = (40, 44, 48)


def random_blob(seed: int) -> np.ndarray:
    """Return a smooth solid shape, thick everywhere, in one or more pieces, bool."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 6)
    field = 1 - (k / 0.8) ** 2 - (j / 0.7) ** 2 - (i / 0.75) ** 2 + 0.4 * noise / noise.std()
    solid = ndimage.binary_opening(field > 0.35, ndimage.generate_binary_structure(3, 2), iterations=2)
    pieces, _ = ndimage.label(solid)
    sizes = np.bincount(pieces.ravel())[1:]
    return pieces == 1 + np.argmax(sizes)


def draw(shape: np.ndarray, planes) -> np.ndarray:
    """Return what a shape shows on planes, bool."""
    labels = np.zeros_like(shape)
    for plane in planes:
        where = [slice(None)] * 3
        where[plane.axis] = plane.index
        labels[tuple(where)] = shape[tuple(where)]
    return labels


def cut(shape: np.ndarray, axis: int, least: int = 60) -> list[int]:
    """Return the planes along an axis that truly cut a shape."""
    return np.flatnonzero([section.sum() >= least for section in np.moveaxis(shape, axis, 0)]).tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_parallel_planes_are_found_again_at_any_gaps(data):
    shape = random_blob(data.draw(st.integers(0, 20)))
    axis = data.draw(st.integers(0, 2))
    candidates = cut(shape, axis)[:: data.draw(st.sampled_from([2, 3, 5]))]
    chosen = data.draw(st.lists(st.sampled_from(candidates), min_size=2, max_size=8, unique=True))
    expected = {Plane(axis, index) for index in chosen}
    assert set(find_planes(draw(shape, expected))) == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_planes_along_several_axes_are_found_again(data):
    shape = random_blob(data.draw(st.integers(0, 20)))
    axes = data.draw(st.sampled_from([(0, 1), (0, 2), (1, 2), (0, 1, 2)]))
    expected = set()
    for axis in axes:
        candidates = cut(shape, axis)[data.draw(st.integers(0, 4)) :: 5]
        chosen = data.draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=3, unique=True))
        expected |= {Plane(axis, index) for index in chosen}
    assert set(find_planes(draw(shape, expected))) == expected


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("gap", [2, 3, 8])
def test_a_comb_is_not_taken_for_planes_of_another_axis(axis, gap):
    """A long thin shape, sliced across: few planes along it would explain as many voxels."""
    long = np.zeros((80, 12, 12), bool)
    long[4:76, 3:9, 3:9] = True
    shape = np.moveaxis(long, 0, axis)
    expected = {Plane(axis, index) for index in range(5, 74, gap)}
    assert set(find_planes(draw(shape, expected))) == expected


def test_three_orthogonal_planes():
    shape = random_blob(1)
    expected = {Plane(axis, cut(shape, axis)[len(cut(shape, axis)) // 2]) for axis in range(3)}
    assert set(find_planes(draw(shape, expected))) == expected


@pytest.mark.parametrize("wall_px", [1, 2])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_lines_around_a_structure_tell_the_planes_that_they_are_in(axes, wall_px):
    shape = blob().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    gap = 8 if len(axes) == 1 else 200  # one plane an axis
    expected = {Plane(axis, index) for axis in axes for index in cut(shape, axis)[4 if gap == 8 else len(cut(shape, axis)) // 2 :: gap]}
    labels = np.zeros(shape.shape, bool)
    for plane in expected:
        section = np.moveaxis(shape, plane.axis, 0)[plane.index]
        np.moveaxis(labels, plane.axis, 0)[plane.index] |= section & ~ndimage.binary_erosion(section, iterations=wall_px)
    assert set(find_planes(labels)) == expected


@pytest.mark.parametrize("thickness", [2, 3])
def test_a_thick_brush_paints_one_plane(thickness):
    labels = np.zeros(SHAPE, bool)
    starts = (8, 16, 24, 30)
    for start in starts:
        labels[start : start + thickness] = random_blob(2)[start]
    assert find_planes(labels) == tuple(Plane(0, start + (thickness - 1) // 2) for start in starts)


def test_a_round_brush_that_tapers_paints_one_plane():
    labels = np.zeros(SHAPE, bool)
    for middle in (10, 18, 26):
        labels[middle] = random_blob(2)[middle]
        labels[middle - 1] = labels[middle + 1] = ndimage.binary_erosion(labels[middle])
    assert find_planes(labels) == tuple(Plane(0, index) for index in (10, 18, 26))


def test_neighbors_that_show_different_sections_are_two_planes():
    expected = {Plane(0, index) for index in (8, 9, 17, 26)}
    assert set(find_planes(draw(random_blob(3), expected))) == expected


@pytest.mark.parametrize("together", [2, 3])
def test_neighbors_outlined_together_everywhere_are_planes_of_their_own(together):
    """No brush paints sections that differ to both sides: each was outlined, and each must stand in the result."""
    expected = {Plane(0, start + n) for start in (7, 16, 25) for n in range(together)}
    assert set(find_planes(draw(random_blob(3), expected))) == expected


def test_slips_of_the_brush_are_no_planes():
    labels = outlined()
    labels[12, 20, 20] = labels[13, 5, 5] = labels[20, 30, 10:12] = True
    assert find_planes(labels) == tuple(Plane(0, index) for index in (8, 16, 24, 32))


def test_small_and_thin_sections_belong_to_the_other_planes_axis():
    labels = outlined((16, 24))
    labels[32, 20, 14:24] = True
    labels[35, 20:22, 20:22] = True
    assert find_planes(labels) == tuple(Plane(0, index) for index in (16, 24, 32, 35))


def test_sections_of_several_pieces():
    labels = np.zeros(SHAPE, bool)
    for index in (6, 14, 22):
        labels[index, 5:12, 5:12] = labels[index, 25:30, 30:40] = True
    assert find_planes(labels) == tuple(Plane(0, index) for index in (6, 14, 22))


def test_nothing_outlined_is_no_plane():
    assert find_planes(np.zeros(SHAPE, bool)) == ()


@pytest.mark.parametrize("shape", [blob(), random_blob(0), np.pad(np.ones((6, 30, 30), bool), 3), blob()[:20]])
def test_outlined_everywhere_is_refused(shape):
    with pytest.raises(InputError, match="outlined everywhere") as caught:
        find_planes(shape, np.ones(3))
    assert "--planes" in caught.value.remedy


def test_thick_slices_that_are_all_outlined_are_sparse():
    thick = blob()[::5]
    expected = tuple(Plane(0, int(index)) for index in np.flatnonzero(thick.any((1, 2))))
    assert len(expected) > 4
    assert find_planes(thick, np.array([5.0, 1.0, 1.0])) == expected
    with pytest.raises(InputError):
        find_planes(thick, np.array([2.0, 1.0, 1.0]))


def test_planes_by_name():
    assert planes_from_text(["i:40", " k : 10", "k:10"]) == (Plane(0, 10), Plane(2, 40))
    assert [str(plane) for plane in planes_from_text(["j:3"])] == ["j:3"]
    for name in ("x:1", "k", "k:-1", "", "k:1.5", 7):
        with pytest.raises(InputError, match="no plane"):
            planes_from_text([name])


@pytest.mark.parametrize(("axis", "index"), [(3, 1), (-1, 1), (0, -1)])
def test_a_plane_of_no_volume(axis, index):
    with pytest.raises(ValueError, match="expected"):
        Plane(axis, index)
    with pytest.raises(ValueError, match=r"\[k, j, i\]"):
        find_planes(np.zeros((4, 5), bool))


def test_real_shapes_are_found_again(shared_data):
    import SimpleITK

    folder = shared_data / "shapes"
    paths = [sorted((folder / kind).glob("*.nii.gz"))[0] for kind in ("hippocampus", "pancreas", "vertebra")]
    for path in paths:
        shape = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) > 0
        for axis in range(3):
            expected = {Plane(axis, index) for index in cut(shape, axis, 9)[2::4]}
            assert set(find_planes(draw(shape, expected))) == expected
