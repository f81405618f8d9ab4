"""Measuring a prior: all layouts and offsets, against what is known whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from shape_toys import EXTENT_MM, Toy, family, toy_prior

from ShapeCompletionLib.core.calibration import Temperature
from ShapeCompletionLib.core.config import EvaluationConfig
from ShapeCompletionLib.core.evaluate import Measured, evaluate_prior, layouts, measure, measure_all, summary
from ShapeCompletionLib.core.layouts import SliceLayout
from ShapeCompletionLib.core.prior import save_prior
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.volumes import sitk_image

QUICK = EvaluationConfig(spacings_mm=(12.0,), offset_step_mm=12.0, three_planes=True, voxel_mm=2.0)
SHAPE = family(1)[0]


def quiet(fraction: float, message: str) -> None:
    assert 0 <= fraction <= 1 and message


def test_all_directions_spacings_and_offsets_are_measured():
    found = list(layouts(EvaluationConfig(spacings_mm=(8.0, 16.0), offset_step_mm=2.0)))
    names = [name for name, _ in found]
    for spacing in (8, 16):
        for kind in ("axial", "coronal", "sagittal", "oblique"):
            offsets = [layout.offset_mm for name, layout in found if name == f"{kind} {spacing} mm"]
            assert offsets == list(np.arange(0, spacing, 2.0))
    assert names.count("three planes") == 3 and len(found) == 4 * (4 + 8) + 3
    assert not any(name == "three planes" for name, _ in layouts(replace(QUICK, three_planes=False)))
    assert {layout.keep_empty for _, layout in layouts(replace(QUICK, keep_empty=False))} == {False}


def test_one_structure_on_one_layout():
    one = measure(toy_prior(), SHAPE, "axial 8 mm", SliceLayout("axial", 8.0, 2.0, keep_empty=True), replace(QUICK, surface_distances=True))
    assert (one.shape, one.patient, one.layout) == ("toy_0_0", "patient_0", "axial 8 mm")
    assert one.figures["dice inr"] == one.figures["dice interpolate"] > 0.85  # it corrects nothing
    assert 0 < one.figures["asd_mm inr"] == one.figures["asd_mm interpolate"] < 2 and np.isfinite(one.figures["evidence"])
    assert "dice auto" not in one.figures  # while a prior is trained, nothing is usual
    assert one.logits.shape == one.distance.shape == one.inside.shape and len(one.logits) == 2000 and one.inside.dtype == bool
    wrong = one.inside != (one.logits > 0)
    assert (np.abs(one.logits[~wrong]) < 4.5).all() and 0.02 < wrong.mean() < 0.5


def test_auto_is_measured_as_it_decides():
    for usual, took in ((-1e6, 1.0), (1e6, None)):
        one = measure(toy_prior(usual_evidence=usual), SHAPE, "axial", SliceLayout("axial", 8.0, 2.0), QUICK)
        assert one.figures["dice auto"] == one.figures["dice inr" if one.figures["auto took inr"] else "dice interpolate"]
        assert took is None or one.figures["auto took inr"] == took


def test_a_lone_slice_of_a_small_structure_is_measured_too():
    """An unusual structure that only one slice of many shows: there is nothing to leave out and test the prior on."""
    config = replace(QUICK, keep_empty=True)
    for offset in (0.0, 20.0):
        one = measure(toy_prior(usual_evidence=1e6), SHAPE, "axial", SliceLayout("axial", 40.0, offset, keep_empty=True), config)
        assert one is None or one.figures["auto took inr"] == 0


def test_a_layout_that_misses_the_structure_is_left_out():
    assert measure(toy_prior(), SHAPE, "axial", SliceLayout("axial", 200.0, 60.0, keep_empty=True), QUICK) is None


def test_the_structure_may_be_moved_before_it_is_cut():
    layout = SliceLayout("axial", 8.0, 2.0, keep_empty=True)
    still = measure(toy_prior(), SHAPE, "axial", layout, QUICK)
    shift = tuple(map(tuple, affine(np.eye(3), np.array([4.0, -2.0, 8.0]))))  # by one spacing: the same sections
    moved = measure(toy_prior(), SHAPE, "axial", layout, replace(QUICK, transform=shift))
    assert moved.figures["dice interpolate"] == pytest.approx(still.figures["dice interpolate"], abs=0.01)


def test_measuring_reports_and_can_be_cancelled():
    seen = []
    measured = measure_all(toy_prior(), [SHAPE], QUICK, lambda fraction, message: seen.append((fraction, message)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert len(measured) == len(list(layouts(QUICK))) == len(seen) - 1
    assert any(SHAPE.name in message and "three planes" in message for _, message in seen)

    def stop(fraction: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        measure_all(toy_prior(), [SHAPE], QUICK, stop)


def test_the_summary_averages_by_layout():
    def of(layout: str, shape: str, dice: float, inside: float) -> Measured:
        truth = np.arange(100) < 100 * inside
        return Measured(shape, shape, layout, {"dice inr": dice}, np.zeros(100), np.ones(100), truth)

    measured = [of("axial 8 mm", "a", 0.8, 0.5), of("axial 8 mm", "b", 0.9, 0.7), of("three planes", "a", 0.5, 0.5)]
    found = summary(measured, toy_prior(temperature=Temperature(1.0, 0.0)))
    assert list(found) == ["axial 8 mm", "three planes"]
    assert found["axial 8 mm"] == pytest.approx({"dice inr": 0.85, "calibration error": 0.1, "shapes": 2.0, "completions": 2.0})
    assert found["three planes"]["calibration error"] == pytest.approx(0) and found["three planes"]["shapes"] == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two segmentations and a prior."""
    path = tmp_path_factory.mktemp("cases")
    grid = VoxelGrid.box(np.array([40.0, 30.0, -20.0]), EXTENT_MM, 2.0)
    for name in ("one", "two"):
        toy = Toy(process_mm=22.0 if name == "one" else 18.0)
        labels = toy.signed_distance(grid.points_lps_mm().reshape(-1, 3) - grid.center_lps_mm).reshape(grid.shape_kji) > 0
        SimpleITK.WriteImage(sitk_image(labels.astype(np.uint8), grid, np.uint8), str(path / f"{name}.nrrd"))
    save_prior(toy_prior(usual_evidence=-1e6), path / "prior" / "toy.pt")
    return path


def test_a_prior_is_measured_on_a_folder(folder):
    found = evaluate_prior(folder, folder / "prior" / "toy.pt", QUICK, 1, quiet)
    assert found["prior"] == "toy" and found["shapes"] == ["one", "two"]
    assert set(found["layouts"]) == {"axial 12 mm", "coronal 12 mm", "sagittal 12 mm", "oblique 12 mm", "three planes"}
    assert all(figures["shapes"] == 2 and 0.4 < figures["dice auto"] < 1 for figures in found["layouts"].values())
    json.dumps(found, allow_nan=False)


def test_nothing_to_measure_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no segmentation with label 9"):
        evaluate_prior(folder, folder / "prior" / "toy.pt", QUICK, 9, quiet)
    with pytest.raises(InputError, match="no prior at"):
        evaluate_prior(folder, tmp_path / "none.pt", QUICK, 1, quiet)
