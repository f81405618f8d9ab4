"""Training pairs and the training: anomalies are what they say, a killed run ends as one that was not, weights come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
import torch

from IntraopReconLib.core.standardization import anomalies, train
from IntraopReconLib.core.standardization.losses import anomaly_error, gradient_l1, masked_l1
from IntraopReconLib.core.standardization.measured_pairs import measured_views
from IntraopReconLib.core.standardization.network import NetworkStandardizer, StandardizerCard
from IntraopReconLib.core.standardization.pair_pool import PairPool
from IntraopReconLib.core.standardization.pairs import TrainingView, draw_pair, without_contrast_agent
from IntraopReconLib.core.standardization.train_standardizer import find_cts
from IntraopReconLib.core.standardization.unet import STRIDE_PX, BoneNetwork
from IntraopReconLib.core.training_config import PairRanges, StandardizerTraining
from IntraopReconLib.core.xrays.materials import MaterialVolumes
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.grid import VoxelGrid

TINY = StandardizerTraining(
    steps=6,
    input_px=STRIDE_PX,
    crop_px=32,
    overview_batch=2,
    detail_batch=2,
    pool_pairs=3,
    uses=1,
    overview_share=0.5,
    adversarial_from=0.5,
    pairs=PairRanges(field_mm=(48.0, 64.0)),
)
CARD = StandardizerCard("toy", "Nothing.", "CC0-1.0", "", 0.0, 0, "none")


def toy_view(seed: int = 0) -> TrainingView:
    """Return a slab of soft tissue with a rib across."""
    integrals = np.zeros((3, 64, 64), np.float16)
    integrals[0] = 3.0 + np.random.default_rng(seed).uniform(-1, 1)
    integrals[1, 28:36] = 1.0
    return TrainingView(integrals, 1.0)


@pytest.mark.parametrize("kind", range(5))
def test_anomalies_change_something_and_nothing_gets_negative(kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        integrals = toy_view().integrals.astype(np.float32)
        changed = integrals.copy()
        anomalies._KINDS[kind][0](changed, (32, 32), 1.0, rng)
        np.maximum(changed, 0, out=changed)
        assert np.abs(changed - integrals).max() > 1e-3
        assert np.isfinite(changed).all()


def test_only_metal_makes_metal_and_lesions_take_bone_away():
    kinds = {kind.__name__: kind for kind, _ in anomalies._KINDS}
    for seed in range(8):
        for name, kind in kinds.items():
            integrals = toy_view().integrals.astype(np.float32)
            changed = integrals.copy()
            kind(changed, (32, 32), 1.0, np.random.default_rng(seed))
            assert (changed[2].max() > 0) == (name == "_metal")
            if name == "_lytic":
                assert (changed[1] <= integrals[1]).all()
                assert (changed[0] >= integrals[0]).all()
            if name == "_sclerotic":
                assert (changed[1] >= integrals[1]).all()


def test_a_pair_differs_by_its_anomalies_only():
    rng = np.random.default_rng(5)
    pair = draw_pair(toy_view(), replace(TINY, pairs=replace(TINY.pairs, round_field_share=0.0)), rng)
    differs = np.abs(pair.bone[1] - pair.bone[0]) > 1e-3
    assert differs.any()
    assert not differs.all()
    assert np.abs(pair.attenuation[1] - pair.attenuation[0])[differs].mean() > 1e-3
    assert pair.mask.all()


def test_nothing_is_seen_outside_the_round_field():
    pair = draw_pair(toy_view(), replace(TINY, pairs=replace(TINY.pairs, round_field_share=1.0)), np.random.default_rng(2))
    assert (pair.attenuation[:, ~pair.mask] == 0).all()


def test_a_contrast_filled_heart_is_no_bone_but_a_vertebra_is():
    grid = VoxelGrid.box(np.zeros(3), 120.0, 2.0)
    k, j, i = np.indices(grid.shape_kji)
    per_mm = np.zeros((3, *grid.shape_kji), np.float32)
    per_mm[0] = 0.0206
    heart = (k - 30) ** 2 + (j - 20) ** 2 + (i - 30) ** 2 < 14**2
    shell = ((k - 30) ** 2 + (j - 48) ** 2 + (i - 30) ** 2 < 9**2) & ((k - 30) ** 2 + (j - 48) ** 2 + (i - 30) ** 2 > 6**2)
    for part in (heart, shell):
        per_mm[0, part], per_mm[1, part] = 0, 0.03
    cleaned = without_contrast_agent(MaterialVolumes(per_mm, grid))
    assert cleaned.per_mm[1][heart].mean() < 0.001
    assert cleaned.per_mm[0][heart].mean() > 0.029
    np.testing.assert_array_equal(cleaned.per_mm[1][shell], per_mm[1][shell])


def test_losses_are_zero_for_the_ideal_and_count_the_mask_only():
    ideal, mask = torch.rand(2, 2, 8, 8), torch.ones(2, 1, 8, 8)
    assert anomaly_error(ideal, ideal, mask) == 0
    assert masked_l1(torch.zeros(2, 1, 8, 8), mask) == 0
    wrong = torch.zeros(2, 1, 8, 8)
    wrong[..., 4:, :] = 1.0
    mask[..., 4:, :] = 0
    assert masked_l1(wrong, mask) == 0
    assert gradient_l1(wrong, mask) == 0
    assert gradient_l1(wrong, torch.ones_like(mask)) > 0


def test_an_erased_anomaly_costs_all_of_it():
    ideal, mask = torch.zeros(1, 2, 32, 32), torch.ones(1, 1, 32, 32)
    ideal[:, 1, 8:24, 8:24] = 1.0
    assert anomaly_error(torch.zeros_like(ideal), ideal, mask) == pytest.approx(1.0, abs=1e-3)
    assert anomaly_error(0.5 * ideal, ideal, mask) == pytest.approx(0.25, abs=1e-3)


def test_an_anomaly_outside_the_mask_does_not_count():
    ideal, mask = torch.zeros(1, 2, 32, 32), torch.ones(1, 1, 32, 32)
    ideal[:, 1, :8] = 1.0
    mask[:, :, :8] = 0
    assert anomaly_error(torch.zeros_like(ideal), ideal, mask) == 0


def test_an_untrained_network_lets_detail_pass_and_not_the_course():
    image = torch.full((1, 1, 3 * STRIDE_PX, 3 * STRIDE_PX), 4.0)
    image[:, :, 40:42, 40:42] += 1.0
    with torch.no_grad():
        bone, gain = BoneNetwork().eval()(image, torch.ones_like(image))
    assert bone[0, 0, 41, 41] == pytest.approx(1.0, abs=0.05)
    assert bone[..., 160:, :].abs().max() < 1e-5
    assert (gain == 1).all()


def test_the_course_is_that_of_the_mask_alone():
    mask = torch.ones(1, 1, 2 * STRIDE_PX, 2 * STRIDE_PX)
    mask[..., :50] = 0
    with torch.no_grad():
        bone, _ = BoneNetwork().eval()(4.0 * mask, mask)
    assert (bone * mask).abs().max() < 1e-5  # beside the border as far from it


def test_what_the_pool_holds_depends_on_the_step_alone():
    views = {"toy": [toy_view()], "other": [toy_view(1)]}
    gone_through, resumed = PairPool(views, TINY, 5), PairPool(views, TINY, 5)
    for step in range(4):
        batch = gone_through.batch(step)
    again = resumed.batch(3)
    torch.testing.assert_close(batch.attenuation, again.attenuation)
    torch.testing.assert_close(batch.mask, again.mask)
    assert not torch.equal(gone_through.batch(4).bone, again.bone)


def test_the_pool_turns_images_bone_and_mask_alike():
    exact = replace(TINY.pairs, gain=(1, 1), offset=(0, 0), vignetting=0.0, round_field_share=1.0)
    view = replace(toy_view(), measured=True)
    pool = PairPool({"toy": [view]}, replace(TINY, pairs=exact), 4)
    for step in range(6):
        batch = pool.batch(step)
        soft = (batch.attenuation - batch.bone)[:, :1]
        inside = batch.mask > 0
        assert (batch.attenuation[:, :1][~inside] == 0).all()
        assert soft[inside].std() < 0.02  # the slab is even; were the bone turned otherwise, it would show


@pytest.mark.slow
def test_a_killed_training_goes_on_exactly_where_it_was(tmp_path):
    views = {"toy": [toy_view(), toy_view(1)]}
    whole = train.train(views, TINY, tmp_path / "whole", lambda *_: None)

    def kill(fraction: float, message: str) -> None:
        if fraction > 0.6:
            raise Cancelled

    with pytest.raises(Cancelled):
        train.train(views, TINY, tmp_path / "killed", kill)
    resumed = train.train(views, TINY, tmp_path / "killed", lambda *_: None)
    for first, second in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        torch.testing.assert_close(first, second)
    assert list((tmp_path / "whole").glob("pairs_*.png"))


def test_the_checkpoint_of_another_training_is_not_taken():
    views = {"toy": [toy_view()]}
    state = train.Training(views, TINY).state()
    assert not train.Training(views, replace(TINY, seed=1)).restore(state)
    assert not train.Training({"other": [toy_view()]}, TINY).restore(state)
    assert train.Training(views, TINY).restore(state)


@pytest.fixture
def weights(tmp_path):
    """Return the file of weights that change the X-ray."""
    torch.manual_seed(0)
    network = BoneNetwork()
    for part in (network.overview, network.detail):
        torch.nn.init.normal_(part.last.weight, std=0.01)
    return NetworkStandardizer(network, CARD).save(tmp_path / "toy.pt")


def test_weights_come_back_as_they_were(weights):
    loaded = NetworkStandardizer.load(weights)
    image = np.random.default_rng(0).uniform(0, 4, (70, 90)).astype(np.float32)
    first = loaded.bone(image, np.ones(image.shape, bool), 1.0)
    again = NetworkStandardizer.load(weights).bone(image, np.ones(image.shape, bool), 1.0)
    np.testing.assert_array_equal(first, again)
    assert first.shape == image.shape
    assert np.abs(first - image).max() > 1e-3
    assert loaded.card.sha256


@pytest.mark.parametrize("pixel_mm", [0.2, 0.7, 3.0])
def test_any_size_and_pitch_is_standardized_and_nothing_outside_the_mask(weights, pixel_mm):
    image = np.random.default_rng(0).uniform(-0.1, 9, (130, 101)).astype(np.float32)
    mask = np.ones(image.shape, bool)
    mask[:, :20] = False
    image[0, 0] = np.nan  # outside the mask
    bone = NetworkStandardizer.load(weights).bone(image, mask, pixel_mm)
    assert bone.shape == image.shape
    assert bone.dtype == np.float32
    assert (bone >= 0).all()
    assert (bone[~mask] == 0).all()


def test_an_image_of_another_shape_than_its_mask_is_refused(weights):
    with pytest.raises(ValueError, match="one shape"):
        NetworkStandardizer.load(weights).bone(np.zeros((8, 8)), np.ones((8, 9), bool), 1.0)


@pytest.mark.parametrize("damage", ["truncated", "tampered", "no card", "card", "missing"])
def test_damaged_weights_are_a_sentence(weights, damage):
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[:-100])
    elif damage == "tampered":
        weights.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif damage == "no card":
        weights.with_suffix(".json").unlink()
    elif damage == "card":
        weights.with_suffix(".json").write_text("{")
    else:
        weights.unlink()
    with pytest.raises(InputError, match="standardizer"):
        NetworkStandardizer.load(weights)


def test_cts_are_found_and_held_out(tmp_path):
    for name in ("a.nrrd", "b.nii.gz", "a_labels.nrrd", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_cts(tmp_path)] == ["a.nrrd", "b.nii.gz"]
    assert [path.name for path in find_cts(tmp_path, ("a",))] == ["b.nii.gz"]
    for folder, held_out in ((tmp_path, ("c",)), (tmp_path, ("a", "b")), (tmp_path / "none", ())):
        with pytest.raises(InputError):
            find_cts(folder, held_out)


def test_cts_with_dots_in_their_names_are_told_apart(tmp_path):
    names = ["1.2.840.1.nii.gz", "1.2.840.2.nii.gz", "smith.2024.nrrd", "smith.2025.nrrd"]
    for name in (*names, "smith.2024_labels.nrrd"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_cts(tmp_path)] == names
    assert [path.name for path in find_cts(tmp_path, ("smith.2024", "1.2.840.1"))] == [names[1], names[3]]
    (tmp_path / "smith.2025.mha").write_bytes(b"")
    with pytest.raises(InputError, match=r"two CTs called smith\.2025"):
        find_cts(tmp_path)


def write_pair(folder, name: str, xray: np.ndarray, bone: np.ndarray) -> None:
    """Write a pair as images with pixels of 0.5 mm."""
    for part, values in (("xray", xray), ("bone", bone)):
        (folder / part).mkdir(exist_ok=True, parents=True)
        image = SimpleITK.GetImageFromArray(values.astype(np.float32))
        image.SetSpacing([0.5] * values.ndim)
        SimpleITK.WriteImage(image, str(folder / part / f"{name}.nrrd"))


def test_measured_pairs_are_drawn_as_they_were_measured(tmp_path):
    rng = np.random.default_rng(0)
    bone = np.zeros((64, 64))
    bone[20:40] = 1.0
    write_pair(tmp_path, "a", 3.0 + bone + 0.1 * rng.standard_normal(bone.shape), bone)
    (view,) = measured_views(tmp_path)
    assert view.pixel_mm == 0.5
    exact = replace(TINY.pairs, field_mm=(32, 32), gain=(1, 1), offset=(0, 0), vignetting=0.0, round_field_share=0.0)
    pair = draw_pair(view, replace(TINY, input_px=64, pairs=exact), rng)
    np.testing.assert_allclose(pair.bone[0], bone, atol=1e-3)
    assert (pair.attenuation[0] - pair.bone[0]).mean() == pytest.approx(3.0, abs=0.01)
    assert np.abs(pair.bone[1] - pair.bone[0]).max() > 0


@pytest.mark.parametrize("wrong", ["empty", "no partner", "size", "intensities", "volume"])
def test_pairs_that_will_not_do_are_a_sentence(tmp_path, wrong):
    image = np.ones((32, 32))
    if wrong != "empty":
        write_pair(tmp_path, "a", image * (3000 if wrong == "intensities" else 1), np.ones((16, 32)) if wrong == "size" else image)
    if wrong == "no partner":
        (tmp_path / "bone" / "a.nrrd").unlink()
    if wrong == "volume":
        write_pair(tmp_path, "a", np.ones((4, 32, 32)), np.ones((4, 32, 32)))
    with pytest.raises(InputError):
        measured_views(tmp_path)


def test_organs_are_soft_tissue_only():
    for seed in range(6):
        integrals = toy_view().integrals.astype(np.float32)
        changed = anomalies.draw_organs(integrals, 1.0, 4, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed[1:], integrals[1:])
        assert np.abs(changed[0] - integrals[0]).max() > 1e-3
        assert changed.min() >= 0
