"""Training: shapes from files, varied, cut into cases; steps that go on after a kill as if nothing had been; a prior with a card."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
import torch
from scipy import ndimage
from shape_toys import EXTENT_MM, TURNED, Toy, toy_prior
from small_training import INFO, QUICK, SHAPES, TINY, quiet

from ShapeCompletionLib.core import meta_train
from ShapeCompletionLib.core.augment import WarpedShape, unwarped, warped
from ShapeCompletionLib.core.config import InrSettings
from ShapeCompletionLib.core.evaluate import Measured
from ShapeCompletionLib.core.meta_train import Training, completion_loss, train
from ShapeCompletionLib.core.prior import load_prior
from ShapeCompletionLib.core.shapes import load_shapes
from ShapeCompletionLib.core.tasks import random_case
from ShapeCompletionLib.core.train_prior import calibrated, patient_folds, remove_checkpoints, train_prior
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.frames import affine, transform_points
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.model_files import load_checkpoint, save_checkpoint
from SparseAnatomyLib.volumes import sitk_image


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Shapes


@pytest.mark.parametrize("direction", [np.eye(3), TURNED], ids=["straight", "turned"])
def test_segmentations_become_distance_fields(tmp_path, direction):
    grid = VoxelGrid.box(np.array([30.0, -80.0, 12.0]), 80.0, 1.0, direction)
    toy, center = Toy(), np.array([33.0, -82.0, 10.0])
    labels = np.where(toy.signed_distance(grid.points_lps_mm().reshape(-1, 3) - center).reshape(grid.shape_kji) > 0, 3, 0)
    labels[:4] = 5  # another structure
    SimpleITK.WriteImage(sitk_image(labels, grid, np.uint8), str(tmp_path / "case7_left.nii.gz"))
    (tmp_path / "notes.txt").write_text("no segmentation")
    (shape,) = load_shapes(tmp_path, 3, r"case\d+")
    assert (shape.name, shape.patient) == ("case7_left", "case7")
    np.testing.assert_array_equal(shape.grid.direction, np.eye(3))
    assert np.ptp(shape.grid.spacing_mm) < 1e-9 and shape.signed_distance_mm.dtype == np.float32
    inside = grid.points_lps_mm()[labels == 3]
    np.testing.assert_allclose(shape.center_lps_mm, inside.mean(0), atol=0.3)
    np.testing.assert_allclose(shape.extent_mm, np.ptp(inside, 0), atol=2)
    got = shape.signed_distance_mm.ravel()[::97]
    expected = toy.signed_distance(shape.grid.points_lps_mm().reshape(-1, 3)[::97] - center)
    assert np.abs(got - expected)[np.abs(expected) < 3].mean() < 0.4
    assert ((got > 0) == (expected > 0))[np.abs(expected) > 1].all()


def _centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)[::-1]


def test_pixels_of_other_sizes_give_the_same_shape(tmp_path):
    for name, spacing in (("fine", [1.0, 1.0, 1.0]), ("coarse", [0.8, 0.8, 2.5])):
        size = tuple(int(72 / s) for s in spacing)
        grid = VoxelGrid(size, spacing, -36 + np.array(spacing) / 2)
        SimpleITK.WriteImage(sitk_image((Toy().on(grid) > 0).astype(np.uint8), grid, np.uint8), str(tmp_path / f"{name}.nrrd"))
    coarse, fine = load_shapes(tmp_path, 1)
    assert {coarse.patient, fine.patient} == {"coarse", "fine"}
    np.testing.assert_allclose(coarse.extent_mm, fine.extent_mm, atol=2.6)
    np.testing.assert_allclose(coarse.center_lps_mm, fine.center_lps_mm, atol=0.5)


def test_a_folder_without_the_structure_is_refused(tmp_path):
    with pytest.raises(InputError, match="no segmentation with label 4"):
        load_shapes(tmp_path, 4)
    SimpleITK.WriteImage(SimpleITK.Image([8, 8, 8], SimpleITK.sitkUInt8), str(tmp_path / "empty.nrrd"))
    with pytest.raises(InputError, match="no segmentation with label 4"):
        load_shapes(tmp_path, 4)
    (tmp_path / "broken.nrrd").write_text("no image")
    with pytest.raises(InputError, match=r"broken\.nrrd cannot be read"):
        load_shapes(tmp_path, 4)


def test_a_label_is_never_taken_for_another(tmp_path):
    _write(tmp_path / "shape.nrrd", np.pad(np.full((6, 6, 6), 44, np.uint8), 4))
    assert len(load_shapes(tmp_path, 44)) == 1
    with pytest.raises(InputError, match="no segmentation with label 300"):  # 300 is 44 in eight bits
        load_shapes(tmp_path, 300)
    for label in (0, -1):
        with pytest.raises(InputError, match="is no structure"):
            load_shapes(tmp_path, label)


def _write(path, array, spacing=1.0, components=False):
    image = SimpleITK.GetImageFromArray(array, isVector=components)
    image.SetSpacing([spacing] * image.GetDimension())
    SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: _write(path, np.ones((8, 8), np.uint8)), "has 2 dimensions"),
        (lambda path: _write(path, np.ones((8, 8, 8), np.uint8), spacing=1e5), r"voxels of 1e\+05 mm"),
        (lambda path: _write(path, np.full((8, 8, 8), 0.5, np.float32)), "fractions"),
        (lambda path: _write(path, np.ones((8, 8, 8, 3), np.uint8), components=True), "3 values per voxel"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be read|damaged|shorter|truncated"),
    ],
    ids=["2D", "spacing", "fractions", "colors", "truncated"],
)
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_rubbish_among_segmentations_is_named_and_not_trained_on(tmp_path, change, message, suffix):
    rng = np.random.default_rng(0)
    for name in ("good", "rubbish"):
        _write(tmp_path / f"{name}{suffix}", rng.integers(0, 2, (8, 8, 8)).astype(np.uint8))
    (tmp_path / "folder.nrrd").mkdir()
    assert len(load_shapes(tmp_path, 1)) == 2
    change(tmp_path / f"rubbish{suffix}")
    with pytest.raises(InputError, match=message) as caught:
        load_shapes(tmp_path, 1)
    assert "rubbish" in caught.value.message
    assert "Take it out of the folder" in caught.value.remedy


def test_values_that_are_no_numbers_are_refused(tmp_path):
    _write(tmp_path / "rubbish.nrrd", np.full((8, 8, 8), np.nan, np.float32))  # NIfTI is read with zeros instead
    with pytest.raises(InputError, match="not numbers"):
        load_shapes(tmp_path, 1)


def test_a_speck_takes_no_more_than_a_structure(tmp_path):
    speck = np.zeros((20, 20, 20), np.uint8)
    speck[10, 10, 10] = 1
    _write(tmp_path / "speck.nrrd", speck)
    (shape,) = load_shapes(tmp_path, 1)
    assert max(shape.signed_distance_mm.shape) < 200


# Variations


POINTS = np.random.default_rng(5).uniform(-30, 30, (4000, 3))


def test_unwarped_is_the_shape_about_its_center():
    shape = SHAPES[0]
    got = unwarped(shape).signed_distance(POINTS)
    ijk = transform_points(np.linalg.inv(shape.grid.lps_from_ijk), POINTS + shape.center_lps_mm)
    inside = ((ijk >= 0) & (ijk <= np.array(shape.grid.size_ijk) - 1)).all(1)
    expected = ndimage.map_coordinates(shape.signed_distance_mm, ijk[inside, ::-1].T, order=1)
    assert got.dtype == np.float32 and inside.mean() > 0.9
    np.testing.assert_allclose(got[inside], expected, atol=1e-3)
    beyond = np.linalg.norm((ijk - np.clip(ijk, 0, np.array(shape.grid.size_ijk) - 1)) * shape.grid.spacing_mm, axis=1)
    assert (got[~inside] < -beyond[~inside]).all()


def test_a_rigid_transform_moves_the_shape():
    shape, transform = SHAPES[0], affine(TURNED, np.array([3.0, -4.0, 5.0]))
    moved = unwarped(shape, transform).signed_distance(transform_points(transform, POINTS))
    np.testing.assert_allclose(moved, unwarped(shape).signed_distance(POINTS), atol=2e-3)


def test_the_warps_kernel_is_scipys():
    shape, rng = SHAPES[1], np.random.default_rng(2)
    warp = warped(shape, EXTENT_MM, True, rng)
    bend_ijk = transform_points(np.linalg.inv(warp.bend_grid.lps_from_ijk), POINTS)
    bend = [ndimage.map_coordinates(part, bend_ijk[:, ::-1].T, order=1, mode="nearest") for part in warp.bend_mm]
    there = transform_points(warp.shape_from_lps_mm, POINTS + np.stack(bend, 1))
    ijk = transform_points(np.linalg.inv(shape.grid.lps_from_ijk), there)
    last = np.array(shape.grid.size_ijk) - 1
    expected = ndimage.map_coordinates(shape.signed_distance_mm, ijk[:, ::-1].T, order=1, mode="nearest")
    expected -= np.linalg.norm((ijk - np.clip(ijk, 0, last)) * shape.grid.spacing_mm, axis=1)
    np.testing.assert_allclose(warp.signed_distance(POINTS), expected, atol=5e-3)
    assert np.abs(np.stack(bend, 1)).max() > 0.5


def volume_and_center(warp: WarpedShape) -> tuple[float, np.ndarray]:
    grid = VoxelGrid.box(np.zeros(3), 90.0, 1.5)
    inside = warp.signed_distance(grid.points_lps_mm().reshape(-1, 3)).reshape(grid.shape_kji) > 0
    return inside.sum() * grid.voxel_volume_mm3, transform_points(grid.lps_from_ijk, _centroid(inside))


def test_variations_stay_of_their_kind_and_come_from_the_seed():
    whole, _ = volume_and_center(unwarped(SHAPES[0]))
    volumes, mirrored = [], 0
    for seed in range(12):
        warp = warped(SHAPES[0], EXTENT_MM, True, np.random.default_rng(seed))
        volume, center = volume_and_center(warp)
        volumes.append(volume / whole)
        assert np.abs(center).max() < 0.15 * EXTENT_MM
        mirrored += np.linalg.det(warp.shape_from_lps_mm[:3, :3]) < 0
        again = warped(SHAPES[0], EXTENT_MM, True, np.random.default_rng(seed))
        np.testing.assert_array_equal(again.signed_distance(POINTS), warp.signed_distance(POINTS))
        unmirrored = warped(SHAPES[0], EXTENT_MM, False, np.random.default_rng(seed))
        assert np.linalg.det(unmirrored.shape_from_lps_mm[:3, :3]) > 0
    assert 0.5 < min(volumes) < 0.95 and 1.05 < max(volumes) < 2.5 and 0 < mirrored < 12


def test_cases_are_cut_from_varied_shapes():
    rng = np.random.default_rng(0)
    for _ in range(8):
        case = random_case(SHAPES, TINY, rng)
        slices, truth = case.view.interpolation.slices, case.truth()
        assert any(one.mask.any() for one in slices)
        grid = case.view.grid
        assert truth.shape == grid.shape_kji and (truth > 0).any() and (truth < 0).any()
        agree = [(case.shape.signed_distance(one.points_lps_mm().reshape(-1, 3)) > 0) == one.mask.ravel() for one in slices]
        assert np.mean(np.concatenate(agree)) > 0.97  # but for shaky outlines
        task = case.inr_task(TINY, rng)
        assert task.context_points.shape == (96, 3) and task.target_points.shape == (96, 3)
        assert 0.02 < task.target_occupancy.mean() < 0.9 and set(task.target_occupancy.tolist()) == {0.0, 1.0}
        lps = case.view.lps_mm(task.target_points.numpy())
        np.testing.assert_array_equal(case.shape.signed_distance(lps) > 0, task.target_occupancy.numpy() > 0)


def test_layouts_of_all_kinds_come_up():
    rng, seen = np.random.default_rng(1), set()
    for _ in range(60):
        field = random_case(SHAPES[:1], TINY, rng).view.interpolation
        axes = {int(np.abs(one.normal_lps).argmax()) for one in field.slices}
        straight = all(np.abs(one.normal_lps).max() > 1 - 1e-9 for one in field.slices)
        seen.add("three planes" if len(axes) > 1 else "parallel" if straight else "oblique")
        seen.add("with empty" if any(not one.mask.any() for one in field.slices) else "outlined only")
    assert seen == {"three planes", "parallel", "oblique", "with empty", "outlined only"}


# Steps


def test_the_loss_is_least_where_the_truth_is():
    truth = torch.from_numpy(Toy().on(VoxelGrid.box(np.zeros(3), EXTENT_MM, 2.0))).float()[None, None] / 2
    right = float(completion_loss(8 * truth, truth))
    assert right < 0.05
    for wrong in (torch.zeros_like(truth), -8 * truth, 8 * (truth + 1), 8 * truth.roll(2, -1)):
        assert float(completion_loss(wrong, truth)) > 2 * right
    assert float(completion_loss(torch.full_like(truth, 9.0), truth)) > 1  # everything inside is seen, near the surface or not


@pytest.mark.slow
def test_both_losses_fall():
    config = replace(TINY, inr_steps=40, refine_steps=6, refine_rate=3e-3, context_points=192, target_points=192)
    training = Training(SHAPES[:1], config)
    losses = [training.take_step() for _ in range(training.steps)]
    inr, refine = losses[:40], losses[40:]
    assert np.mean(inr[-10:]) < 0.8 * np.mean(inr[:10])
    assert np.isfinite(refine).all() and training.cpu_s > 0
    view = random_case(SHAPES[:1], config, np.random.default_rng(9)).view
    field, distance, prior = meta_train.network_inputs(view, meta_train.inner_step(training.inr, view))
    assert training.average(field, distance, prior).abs().max() > 0.01


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {**training.inr, **training.average.state_dict(), **{f"raw {n}": v for n, v in training.network.state_dict().items()}}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Training:
    torch.set_num_threads(1)
    return train(SHAPES[:2], TINY, tmp_path_factory.mktemp("whole") / "all.pt", quiet)


@pytest.mark.parametrize("killed_after", [1, 3, 4])
def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, uninterrupted, killed_after):
    """In the first phase, between the phases, in the second."""
    monkeypatch.setattr(meta_train, "_CHECKPOINT_S", -1.0)
    reported = []

    def kill(fraction: float, message: str) -> None:
        reported.append(fraction)
        if len(reported) == killed_after:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(SHAPES[:2], TINY, tmp_path / "all.pt", kill)
    torch.rand(7)  # another process, other chance
    resumed = train(SHAPES[:2], TINY, tmp_path / "all.pt", lambda fraction, message: reported.append(fraction))
    assert len(reported) == TINY.inr_steps + TINY.refine_steps and reported == sorted(reported) and reported[-1] == 1
    expected = weights(uninterrupted)
    for name, value in weights(resumed).items():
        # Convolutions may round differently where memory is aligned otherwise; one step more or less changes 1e-4.
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_a_cancelled_training_loses_no_step(tmp_path):
    """Without waiting for the next checkpoint by the clock."""

    def cancel(fraction: float, message: str) -> None:
        if fraction >= 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(SHAPES[:2], TINY, tmp_path / "all.pt", cancel)
    assert load_checkpoint(tmp_path / "all.pt")["step"] == math.ceil((TINY.inr_steps + TINY.refine_steps) / 2)


def test_a_finished_training_is_not_repeated(tmp_path, uninterrupted):
    save_checkpoint(tmp_path / "all.pt", uninterrupted.state())
    again = train(SHAPES[:2], TINY, tmp_path / "all.pt", lambda *_: pytest.fail("a step was taken"))
    assert all(torch.equal(value, weights(uninterrupted)[name]) for name, value in weights(again).items())


def test_a_checkpoint_of_another_training_is_left_alone(tmp_path, uninterrupted, monkeypatch):
    save_checkpoint(tmp_path / "all.pt", uninterrupted.state())
    state = load_checkpoint(tmp_path / "all.pt")
    assert Training(SHAPES[:2], TINY).restore(state)
    for shapes, config, start in (
        (SHAPES[:2], replace(TINY, seed=1), None),
        (SHAPES[:2], replace(TINY, extent_mm=80.0), None),
        (SHAPES[:1], TINY, None),
        (SHAPES[:2], TINY, toy_prior(card=replace(toy_prior().card, sha256="1" * 64))),
    ):
        fresh = Training(shapes, config, start)
        before = {name: value.clone() for name, value in weights(fresh).items()}
        assert not fresh.restore(state) and fresh.step == 0
        assert all(torch.equal(value, before[name]) for name, value in weights(fresh).items())
    assert not Training(SHAPES[:2], TINY).restore({})
    monkeypatch.setattr(meta_train, "InrSettings", lambda: InrSettings(width=64))
    assert not Training(SHAPES[:2], TINY).restore(state)


def test_a_training_may_start_from_another_network():
    start = toy_prior()
    with torch.no_grad():
        start.refine.exit.bias.fill_(0.25)
    training = Training(SHAPES[:2], TINY, start)
    for network in (training.network, training.average):
        assert torch.equal(network.exit.bias, start.refine.exit.bias)


# A prior


@pytest.mark.parametrize("folds", [1, 2, 3])
def test_folds_never_split_a_patient(folds):
    shapes = [replace(SHAPES[0], patient=f"patient_{n}") for n in (0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4)]
    parts = patient_folds(shapes, folds, 0)
    assert len(parts) == max(folds, 2) and all(parts)
    assert sorted(name for part in parts for name in part) == sorted({shape.patient for shape in shapes})
    sizes = [sum(shape.patient in part for shape in shapes) for part in parts]
    assert max(sizes) - min(sizes) <= 4
    assert parts == patient_folds(shapes[::-1], folds, 0)
    assert any(patient_folds(shapes, folds, seed) != parts for seed in range(1, 6))


@pytest.mark.parametrize(("patients", "folds"), [(1, 2), (2, 3), (1, 1)])
def test_too_few_patients_are_refused(tmp_path, patients, folds):
    with pytest.raises(InputError, match=f"of {patients} patients; {max(folds, 2)} are needed") as caught:
        train_prior(SHAPES[:patients] * 3, tmp_path / "toy.pt", INFO, replace(TINY, folds=folds), QUICK, quiet)
    assert caught.value.exit_code == 2 and caught.value.remedy and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_prior_from_the_first_step_to_the_card(tmp_path):
    """Killed in its second part and started again; what a kill left half written goes with the rest."""
    out, fractions = tmp_path / "out" / "toy.pt", []

    def kill(fraction: float, message: str) -> None:
        fractions.append(fraction)
        if message.startswith("Fold 2"):
            raise Cancelled

    with pytest.raises(Cancelled):
        train_prior(SHAPES, out, INFO, TINY, QUICK, kill)
    assert not out.exists() and (out.parent / "toy.training" / "fold_0.pt").is_file()
    (out.parent / "toy.training" / "fold_1.pt.partial").write_bytes(b"half")
    again = []
    assert train_prior(SHAPES, out, INFO, TINY, QUICK, lambda fraction, message: again.append((fraction, message))) == out
    assert [fraction for fraction, _ in again] == sorted(fraction for fraction, _ in again) and again[-1][0] == 1
    assert not any("Fold 1" in message and "Step" in message for _, message in again)
    assert sorted(path.name for path in out.parent.iterdir()) == ["toy.json", "toy.pt", "toy.training"]
    remove_checkpoints(out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["toy.json", "toy.pt"]
    prior = load_prior(out)
    assert (prior.card.title, prior.card.name, prior.card.extent_mm, prior.card.steps) == (INFO.title, "toy", 72.0, 5)
    assert set(prior.card.figures) == {f"{kind} 12 mm" for kind in ("axial", "coronal", "sagittal", "oblique")}
    for figures in prior.card.figures.values():
        assert 0.5 < figures["dice interpolate"] <= 1 and 0 <= figures["dice inr"] <= 1 and figures["shapes"] == 4
        assert 0 <= figures["calibration error"] < 0.2
    assert np.isfinite(prior.usual_evidence) and json.loads(out.with_suffix(".json").read_text())["sha256"] == prior.card.sha256


def test_the_usual_evidence_is_what_nineteen_in_twenty_exceed():
    rng = np.random.default_rng(0)
    measured = [
        Measured("a", "p", "axial", {"evidence": float(n)}, rng.normal(0, 2, 50), np.ones(50), rng.random(50) < 0.5) for n in range(101)
    ]
    temperature, usual = calibrated(measured)
    assert usual == pytest.approx(5.0) and temperature.at(np.ones(1)) > 0.5
