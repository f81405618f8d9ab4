"""Real biplane X-rays of a wrist with their MayaCam files: beads seen by both cameras lie where the files say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import gaussian_filter, grey_closing, maximum_filter
from scipy.optimize import linear_sum_assignment

from IntraopReconLib.core.calibration.formats.file_pose import Detector, meeting_point
from IntraopReconLib.core.calibration.formats.mayacam import mayacam_2_text, read_mayacam
from IntraopReconLib.core.calibration.poses import PosedImage, check_view
from SparseAnatomyLib.geometry import XrayView

INSTANTS = ("0002", "0099", "0158")
SIZE = (1760, 1760)
FIELD_PX = 840  # radius of the round field that is looked at


@pytest.fixture(scope="module")
def wrist(shared_data) -> Path:
    folder = shared_data / "biplane" / "wrist"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder


@pytest.fixture(scope="module")
def views(wrist) -> list[XrayView]:
    """Return both cameras; the pitch at the detector, which they do not tell, changes no ray."""
    poses = [read_mayacam(wrist / f"xr_calib_wrist_cam0{camera}.txt")[0] for camera in (1, 2)]
    return [pose.view(Detector(SIZE, (0.2, 0.2)), np.eye(4)) for pose in poses]


def _dots(path: Path) -> np.ndarray:
    """Return the centers (column, row) of small, round, dark dots: tantalum beads of half a millimeter, [n, 2]."""
    image = gaussian_filter(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(float), 1.2)
    depth = gaussian_filter(grey_closing(image, size=(15, 15)) - image, 0.7)
    rows, columns = np.nonzero((depth == maximum_filter(depth, 9)) & (depth > 25))
    inside = np.hypot(rows - 880, columns - 880) < FIELD_PX
    y, x = np.mgrid[-5:6, -5:6]
    found = []
    for row, column in zip(rows[inside], columns[inside], strict=True):
        patch = depth[row - 5 : row + 6, column - 5 : column + 6]
        if patch.shape != y.shape:
            continue
        weight = np.clip(patch - 0.3 * patch.max(), 0, None) / np.clip(patch - 0.3 * patch.max(), 0, None).sum()
        center = np.array([(weight * x).sum(), (weight * y).sum()])
        spread = np.linalg.eigvalsh(np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weight.ravel(), bias=True))
        if spread[0] > 0.55 * spread[1] and spread[1] < 6:
            found.append(center + (column, row))
    return np.array(found)


def _epipolar_distances_px(views: list[XrayView], dots: list[np.ndarray]) -> np.ndarray:
    """Return, for each dot of the image with fewer, how far it and its partner are from each other's epipolar line at most, [n]."""
    first, second = (view.projection_matrix for view in views)
    epipole = second @ np.append(views[0].source_lps_mm, 1.0)
    fundamental = np.cross(np.eye(3), epipole).T @ second @ np.linalg.pinv(first)
    points = [np.column_stack([dot, np.ones(len(dot))]) for dot in dots]
    lines = points[0] @ fundamental.T, points[1] @ fundamental
    products = np.abs(lines[0] @ points[1].T)
    norms = [np.linalg.norm(line[:, :2], axis=1) for line in lines]
    distance = products / np.minimum(norms[0][:, None], norms[1][None])
    pairs = linear_sum_assignment(np.minimum(distance, 5.0))
    return distance[pairs]


def test_the_cameras_are_sound(views):
    for camera, view in enumerate(views):
        check_view(f"camera {camera}", view)
    sources, axes = np.stack([view.source_lps_mm for view in views]), np.stack([view.lps_from_camera[:3, 2] for view in views])
    middle = meeting_point(sources, axes)
    assert 700 < np.linalg.norm(sources - middle, axis=1).min() < 1300
    for view in views:
        assert np.abs(view.project(middle) - view.principal_point_px).max() < 200  # both look at the same place


@pytest.mark.parametrize("instant", INSTANTS)
def test_beads_lie_on_each_others_epipolar_lines(wrist, views, instant):
    dots = [_dots(wrist / f"xr_rad_uln_cam0{camera}_UND.{instant}.tif") for camera in (1, 2)]
    assert min(map(len, dots)) >= 6
    right = _epipolar_distances_px(views, dots)
    assert np.median(right) < 0.75 and (right < 1.5).mean() >= 0.9
    bottom_up = [
        replace(view, detector_origin_lps_mm=view.pixel_lps_mm([0, 1759]), row_step_lps_mm=-view.row_step_lps_mm) for view in views
    ]
    for wrong in (bottom_up, [bottom_up[0], views[1]], views[::-1]):
        assert np.median(_epipolar_distances_px(wrong, dots)) > 20


def test_writing_the_real_files_again_changes_no_ray(wrist, views, tmp_path):
    for view in views:
        (tmp_path / "again.txt").write_text(mayacam_2_text(PosedImage("again", view)))
        (pose,) = read_mayacam(tmp_path / "again.txt")
        np.testing.assert_allclose(pose.matrix, view.projection_matrix, rtol=1e-9)
