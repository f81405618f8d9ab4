"""Images that no standardizer is made for are told, each with its reason; what is unsure is not used; a case of DRRs is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from standardize_scenes import EXPOSED, SIZE, bones, measured, soft_tissue, stored_values, view_geometry, xray

from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.standardization import choice
from IntraopReconLib.core.standardization.choice import choose, decide
from IntraopReconLib.core.standardization.classical import ClassicalStandardizer
from IntraopReconLib.core.standardization.standardize import standardize_views
from IntraopReconLib.core.standardization.trust import find_oddities, noise_of, uncertainty, use_of
from IntraopReconLib.core.standardization_config import ClassicalSettings, StandardizationConfig, TrustSettings
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import MeasuredView, attenuation
from IntraopReconLib.core.xrays.stored import STANDARDIZED_MARK, Origin, read_origin, stored_facts
from SparseAnatomyLib.errors import InputError

TRUST, CLASSICAL, CONFIG = TrustSettings(), ClassicalSettings(), StandardizationConfig()


class Doubling:
    """A learned standardizer that is easily told from the classical one, and sure of itself."""

    name = "network"

    def bone(self, attenuation, mask, pixel_mm):
        return np.where(mask, np.maximum(2 * attenuation, 0), 0).astype(np.float32)


class Fickle(Doubling):
    """One that makes bone up on the right of every image."""

    def bone(self, attenuation, mask, pixel_mm):
        made_up = np.zeros_like(attenuation, np.float32)
        made_up[:, attenuation.shape[1] // 2 :] = 3.0
        return np.where(mask, made_up, 0)


def exported(stored: np.ndarray) -> np.ndarray:
    """Return 8 bits of gray as a viewer shows them: a window over the logarithm."""
    shown = np.log(stored + 1.0)
    low, high = np.percentile(shown, (1, 99))
    return np.clip(np.rint(255 * (shown - low) / (high - low)), 0, 255)


def lettered(stored: np.ndarray) -> np.ndarray:
    """Burn letters in."""
    picture = Image.fromarray(np.zeros(stored.shape, np.uint8))
    ImageDraw.Draw(picture).text((12, 12), "L LAT 70 kV", fill=255, font=ImageFont.load_default(13))
    return np.where(np.asarray(picture) > 127, 2**16 - 1, stored)


def with_prosthesis() -> np.ndarray:
    row, column = np.mgrid[:SIZE, :SIZE]
    metal = (np.hypot(row - 50, column - 70) < 14) | ((abs(column - 70) < 5) & (row > 50) & (row < 120))
    return stored_values(bones() + soft_tissue() + 12.0 * metal, scatter=0.004)


def photograph() -> np.ndarray:
    """Return 12-bit values of overlapping things with hard edges and some grain."""
    rng, picture = np.random.default_rng(0), Image.new("L", (SIZE, SIZE), 90)
    draw = ImageDraw.Draw(picture)
    for _ in range(120):
        x, y, width, height = rng.integers(0, SIZE, 2).tolist() + rng.integers(6, 40, 2).tolist()
        draw.rectangle((x, y, x + width, y + height), fill=int(rng.integers(20, 240)))
    return np.clip(16 * np.asarray(picture, float) + rng.normal(0, 8, (SIZE, SIZE)), 1, 4094)


BAD = {
    "export": (lambda: exported(xray()[0]), {"bits": 8, "air": None}, "classical", "8 bits"),
    "export in 16 bits": (lambda: 257 * exported(xray()[0]), {"air": None}, "classical", "8 bits"),
    "inverted": (lambda: 2**16 - 1 - xray()[0].astype(int), {"air": None}, "original", "polarity"),
    "text": (lambda: lettered(xray()[0]), {}, "standardized", "letters"),
    "dark": (lambda: stored_values(bones() + soft_tissue(), photons=60), {}, "classical", "underexposed"),
    "bright": (lambda: np.minimum(40 * xray()[0].astype(int), 2**16 - 1), {"air": None}, "standardized", "overexposed"),
    "metal": (with_prosthesis, {}, "classical", "prosthesis"),
    "photograph": (photograph, {"bits": 12, "air": None}, "original", "photograph"),
}


@pytest.fixture
def view(tmp_path: Path) -> MeasuredView:
    """An X-ray as any other."""
    return measured(tmp_path, xray()[0])


def test_an_ordinary_xray_is_not_odd(view):
    assert find_oddities(view, TRUST, CLASSICAL) == []


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_with_its_reason(what, tmp_path):
    make, how, use, words = BAD[what]
    (done,) = standardize_views([measured(tmp_path, make(), **how)], Doubling())
    kinds = [finding.kind for finding in done.findings]
    assert what.split()[0] in kinds
    assert use_of(done.findings) == use
    assert done.used == {"standardized": "network"}.get(use, use)
    assert any(words in sentence and sentence.startswith("xrays/view.dcm: ") and "\n" not in sentence for sentence in done.sentences)
    if use == "original":
        np.testing.assert_array_equal(done.view.attenuation, done.original.attenuation)
        assert not done.uncertainty.any()


def test_a_photograph_of_nature_is_told(tmp_path):
    skimage_data = pytest.importorskip("skimage.data")
    for name in ("camera", "astronaut", "chelsea"):
        picture = getattr(skimage_data, name)()
        gray = picture if picture.ndim == 2 else picture.mean(axis=-1)
        edge = min(gray.shape)
        found = find_oddities(measured(tmp_path, gray[:edge, :edge] * 16 + 1, bits=12, air=None), TRUST, CLASSICAL)
        assert found[0].kind == "photograph"


def test_letters_are_masked_and_filled(tmp_path):
    (done,) = standardize_views([measured(tmp_path, lettered(xray()[0]))], ClassicalStandardizer())
    letters = np.asarray(lettered(np.zeros((SIZE, SIZE))) > 0)
    assert not done.view.mask[letters].any()
    assert done.view.mask.mean() > 0.9
    assert (done.view.attenuation[letters] == 0).all()


def test_masks_are_carried_along(view):
    mask = view.mask.copy()
    mask[30:60, 40:90] = False
    (done,) = standardize_views([replace(view, mask=mask)], ClassicalStandardizer())
    np.testing.assert_array_equal(done.view.mask, mask)
    assert (done.view.attenuation[~mask] == 0).all()
    assert (done.difference[~mask] == 0).all()
    assert (done.uncertainty[~mask] == 0).all()
    assert done.view.geometry is view.geometry
    assert done.view.pose_sigma_mm == view.pose_sigma_mm
    np.testing.assert_allclose(done.difference[mask], (view.attenuation - done.view.attenuation)[mask])


def test_the_rim_of_the_field_is_taken_off(view):
    mask = np.hypot(*np.mgrid[-1:1:160j, -1:1:160j]) < 0.9
    mask[70:80, 70:80] = False
    (done,) = standardize_views([replace(view, mask=mask)], ClassicalStandardizer())
    lost = mask & ~done.view.mask
    assert 0.01 < lost.mean() < 0.05
    assert not lost[60:90, 60:90].any()
    assert (done.view.attenuation[lost] == 0).all()


def test_what_comes_out_differently_is_unsure_and_not_used(view):
    (done,) = standardize_views([view], Fickle())
    assert done.used == "classical"
    assert done.findings[0].kind == "unsure"
    assert "mirrored" in done.sentences[0]
    np.testing.assert_array_equal(done.view.attenuation, ClassicalStandardizer().bone(view.attenuation, view.mask, 1.6))


def test_uncertainty_shows_where(view):
    assert uncertainty(Fickle(), view, TRUST)[:, 60].mean() > 1.0
    assert np.median(uncertainty(Doubling(), view, TRUST)[20:-20, 20:-20]) < 0.05
    fine = replace(view, attenuation=np.kron(view.attenuation, np.ones((3, 3), np.float32)), mask=np.kron(view.mask, np.ones((3, 3), bool)))
    fine = replace(fine, geometry=view_geometry(size=3 * SIZE, pitch_mm=0.53))
    np.testing.assert_allclose(uncertainty(Fickle(), fine, TRUST)[1::3, 1::3], uncertainty(Fickle(), view, TRUST), atol=0.6)


def test_noise_tells_the_polarity(tmp_path):
    straight = measured(tmp_path, xray()[0])
    reversed_ = measured(tmp_path, 2**16 - 1 - xray()[0].astype(int), air=None)
    assert noise_of(straight.attenuation, straight.mask, TRUST).rises > 0.5
    assert not noise_of(straight.attenuation, straight.mask, TRUST).falls(TRUST)
    assert noise_of(reversed_.attenuation, reversed_.mask, TRUST).falls(TRUST)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_image_is_too_odd_to_be_looked_at(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))
    image = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-2, 12, width=32)))
    mask = data.draw(hnp.arrays(bool, shape))
    geometry = view_geometry(size=8)
    found = find_oddities(MeasuredView("odd", image, mask, geometry), TRUST, CLASSICAL)
    assert all(finding.reason.endswith(".") for finding in found)


def test_real_xrays_are_xrays(shared_data):
    folder = shared_data / "carm"
    if not folder.is_dir():
        pytest.skip(f"needs the real C-arm images in {folder}")
    for path in sorted(folder.glob("*Spine*.dcm")):
        (radiograph,) = read_radiographs(path)
        image = attenuation(radiograph)
        facts = stored_facts(radiograph, image)
        view = MeasuredView(radiograph.name, image.attenuation, image.mask, view_geometry(size=1024, pitch_mm=0.21), None, facts)
        assert {finding.kind for finding in find_oddities(view, TRUST, CLASSICAL)} <= {"bare"}  # a specimen has no soft tissue
        assert facts.origin.was_exposed
        assert facts.graphics is None
        assert decide([view], "auto", CONFIG).applies


def test_computed_images_of_bone_are_left_alone_and_xrays_are_not(tmp_path, sample_case):
    drr = [measured(tmp_path, stored_values(bones(seed=n) + 0.05 * soft_tissue(), seed=n)) for n in range(3)]
    real = [measured(tmp_path, xray(n)[0]) for n in range(3)]
    for views, asked, applies, words in (
        (drr, "auto", False, "as in computed images of bone"),
        (drr, "on", True, "as asked for"),
        (real, "auto", True, "soft tissue"),
        (real, "off", False, "as asked for"),
        ([measured(tmp_path, xray(n)[0], air=None) for n in range(3)], "auto", True, "soft tissue"),
        (
            [measured(tmp_path, stored_values(bones(seed=n) + 0.05 * soft_tissue() + 0.02), air=None) for n in range(3)],
            "auto",
            False,
            "bone",
        ),
        ([replace(one, stored=replace(one.stored, origin=Origin(shows_bone_only=True))) for one in real], "auto", False, "bone only"),
        ([replace(one, stored=replace(one.stored, origin=Origin(was_exposed=True))) for one in drr], "auto", True, "tube voltage"),
        ([*drr, *real[:1]], "auto", False, "computed"),
        ([replace(one, stored=None) for one in drr], "auto", False, "computed"),
    ):
        decision = decide(views, asked, CONFIG)
        assert (decision.applies, words in decision.reason) == (applies, True), decision.reason
        assert decision.reason.endswith(".")
        assert "\n" not in decision.reason
    for name in ("lumbar", "thorax"):
        assert not decide(load_case(sample_case / name).views, "auto", CONFIG).applies


def test_reversed_xrays_do_not_pass_for_computed_images(tmp_path):
    views = [measured(tmp_path, 2**16 - 1 - xray(n)[0].astype(int)) for n in range(3)]
    assert decide(views, "auto", CONFIG).applies


def test_marks_in_the_file(tmp_path):
    path = tmp_path / "view.dcm"
    for tags, bone_only, was_exposed in (
        ({}, False, False),
        ({"ImageType": ["DERIVED", "SECONDARY"], "DerivationDescription": "DRR of a CT"}, True, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY"], "DerivationDescription": "DRR of a CT"}, False, False),
        ({"ImageType": ["DERIVED", "SECONDARY"], "DerivationDescription": f"{STANDARDIZED_MARK} (network)"}, True, False),
        ({"ImageComments": "SparseAnatomy DRR"}, True, False),
        ({"ImageComments": "address: ADRRESS"}, False, False),
        (EXPOSED, False, True),
        ({"KVP": "70"}, False, False),
        ({**EXPOSED, "KVP": "0"}, False, False),
    ):
        measured(tmp_path, xray()[0], **tags)
        assert read_origin(path) == Origin(bone_only, was_exposed), tags
    dataset = dcmread(path)
    dataset.add_new("KVP", "LO", "seventy")
    dataset.save_as(path)
    assert read_origin(path) == Origin()
    assert read_origin(tmp_path / "nothing.dcm") == Origin()


def test_without_weights_the_classical_way_is_chosen_and_torch_is_not_needed(monkeypatch):
    def missing(name):
        raise InputError(f"{name} is not installed.", "Install the extension again.")

    monkeypatch.setattr(choice, "resource", missing)
    monkeypatch.setitem(__import__("sys").modules, "IntraopReconLib.core.standardization.network", None)
    chosen = choose(CONFIG)
    assert chosen.standardizer.name == "classical"
    assert "comes without a trained network for standardization. The X-rays were standardized without a network" in chosen.warning
    assert choose(StandardizationConfig(method="classical")).warning == ""
    with pytest.raises(InputError, match="comes without") as caught:
        choose(StandardizationConfig(method="network"))
    assert "--method classical" in caught.value.remedy


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """Untrained weights in the place of those that ship."""
    torch = pytest.importorskip("torch")
    from IntraopReconLib.core.standardization.network import NetworkStandardizer, StandardizerCard
    from IntraopReconLib.core.standardization.unet import BoneNetwork

    torch.manual_seed(0)
    card = StandardizerCard("toy", "Nothing.", "CC0-1.0", "", 0.0, 0, "none")
    path = NetworkStandardizer(BoneNetwork(), card).save(tmp_path / "bone.pt")
    monkeypatch.setattr(choice, "resource", lambda name: path)
    return path


def test_weights_are_used_where_they_are_what_their_card_says(weights):
    chosen = choose(CONFIG)
    assert (chosen.standardizer.name, chosen.warning) == ("network", "")
    assert chosen.weights_sha256 == chosen.standardizer.card.sha256


@pytest.mark.parametrize("damage", ["changed", "cut off", "no card", "empty card"])
def test_weights_that_were_tampered_with_are_not_used(weights, damage):
    content = bytearray(weights.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif damage == "cut off":
        weights.write_bytes(content[:1000])
    elif damage == "no card":
        weights.with_suffix(".json").unlink()
    else:
        weights.with_suffix(".json").write_text("{}")
    chosen = choose(CONFIG)
    assert chosen.standardizer.name == "classical"
    assert chosen.warning.count(". ") == 1  # one sentence about the weights, one about what was done instead
    assert str(weights.parent) not in chosen.warning  # reports tell no folders
    for asked in (StandardizationConfig(method="network"), StandardizationConfig(weights=weights)):
        with pytest.raises(InputError):
            choose(asked)


def test_weights_of_one_s_own(weights, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for path in (weights, weights.with_suffix(".json")):
        path.rename(own / path.name)
    assert choose(CONFIG).standardizer.name == "classical"
    assert choose(StandardizationConfig(weights=own / "bone.pt")).standardizer.name == "network"
