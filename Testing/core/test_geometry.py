"""Views, frames and grids, on a detector that is nothing special: oblong, with unequal pitches, off-center and rotated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from SparseAnatomyLib.frames import LPS_FROM_RAS, RAS_FROM_LPS, affine, ras_transform_from_lps, transform_points, transform_vectors
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

POINTS = np.array([[0.0, 0, 0], [31, -20, 10], [-15, 42, 25], [5, 12, -63]])  # no symmetry
VECTORS = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")


def _view(seed: int = 3) -> XrayView:
    """Return a rotated view with 320 × 200 pixels of 0.4 × 0.7 mm and a principal point far from the center."""
    rng = np.random.default_rng(seed)
    right, down, away = Rotation.random(rng=rng).as_matrix().T
    if np.cross(right, down) @ away < 0:
        right = -right
    source = -620 * away + rng.normal(size=3) * 20
    origin = 400 * away - 0.4 * 90 * right - 0.7 * 130 * down + rng.normal(size=3) * 10
    return XrayView(source, origin, 0.4 * right, 0.7 * down, (320, 200))


def _same(a: XrayView, b: XrayView, tolerance: float = 1e-7) -> None:
    for name in VECTORS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tolerance, err_msg=name)
    assert a.size_px == b.size_px


def _through(view: XrayView, point: np.ndarray) -> np.ndarray:
    """Project by definition: where the line from the source through the point meets the detector, from three linear equations."""
    system = np.stack([view.column_step_lps_mm, view.row_step_lps_mm, -(point - view.source_lps_mm)], 1)
    return np.linalg.solve(system, view.source_lps_mm - view.detector_origin_lps_mm)[:2]


@pytest.mark.parametrize("seed", range(4))
def test_projection_is_where_the_ray_meets_the_detector(seed: int):
    view = _view(seed)
    np.testing.assert_allclose(view.project(POINTS), [_through(view, point) for point in POINTS], atol=1e-8)


def test_pixels_project_onto_themselves():
    view, pixels = _view(), np.array([[0, 0], [319, 199], [17.25, 150.5]])
    np.testing.assert_allclose(view.project(view.pixel_lps_mm(pixels)), pixels, atol=1e-8)
    all_pixels = view.all_pixels_lps_mm()
    assert all_pixels.shape == (200, 320, 3)
    np.testing.assert_allclose(all_pixels[150, 17], view.pixel_lps_mm([17, 150]))


def test_principal_point_pitch_and_distance():
    view = _view()
    foot = view.pixel_lps_mm(view.principal_point_px) - view.source_lps_mm
    assert np.linalg.norm(foot) == pytest.approx(view.source_to_detector_mm)
    assert foot @ view.column_step_lps_mm == pytest.approx(0, abs=1e-7)
    assert foot @ view.row_step_lps_mm == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(view.pixel_pitch_mm, [0.4, 0.7])
    np.testing.assert_allclose(np.diag(view.intrinsics_px), [view.source_to_detector_mm / 0.4, view.source_to_detector_mm / 0.7, 1])
    np.testing.assert_allclose(view.depth_mm(view.detector_origin_lps_mm), view.source_to_detector_mm)


@pytest.mark.parametrize("scale", [1.0, -1.0, 7.3e-4, -250.0])
def test_projection_matrix_round_trip(scale: float):
    view = _view()
    matrix = view.projection_matrix
    homogeneous = POINTS @ matrix[:, :3].T + matrix[:, 3]
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], view.project(POINTS))
    np.testing.assert_allclose(homogeneous[:, 2], view.depth_mm(POINTS))
    _same(XrayView.from_projection_matrix(scale * matrix, view.size_px, view.source_to_detector_mm), view)


@pytest.mark.parametrize("scale", [1.0, -0.02])
def test_projection_matrix_of_a_scene_far_from_the_origin(scale: float):
    shift = affine(np.eye(3), [0, 5000, -3000])
    view = _view().transformed(shift)
    matrix = scale * view.projection_matrix
    _same(XrayView.from_projection_matrix(matrix, view.size_px, view.source_to_detector_mm, transform_points(shift, POINTS[0])), view, 1e-5)


def test_intrinsics_round_trip():
    view = _view()
    built = XrayView.from_intrinsics(3.0 * view.intrinsics_px, view.lps_from_camera, view.size_px, view.source_to_detector_mm)
    _same(built, view)


def test_skewed_intrinsics_round_trip():
    straight = _view()
    view = XrayView(
        straight.source_lps_mm,
        straight.detector_origin_lps_mm,
        straight.column_step_lps_mm,
        straight.row_step_lps_mm + 0.02 * straight.column_step_lps_mm,
        (320, 200),
    )
    assert view.intrinsics_px[0, 1] != pytest.approx(0)
    _same(XrayView.from_intrinsics(view.intrinsics_px, view.lps_from_camera, view.size_px, view.source_to_detector_mm), view)
    _same(XrayView.from_projection_matrix(-view.projection_matrix, view.size_px, view.source_to_detector_mm), view)


def test_slicer_transform_round_trip():
    """Slicer holds a camera as a RAS transform node; with the intrinsics it is the whole view."""
    view = _view()
    ras_from_camera = RAS_FROM_LPS @ view.lps_from_camera
    points_camera = transform_points(np.linalg.inv(ras_from_camera), transform_points(RAS_FROM_LPS, POINTS))
    homogeneous = points_camera @ view.intrinsics_px.T
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], view.project(POINTS), atol=1e-8)
    back = XrayView.from_intrinsics(view.intrinsics_px, LPS_FROM_RAS @ ras_from_camera, view.size_px, view.source_to_detector_mm)
    _same(back, view)


def test_rigid_motion_changes_no_pixel():
    view = _view()
    motion = affine(Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix(), [40, -7, 100])
    moved = view.transformed(motion)
    np.testing.assert_allclose(moved.project(transform_points(motion, POINTS)), view.project(POINTS), atol=1e-7)
    np.testing.assert_allclose(moved.intrinsics_px, view.intrinsics_px, atol=1e-7)
    assert moved.is_mirrored == view.is_mirrored


def test_reflection_mirrors():
    view = _view()
    assert not view.is_mirrored
    mirrored = view.transformed(np.diag([-1.0, 1, 1, 1]))
    assert mirrored.is_mirrored
    assert mirrored.source_to_detector_mm == pytest.approx(view.source_to_detector_mm)
    np.testing.assert_allclose(mirrored.project(POINTS * [-1, 1, 1]), view.project(POINTS), atol=1e-7)
    np.testing.assert_allclose(np.linalg.det(mirrored.lps_from_camera[:3, :3]), 1)


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_binned_pixels_are_the_means_of_theirs(factor: int):
    view = _view()
    binned = view.binned(factor)
    assert binned.size_px == (320 // factor, 200 // factor)
    rows, columns = 200 // factor * factor, 320 // factor * factor
    blocks = view.all_pixels_lps_mm()[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor, 3)
    np.testing.assert_allclose(binned.all_pixels_lps_mm(), blocks.mean((1, 3)), atol=1e-8)
    np.testing.assert_allclose((binned.project(POINTS) + 0.5) * factor - 0.5, view.project(POINTS), atol=1e-8)


def test_cropped_view_is_the_sub_image():
    view = _view()
    cropped = view.cropped((20, 30), (50, 40))
    np.testing.assert_allclose(cropped.all_pixels_lps_mm(), view.all_pixels_lps_mm()[30:70, 20:70], atol=1e-9)
    np.testing.assert_allclose(cropped.project(POINTS) + np.array([20, 30]), view.project(POINTS), atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_lps_mm": [0, 0]}, "source_lps_mm"),
        ({"source_lps_mm": [0, 0, np.nan]}, "source_lps_mm.*finite"),
        ({"source_lps_mm": [0, 400, 0]}, "source_lps_mm.*plane"),
        ({"row_step_lps_mm": [2, 0, 0]}, "row_step_lps_mm"),
        ({"row_step_lps_mm": [0, 0, 0]}, "row_step_lps_mm"),
        ({"size_px": (0, 10)}, "size_px"),
    ],
)
def test_degenerate_views_are_refused(changes: dict, said: str):
    values = {
        "source_lps_mm": [0, -600, 0],
        "detector_origin_lps_mm": [0, 400, 0],
        "column_step_lps_mm": [1, 0, 0],
        "row_step_lps_mm": [0, 0, -1],
        "size_px": (10, 10),
    }
    with pytest.raises(ValueError, match=said):
        XrayView(**{**values, **changes})


def test_singular_matrices_are_refused():
    view = _view()
    matrix = view.projection_matrix.copy()
    matrix[1] = matrix[0]
    with pytest.raises(ValueError, match="singular"):
        XrayView.from_projection_matrix(matrix, view.size_px, 1000)
    with pytest.raises(ValueError, match="singular"):
        XrayView.from_intrinsics(np.zeros((3, 3)), np.eye(4), view.size_px, 1000)
    with pytest.raises(ValueError, match="source_to_detector_mm"):
        XrayView.from_projection_matrix(view.projection_matrix, view.size_px, -1000)


def test_lps_and_ras():
    np.testing.assert_array_equal(transform_points(LPS_FROM_RAS, np.array([1.0, 2, 3])), [-1, -2, 3])
    np.testing.assert_array_equal(LPS_FROM_RAS @ RAS_FROM_LPS, np.eye(4))
    motion = affine(Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix(), [40, -7, 100])
    in_ras = transform_points(ras_transform_from_lps(motion), transform_points(RAS_FROM_LPS, POINTS))
    np.testing.assert_allclose(in_ras, transform_points(RAS_FROM_LPS, transform_points(motion, POINTS)))
    np.testing.assert_allclose(ras_transform_from_lps(ras_transform_from_lps(motion)), motion)
    np.testing.assert_allclose(
        transform_vectors(motion, POINTS[1] - POINTS[2]), np.diff(transform_points(motion, POINTS[[2, 1]]), axis=0)[0]
    )


def _grid() -> VoxelGrid:
    direction = Rotation.from_euler("xyz", [0.2, 0.5, -0.4]).as_matrix()
    return VoxelGrid((5, 7, 11), [0.5, 1.0, 2.0], [10, -20, 30], direction)


def test_grid_points_and_indices_agree():
    grid = _grid()
    points = grid.points_lps_mm()
    assert points.shape == (11, 7, 5, 3) == (*grid.shape_kji, 3)
    np.testing.assert_allclose(points[9, 4, 2], transform_points(grid.lps_from_ijk, np.array([2, 4, 9])))
    np.testing.assert_allclose(points.reshape(-1, 3).mean(0), grid.center_lps_mm)
    np.testing.assert_allclose(np.linalg.inv(grid.lps_from_ijk) @ [*points[9, 4, 2], 1], [2, 4, 9, 1], atol=1e-10)


def test_grid_corners_span_the_voxels_borders():
    grid = _grid()
    np.testing.assert_allclose(grid.extent_mm, [2.5, 7, 22])
    corners = grid.corners_lps_mm()
    diagonal = max(np.linalg.norm(a - b) for a in corners for b in corners)
    assert diagonal == pytest.approx(np.linalg.norm(grid.extent_mm))
    assert grid.voxel_volume_mm3 == pytest.approx(1.0)


def test_box_covers_what_is_asked():
    grid = VoxelGrid.box([1, 2, 3], [10, 20, 31], 1.5, _grid().direction)
    assert (grid.extent_mm >= [10, 20, 31]).all()
    assert (grid.extent_mm < np.array([10, 20, 31]) + 1.5).all()
    np.testing.assert_allclose(grid.center_lps_mm, [1, 2, 3])
    assert VoxelGrid.box([0, 0, 0], 192, 1.5).size_ijk == (128, 128, 128)
    coarse = grid.coarsened(4)
    np.testing.assert_allclose(coarse.center_lps_mm, grid.center_lps_mm)
    assert (coarse.extent_mm >= grid.extent_mm).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((5, 0, 3), [1, 1, 1], [0, 0, 0]), "size_ijk"),
        (((5, 5, 3), [1, -1, 1], [0, 0, 0]), "spacing_mm"),
        (((5, 5, 3), [1, 1, 1], [0, np.nan, 0]), "origin_lps_mm"),
        (((5, 5, 3), [1, 1, 1], [0, 0, 0], np.diag([1, 2, 1])), "direction"),
    ],
)
def test_impossible_grids_are_refused(arguments: tuple, said: str):
    with pytest.raises(ValueError, match=said):
        VoxelGrid(*arguments)
