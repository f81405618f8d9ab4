"""Every input that will not do gets one sentence and a remedy; what is doubtful gets a warning."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_shape import GRID, PLANES, blob, outlined, write_labels

from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.config_check import config_from_json, config_to_json
from ShapeCompletionLib.core.context_check import check_context
from ShapeCompletionLib.core.contours import context_from_contours, slice_from_contours
from ShapeCompletionLib.core.planes import Plane
from ShapeCompletionLib.core.sampling import EDGE_WARNING, Context, Slice, context_from_labels
from ShapeCompletionLib.core.segmentation_file import read_segmentation
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid

BOX = VoxelGrid.box(np.zeros(3), 100.0, 1.0)


def square(height_mm: float, low: int = 10, high: int = 30, size: int = 50) -> Slice:
    """Return an axial slice with a square on it."""
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return Slice(mask, [0, 0, height_mm], [1, 0, 0], [0, 1, 0])


def check(*slices: Slice) -> tuple[str, ...]:
    return check_context(Context(slices, BOX))


def refused(words: str, call, *arguments):
    """Expect one sentence that holds the words, and a remedy."""
    with pytest.raises(InputError, match=words) as caught:
        call(*arguments)
    assert caught.value.message.count(". ") == 0 and caught.value.message.endswith(".")
    assert caught.value.remedy.endswith(".")


# Slices


def test_no_slice_one_slice_empty_slices():
    refused("no slice", check)
    refused("Only one slice", check, square(0))
    refused("Only one slice", check, square(0), square(8, 10, 10))
    refused("All slices are empty", check, square(0, 10, 10), square(8, 10, 10))


def test_a_full_slice_says_which():
    refused("Slice 2 of 3 is filled", check, square(0), square(8, 0, 50), square(16))


def test_slices_far_apart():
    refused("1000 mm apart while the structure in them is 20 mm wide", check, square(0), square(1000))
    refused("110 mm apart", check, square(0), square(8), square(118))
    assert any("up to 40 mm apart" in warning for warning in check(square(0), square(40)))
    assert check(square(0), square(28)) == ()


def test_an_outline_at_the_edge_is_said_once():
    context = Context((square(0, 0, 20), square(8, 10, 50)), BOX, (EDGE_WARNING, "Coarser voxels."))
    assert check_context(context) == (EDGE_WARNING, "Coarser voxels.")


def beside(gap: int) -> list[Slice]:
    """Return two squares of 15 and 20 mm beside each other on slices every 8 mm."""
    slices = []
    for height in (0, 8, 16):
        mask = np.zeros((30, 120), bool)
        mask[10:20, 5:20] = mask[10:20, 20 + gap : 40 + gap] = True
        slices.append(Slice(mask, [0, 0, height], [1, 0, 0], [0, 1, 0]))
    return slices


def test_two_structures_in_one_label():
    """Farther apart than either is large; as the body and the arch of a vertebra they may lie."""
    refused("different structures: 41 mm lie between them", check, *beside(40))
    refused("different structures", check, *(square(height) for height in (0, 8, 16, 60, 68)))
    refused("different structures", check, *beside(18), *(square(height, size=60) for height in (80, 88)))
    assert any("2 groups far apart" in warning for warning in check(*beside(18)))
    assert any("2 groups far apart" in warning for warning in check(*(square(height) for height in (0, 4, 8, 26, 30))))


@pytest.mark.parametrize("heights", [(0, 8, 16, 32, 40, 48), (0, 16, 24), (0, 1, 10, 11, 20, 21), (0, 3, 11, 14, 26, 30)])
def test_a_slice_that_is_missing_and_slices_in_pairs_make_no_second_structure(heights):
    assert check(*(square(height) for height in heights)) == ()


def test_islands_of_one_structure_and_slips_of_the_brush_are_no_second_structure():
    islands = []
    for height in (0, 8, 16):
        mask = np.zeros((40, 60), bool)
        mask[5:35, 5:25] = mask[10:20, 33:50] = True
        mask[38, 58] = height == 8
        islands.append(Slice(mask, [0, 0, height], [1, 0, 0], [0, 1, 0]))
    assert check(*islands) == ()


def test_whole_shapes_that_are_one_pass_without_a_word():
    assert check_context(context_from_labels(outlined(), GRID)) == ()


# Volumes


def test_outlines_that_are_not_filled_are_said_and_thick_walls_are_not():
    def said(wall_px: int) -> bool:
        labels = outlined()
        for plane in PLANES:
            labels[plane] &= ~ndimage.binary_erosion(labels[plane], iterations=wall_px)
        return any("not filled" in warning for warning in check_context(context_from_labels(labels, GRID)))

    assert said(1) and said(2)
    assert not said(6)


def test_nothing_outlined_everything_outlined_planes_that_are_not_there():
    refused("Nothing is outlined in this segment", context_from_labels, np.zeros(GRID.shape_kji, bool), GRID)
    refused("outlined everywhere", context_from_labels, blob(), GRID)
    refused("no plane k:40; it has 40", context_from_labels, outlined(), GRID, [Plane(0, 40)])
    refused("Nothing is outlined in the planes named", context_from_labels, outlined(), GRID, [Plane(0, 1), Plane(0, 3)])


def test_a_structure_that_fills_the_volume():
    labels = np.zeros((20, 10, 10), bool)
    labels[4] = labels[12] = True
    refused("is filled to all its edges", lambda: check_context(context_from_labels(labels, VoxelGrid((10, 10, 20), [1] * 3, [0] * 3))))


# Contours


def test_contours_that_are_none():
    circle = np.array([[np.cos(a), np.sin(a), 0] for a in np.linspace(0, 6, 40)]) * 20
    bent = circle + [[0, 0, 4 * (x > 0)] for x in circle[:, 0]]
    refused("no contour", slice_from_contours, [], 1.0)
    refused("no contour", context_from_contours, [])
    refused("has 2 points", slice_from_contours, [circle[:2]], 1.0)
    refused("no area", slice_from_contours, [np.linspace([0, 0, 0], [9, 9, 9], 10)], 1.0)
    refused("no area", slice_from_contours, [np.zeros((5, 3))], 1.0)
    refused("not planar", slice_from_contours, [bent], 1.0)
    refused("not planar", context_from_contours, [circle, bent])
    refused("different planes", slice_from_contours, [circle, circle + [0, 0, 3]], 1.0)
    refused("something else than points", slice_from_contours, [circle[:, :2]], 1.0)
    refused("something else than points", slice_from_contours, [circle * np.nan], 1.0)
    refused("pixels along an edge", slice_from_contours, [circle * 1e4], 1.0)


# Files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {suffix: write_labels(folder / f"labels{suffix}", outlined()) for suffix in (".nrrd", ".nii.gz", ".nii", ".mha")}


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_every_format_comes_back_where_it_was(files, suffix):
    labels, grid = read_segmentation(files[suffix])
    np.testing.assert_array_equal(labels, outlined())
    np.testing.assert_allclose(grid.lps_from_ijk, GRID.lps_from_ijk, atol=1e-4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_file_is_refused_or_whole(files, tmp_path, data):
    suffix = data.draw(st.sampled_from([".nrrd", ".nii.gz", ".nii", ".mha"]))
    whole = files[suffix].read_bytes()
    path = tmp_path / f"truncated{suffix}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        labels, _ = read_segmentation(path)
    except InputError:
        return
    np.testing.assert_array_equal(labels, outlined())  # only the checksum at the end was missing


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_raises_nothing_else(files, tmp_path, data):
    suffix = data.draw(st.sampled_from([".nrrd", ".nii.gz", ".nii"]))
    content = bytearray(files[suffix].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(400, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(bytes(content))
    try:
        labels, grid = read_segmentation(path)
    except InputError as error:
        assert error.remedy
    else:
        assert labels.any() and labels.shape == grid.shape_kji


def test_files_that_hold_no_segmentation(tmp_path):
    flat, colored, four, holed, soft = (tmp_path / f"{name}.nrrd" for name in ("flat", "colored", "four", "holed", "soft"))
    SimpleITK.WriteImage(SimpleITK.Image(4, 5, SimpleITK.sitkUInt8), str(flat))
    SimpleITK.WriteImage(SimpleITK.Image([4, 5, 6], SimpleITK.sitkVectorUInt8, 3), str(colored))
    SimpleITK.WriteImage(SimpleITK.Image([4, 5, 6, 2], SimpleITK.sitkUInt8), str(four))
    for path, value in ((holed, float("nan")), (soft, 0.5)):
        image = SimpleITK.Image([4, 5, 6], SimpleITK.sitkFloat32)
        image[1, 2, 3] = value
        SimpleITK.WriteImage(image, str(path))
    for path, words in [
        (tmp_path / "none.nrrd", "is not there"),
        (tmp_path, "is a folder"),
        (flat, "2 dimensions"),
        (colored, "such as colors"),
        (four, "4 dimensions"),
        (holed, "not numbers"),
        (soft, "fractions"),
    ]:
        refused(words, read_segmentation, path)


def test_a_missing_label_names_those_that_are_there(tmp_path):
    labels = outlined().astype(np.uint8)
    labels[16][labels[16] > 0] = 7
    path = tmp_path / "labels.nrrd"
    image = SimpleITK.GetImageFromArray(labels)
    SimpleITK.WriteImage(image, str(path))
    refused("no label 3; it has 1, 7", read_segmentation, path, 3)
    refused("label 0 is no structure", read_segmentation, path, 0)
    assert read_segmentation(path, 7)[0].sum() == (labels == 7).sum()
    SimpleITK.WriteImage(image * 0, str(path))
    refused("Nothing is outlined", read_segmentation, path)


@pytest.mark.parametrize("value", [float("nan"), 0.0, float("inf")])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_without_a_spacing_is_refused(files, tmp_path, value, suffix):
    """ITK would take 1 mm without a word."""
    content = bytearray(files[".nii"].read_bytes())
    struct.pack_into("<f", content, 80, value)
    path = tmp_path / f"spacing{suffix}"
    path.write_bytes(gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content))
    refused("spacing that is not a number above zero", read_segmentation, path)


@pytest.mark.parametrize("value", ["nan", "0", "inf"])
def test_an_nrrd_without_a_spacing_is_refused(tmp_path, value):
    path = write_labels(tmp_path / "spacing.nrrd", outlined(), VoxelGrid(GRID.size_ijk, [1, 1, 1], [0, 0, 0]))
    path.write_bytes(path.read_bytes().replace(b"directions: (1,0,0)", f"directions: ({value},0,0)".encode()))
    refused("spacing that is not a number above zero", read_segmentation, path)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_nrrd_without_an_origin_is_refused(tmp_path, value):
    path = write_labels(tmp_path / "origin.nrrd", outlined(), VoxelGrid(GRID.size_ijk, [1, 1, 1], [0, 0, 0]))
    path.write_bytes(path.read_bytes().replace(b"space origin: (0,0,0)", f"space origin: ({value},0,0)".encode()))
    refused("origin that is not three numbers", read_segmentation, path)


@pytest.mark.parametrize(
    ("axis", "origin", "words"),
    [
        (b"(1e9,0,0)", b"(0,0,0)", r"voxels of 1e\+09 mm"),
        (b"(0.001,0,0)", b"(0,0,0)", "voxels of 0.001 mm"),
        (b"(1,0,0)", b"(0,1e30,0)", "km from the scanner's origin"),
    ],
)
def test_sizes_and_places_that_no_scanner_has_are_refused(tmp_path, axis, origin, words):
    path = write_labels(tmp_path / "far.nrrd", outlined(), VoxelGrid(GRID.size_ijk, [1, 1, 1], [0, 0, 0]))
    content = path.read_bytes().replace(b"directions: (1,0,0)", b"directions: " + axis)
    path.write_bytes(content.replace(b"space origin: (0,0,0)", b"space origin: " + origin))
    refused(words, read_segmentation, path)


def test_sheared_axes_are_refused(tmp_path):
    path = write_labels(tmp_path / "sheared.nrrd", outlined(), VoxelGrid(GRID.size_ijk, [1, 1, 1], [0, 0, 0]))
    path.write_bytes(path.read_bytes().replace(b"directions: (1,0,0)", b"directions: (1,1,0)"))
    refused("perpendicular", read_segmentation, path)


def write_layers(path, layers: np.ndarray, values: list[tuple[int, int, str]]):
    """Write a .seg.nrrd as Slicer does; layers [k, j, i, layer], values (label, layer, name)."""
    size = " ".join(str(n) for n in layers.shape[::-1])
    header = f"NRRD0005\ntype: uint8\ndimension: 4\nspace: left-posterior-superior\nsizes: {size}\n"
    header += "space directions: none (1,0,0) (0,1,0) (0,0,2)\nkinds: list domain domain domain\nencoding: raw\nspace origin: (1,2,3)\n"
    for number, (value, layer, name) in enumerate(values):
        header += f"Segment{number}_LabelValue:={value}\nSegment{number}_Layer:={layer}\nSegment{number}_Name:={name}\n"
    path.write_bytes(header.encode() + b"\n" + np.ascontiguousarray(layers, np.uint8).tobytes())
    return path


def test_overlapping_segments_in_layers(tmp_path):
    layers = np.stack([outlined() * 1, outlined((16, 24)) * 2], -1)
    path = write_layers(tmp_path / "two.seg.nrrd", layers, [(1, 0, "L1"), (2, 1, "L2")])
    for label in (1, 2):
        found, grid = read_segmentation(path, label)
        np.testing.assert_array_equal(found, layers[..., label - 1] == label)
        assert grid.spacing_mm.tolist() == [1, 1, 2] and grid.origin_lps_mm.tolist() == [1, 2, 3]
    refused(r"no label 3; it has 1 \(L1\), 2 \(L2\)", read_segmentation, path, 3)
    same = write_layers(tmp_path / "same.seg.nrrd", np.minimum(layers, 1), [(1, 0, "L1"), (1, 1, "L2")])
    refused("same label 1: L1, L2", read_segmentation, same)
    layers[..., 0] = 0  # L1 has nothing yet, so L2 would be taken for it
    refused("same label 1: L1, L2", read_segmentation, write_layers(same, np.minimum(layers, 1), [(1, 0, "L1"), (1, 1, "L2")]))


# Settings


def test_settings_come_back():
    config = CompletionConfig("inr", 5, 0.8, "cpu")
    assert config_from_json(config_to_json(config)) == config
    assert config_from_json({}) == CompletionConfig()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (7, "not understood"),
        ({"quality": "best"}, "not understood"),
        ({"method": "magic"}, "method"),
        ({"device": "tpu"}, "device"),
        ({"steps": 0}, "steps"),
        ({"steps": 101}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"spacing_mm": 0}, "spacing"),
        ({"spacing_mm": float("nan")}, "spacing"),
        ({"spacing_mm": "1"}, "will not do"),
        ({"spacing_mm": 0.01}, "between 0.1 and 20"),
    ],
)
def test_settings_that_will_not_do(values, words):
    with pytest.raises(InputError, match=words) as caught:
        config_from_json(values)
    assert caught.value.remedy
