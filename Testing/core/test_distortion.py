"""Distortion of image intensifiers: synthetic pincushion and S recovered, round trips, files, and the real grid's residual."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from IntraopReconLib.core.calibration.distortion import Distortion, fit_distortion
from IntraopReconLib.core.calibration.distortion_file import read_distortion, write_distortion
from IntraopReconLib.core.calibration.distortion_grid import find_grid
from IntraopReconLib.core.calibration_config import DistortionSettings
from IntraopReconLib.core.xrays.dicom import read_radiographs
from SparseAnatomyLib.errors import InputError

ROWS, COLUMNS = 300, 340
PITCH, ANGLE_RAD = 14.0, 0.1
CENTER = np.array([175.3, 143.8])
KINDS = ("square", "triangular")


def _distorted(point: np.ndarray, pincushion: float = 0.06, turn: float = 0.05, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Return where true points [..., 2] are measured: stretched towards the rim and turned the more the further out."""
    offset = point - CENTER
    share = np.hypot(*np.moveaxis(offset, -1, 0)) / 150
    angle = turn * share**2 * (1 - 0.4 * share)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.stack([cosine * offset[..., 0] - sine * offset[..., 1], sine * offset[..., 0] + cosine * offset[..., 1]], axis=-1)
    return CENTER + np.array(shift) + turned * (1 + pincushion * share**2)[..., None]


def _true_points(kind: str) -> np.ndarray:
    """Return the points of a grid before distortion, [point, 2]."""
    i, j = np.mgrid[-20:21, -20:21].reshape(2, -1)
    lattice = i + j * np.exp(1j * np.pi / (2 if kind == "square" else 3))
    place = PITCH * np.exp(1j * ANGLE_RAD) * lattice
    return CENTER + np.column_stack([place.real, place.imag]) + [1.7, -2.2]


def _grid_image(point: np.ndarray, bright: bool = True, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return intensity and mask (a round shutter) of holes or balls at measured points."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    image = np.zeros((ROWS, COLUMNS))
    for x, y in point:
        part = np.s_[max(int(y) - 12, 0) : max(int(y) + 13, 0), max(int(x) - 12, 0) : max(int(x) + 13, 0)]
        image[part] += expit((0.28 * PITCH - np.hypot(column[part] - x, row[part] - y)) / 0.6)
    image = 600 * np.exp(0.9 * image if bright else -1.2 * image) * (1 - 0.3 * (column / COLUMNS - 0.5))
    image = np.random.default_rng(seed).poisson(gaussian_filter(image, 1.0)).astype(np.float32)
    return image, np.hypot(column - COLUMNS / 2, row - ROWS / 2) < 145


def _similarity_residual(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return distances [point] after the best shift, turn and scale: what a grid cannot tell."""
    found, truth = found @ np.array([1, 1j]), truth @ np.array([1, 1j])
    terms = np.column_stack([found, np.ones(len(found))])
    return np.abs(terms @ np.linalg.lstsq(terms, truth, rcond=None)[0] - truth)


@pytest.fixture(scope="module", params=KINDS)
def fitted(request: pytest.FixtureRequest) -> Distortion:
    return fit_distortion(*_grid_image(_distorted(_true_points(request.param))), name="grid")


def _inside(distortion: Distortion) -> np.ndarray:
    """Return true points well within what the grid covered."""
    angle, radius = np.mgrid[0:6.2:0.3, 10:115:12].reshape(2, -1)
    return np.array([COLUMNS / 2, ROWS / 2]) + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def test_pincushion_and_s_distortion_are_recovered(fitted: Distortion):
    truth = _inside(fitted)
    measured = _distorted(truth)
    assert _similarity_residual(measured, truth).max() > 1.5  # there was something to recover
    assert _similarity_residual(fitted.corrected(measured), truth).max() < 0.1
    assert fitted.rms_px < 0.15
    assert fitted.held_out_rms_px < 1.2 * fitted.rms_px
    assert 3 <= fitted.degree <= 9


def test_the_middle_stays_where_it_is(fitted: Distortion):
    middle = np.array([COLUMNS / 2, ROWS / 2])
    assert np.abs(fitted.corrected(middle) - middle).max() < 0.5


def test_points_make_the_round_trip_also_beyond_the_grid(fitted: Distortion):
    point = np.random.default_rng(0).uniform([-20, -20], [COLUMNS + 20, ROWS + 20], (5, 40, 2))
    np.testing.assert_allclose(fitted.distorted(fitted.corrected(point)), point, atol=1e-5)


def test_an_image_is_corrected_as_its_points_are(fitted: Distortion):
    image, mask = _grid_image(_distorted(_true_points(fitted.kind)))
    corrected, usable = fitted.corrected_image(image, mask)
    assert not corrected[~usable].any()
    assert 0.6 * mask.sum() < usable.sum()
    again = fit_distortion(corrected, usable, "corrected grid")
    assert again.degree <= 2
    edge = again.hull_px
    assert np.hypot(*(again.corrected(edge) - edge).T).max() < 0.4
    assert np.hypot(*(fitted.corrected(fitted.hull_px) - fitted.hull_px).T).max() > 4


def test_balls_are_found_like_holes_and_attenuation_like_intensity():
    point = _distorted(_true_points("triangular"))
    image, mask = _grid_image(point, bright=False)
    for shown in (image, -np.log(image / image.max())):
        grid = find_grid(shown, mask, "grid")
        assert grid.kind == "triangular"
        nearest = np.hypot(*(grid.point_px[:, None] - point[None]).transpose(2, 0, 1)).min(axis=1)
        assert np.median(nearest) < 0.1
        assert len(grid.point_px) > 300


def test_indices_follow_the_lattice():
    grid = find_grid(*_grid_image(_distorted(_true_points("square"))), name="grid")
    assert len(np.unique(grid.index, axis=0)) == len(grid.index)
    truth = _true_points("square")
    nearest = np.hypot(*(grid.point_px[:, None] - _distorted(truth)[None]).transpose(2, 0, 1)).argmin(axis=1)
    assert _similarity_residual(np.column_stack([grid.lattice.real, grid.lattice.imag]), truth[nearest]).max() < 1e-6


def test_a_reference_undoes_shift_and_turn_of_the_whole_image():
    truth = _true_points("triangular")
    first = fit_distortion(*_grid_image(_distorted(truth)), name="first")
    shifted = _grid_image(_distorted(truth, turn=0.08, shift=(3.5, -2.5)), seed=1)
    second = fit_distortion(*shifted, name="second", reference=first)
    alone = fit_distortion(*shifted, name="second")
    inside = _inside(first)
    expected = first.corrected(_distorted(inside))
    assert np.hypot(*(second.corrected(_distorted(inside, turn=0.08, shift=(3.5, -2.5))) - expected).T).max() < 0.2
    assert np.hypot(*(alone.corrected(_distorted(inside, turn=0.08, shift=(3.5, -2.5))) - expected).T).min() > 2


def test_another_grid_is_no_reference():
    first = fit_distortion(*_grid_image(_distorted(_true_points("square"))), name="first")
    with pytest.raises(InputError, match="second shows another grid"):
        fit_distortion(*_grid_image(_distorted(_true_points("triangular"))), name="second", reference=first)


def test_a_flat_detector_is_left_alone():
    flat = Distortion.none((COLUMNS, ROWS))
    point = np.random.default_rng(0).uniform(0, 300, (7, 2))
    image = np.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    mask = image > 0
    assert flat.is_none
    assert (flat.corrected(point) == point).all()
    assert (flat.distorted(point) == point).all()
    corrected, usable = flat.corrected_image(image, mask)
    assert (corrected == image).all()
    assert (usable == mask).all()


def test_an_undistorted_grid_moves_nothing():
    undistorted = fit_distortion(*_grid_image(_true_points("square")), name="grid")
    inside = _inside(undistorted)
    assert np.abs(undistorted.corrected(inside) - inside).max() < 0.15


@pytest.mark.parametrize("kind", ["empty", "noise", "stripes", "few"])
def test_what_is_no_grid_is_refused(kind: str):
    mask = np.ones((ROWS, COLUMNS), dtype=bool)
    row = np.arange(ROWS)[:, None]
    images = {
        "empty": np.full(mask.shape, 7.0),
        "noise": np.random.default_rng(0).normal(100, 5, mask.shape),
        "stripes": 100 + 50 * np.cos(row / 2.5) + 0 * mask + np.random.default_rng(0).normal(0, 3, mask.shape),
        "few": _grid_image(_true_points("square")[900:920])[0],
    }
    with pytest.raises(InputError, match="view 3"):
        fit_distortion(images[kind], mask, "view 3")


def test_too_few_points_are_refused():
    image, mask = _grid_image(_true_points("square"))
    with pytest.raises(InputError, match="grid shows only"):
        fit_distortion(image, mask, "grid", DistortionSettings(least_points=5000))


def test_an_image_of_another_size_is_refused(fitted: Distortion):
    with pytest.raises(InputError, match="340 × 300 pixels"):
        fitted.corrected_image(np.zeros((ROWS, ROWS)), np.ones((ROWS, ROWS), dtype=bool))


def test_files_keep_everything(fitted: Distortion, tmp_path: Path):
    for distortion in (fitted, Distortion.none((COLUMNS, ROWS))):
        write_distortion(tmp_path / "distortion.json", distortion)
        again = read_distortion(tmp_path / "distortion.json")
        point = np.random.default_rng(0).uniform(-20, 360, (50, 2))
        assert (again.corrected(point) == distortion.corrected(point)).all()
        for field in ("size_px", "degree", "lattice_px", "kind", "points", "rms_px", "held_out_rms_px", "is_none"):
            assert getattr(again, field) == getattr(distortion, field)
    assert [path.name for path in tmp_path.iterdir()] == ["distortion.json"]


DAMAGE = {
    "format": "poses",
    "version": 2,
    "size_px": [340.5, 300],
    "degree": 40,
    "coefficients_px": [[1, 2]],
    "hull_px": [[1, 2]],
    "grid": "hexagonal",
    "lattice_px": None,
    "points": "many",
    "rms_px": -1,
    "held_out_rms_px": float("nan"),
}


@pytest.mark.parametrize("field", DAMAGE)
@pytest.mark.parametrize("missing", [False, True], ids=["wrong", "missing"])
def test_damaged_files_are_refused_with_their_field(fitted: Distortion, tmp_path: Path, field: str, missing: bool):
    path = tmp_path / "distortion.json"
    write_distortion(path, fitted)
    document = json.loads(path.read_text())
    document[field] = DAMAGE[field]
    if missing:
        del document[field]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"distortion.json .*{field}"):
        read_distortion(path)


def test_a_correction_that_folds_is_refused(fitted: Distortion, tmp_path: Path):
    path = tmp_path / "distortion.json"
    write_distortion(path, fitted)
    document = json.loads(path.read_text())
    document["coefficients_px"][3] = [1e4, 0]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="folds or tears"):
        read_distortion(path)


@pytest.mark.parametrize("text", [None, "", "[1]", "{", "\x00\xff"])
def test_what_is_no_distortion_file_is_refused(tmp_path: Path, text: str | None):
    path = tmp_path / "distortion.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"distortion.json is (missing|not)"):
        read_distortion(path)


@pytest.mark.slow
def test_the_real_grid_is_made_regular(shared_data: Path):
    """The residual is the drilling of the plate: the polynomial of one pose takes as much from another's residual as from its own."""
    first = None
    for name in ("Centered_0", "Tilt_30"):
        (radiograph,) = read_radiographs(shared_data / "carm" / f"AC_{name}_Box_01.dcm")
        distortion = fit_distortion(radiograph.intensity, radiograph.mask, name, reference=first)
        first = first or distortion
        assert distortion.kind == "triangular"
        assert distortion.points > 3300
        assert distortion.rms_px < 0.25
        assert distortion.held_out_rms_px < 1.05 * distortion.rms_px
        assert np.hypot(*(distortion.corrected(distortion.hull_px) - distortion.hull_px).T).max() > 10
    corrected, usable = distortion.corrected_image(radiograph.intensity, radiograph.mask)
    again = fit_distortion(corrected, usable, "corrected")
    assert np.hypot(*(again.corrected(again.hull_px) - again.hull_px).T).max() < 0.5
