"""What a system makes of beam and image: apertures, curves, polarities, and files that lead back to attenuation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pydicom
import pytest
from scipy.special import ndtr

from IntraopReconLib.core.simulation_config import LookRanges
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.dicom_writer import DRR_COMMENT, XraySeries, write_stored, write_xray
from IntraopReconLib.core.xrays.looks import (
    CURVES,
    INTENSIFIER_SHARE,
    READABLE,
    Leaf,
    Look,
    aperture,
    draw_look,
    field,
    seen,
    with_leaves,
)
from IntraopReconLib.core.xrays.radiograph import attenuation
from IntraopReconLib.core.xrays.storage import StoredImage, store
from SparseAnatomyLib.geometry import XrayView

SERIES = XraySeries("a key", "X-rays", np.zeros(3))
VIEW = XrayView([0, -600, 0], [-60, 420, 50], [1.0, 0, 0], [0, 0, -1.0], (121, 101))
SIZE = VIEW.size_px


def anatomy(seed: int = 0) -> np.ndarray:
    """Return a signal of a smooth body with some air at its left, asymmetric, [row, column]."""
    x, y = np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]))
    depth = 3.0 * np.sqrt(np.clip(1 - (x - 0.3) ** 2 - (0.5 * y) ** 2, 0, None)) + 0.3 * np.exp(-20 * ((x - 0.2) ** 2 + (y + 0.3) ** 2))
    noise = np.random.default_rng(seed).normal(0, 0.005, depth.shape)
    return np.exp(-depth - noise).astype(np.float32)


def read_back(tmp_path, stored: StoredImage, air: float | None = None):
    """Write an image and return what a reader makes of it."""
    write_stored(tmp_path / "a.dcm", stored, VIEW, SERIES, 1)
    (radiograph,) = read_radiographs(tmp_path / "a.dcm")
    return radiograph, attenuation(radiograph, stored.air_value if air is None else air)


# ---- the beam


def test_leaves_close_the_beam_with_the_penumbra_of_the_focal_spot():
    look = Look(intensifier=False, leaves=(Leaf(0.0, 0.5, 2.0), Leaf(math.pi / 2, 0.25, 0.0)))
    beam = aperture(look, SIZE, 0.5)
    edge = 0.5 * min(SIZE) / 2
    offset = np.arange(SIZE[0]) - (SIZE[0] - 1) / 2
    np.testing.assert_allclose(beam[10], ndtr((edge - offset) * 0.5 / 2.0), atol=1e-5)
    assert beam.dtype == np.float32 and beam.min() >= 0 and beam.max() <= 1
    assert (beam[64:] == 0).all() and beam[62, 0] > 0.99  # a quarter of a half edge below the middle row


def test_an_iris_is_an_octagon_within_a_round_field():
    look = draw_look(LookRanges(intensifier=1.0, iris_share=(0.9, 0.9), iris_penumbra_mm=(0.1, 0.1)), np.random.default_rng(0))
    assert len(look.leaves) == 8
    open_share = (aperture(look, (400, 400), 0.2) > 0.5).mean()
    octagon = 8 * math.tan(math.pi / 8) * (0.9 * INTENSIFIER_SHARE) ** 2 / 4
    assert open_share == pytest.approx(octagon, rel=0.04)
    assert field(look, (400, 400)).mean() == pytest.approx(math.pi * INTENSIFIER_SHARE**2 / 4, rel=0.01)
    assert field(dataclasses.replace(look, intensifier=False), (400, 400)).all()


def test_vignetting_darkens_the_border_and_nothing_is_seen_outside_the_field():
    signal = np.ones((101, 101), np.float32)
    image = seen(Look(intensifier=True, vignetting=0.1), signal)
    assert image[50, 50] == 1 and image[50, 100] < 0.91 and image[0, 0] == 0
    np.testing.assert_array_equal(seen(Look(intensifier=False), signal), signal)


def test_distortion_draws_out_and_turns_the_border():
    signal = np.zeros((201, 201), np.float32)
    signal[100, 170] = signal[100, 100] = 1
    image = seen(Look(intensifier=True, pincushion=0.05, s_distortion_rad=0.1), signal)
    row, column = np.unravel_index(np.where(np.hypot(*(np.indices(image.shape) - 100)) > 20, image, 0).argmax(), image.shape)
    radius, turn = math.hypot(column - 100, row - 100), math.atan2(row - 100, column - 100)
    squared = (radius / 100.5) ** 2
    assert radius * (1 - 0.05 * squared) == pytest.approx(70, abs=1)
    assert turn == pytest.approx(-0.1 * squared, abs=0.015)
    assert image[100, 100] == 1


# ---- storing and reading back


@pytest.mark.parametrize("monochrome1", [False, True])
@pytest.mark.parametrize(("curve", "bits"), [("linear", 16), ("linear", 12), ("square_root", 12), ("logarithm", 12), ("logarithm", 16)])
def test_files_lead_back_to_attenuation(tmp_path, curve, bits, monochrome1):
    signal = anatomy()
    stored = store(Look(intensifier=False, curve=curve, bits=bits, monochrome1=monochrome1), signal)
    radiograph, image = read_back(tmp_path, stored)
    assert not radiograph.warnings and image.mask.mean() > 0.99
    step = 1.2 / 2**bits if curve == "linear" else 0.01  # of a stored value, relative to air
    tolerance = 0.6 * step / signal if curve == "linear" else 0.005
    assert (np.abs(image.attenuation + np.log(signal))[image.mask] <= np.broadcast_to(tolerance, signal.shape)[image.mask] + 2e-3).all()


def test_polarity_changes_nothing_that_is_read(tmp_path):
    for curve in READABLE:
        look = Look(intensifier=False, curve=curve, bits=12)
        plain, inverted = (store(dataclasses.replace(look, monochrome1=flag), anatomy(), "") for flag in (False, True))
        assert (plain.pixels + inverted.pixels == 4095).all()
        (_, first), (radiograph, second) = read_back(tmp_path, plain), read_back(tmp_path, inverted)
        np.testing.assert_array_equal(first.mask, second.mask)
        np.testing.assert_allclose(first.attenuation, second.attenuation, atol=1e-3)
        assert radiograph.response.sign.value == -1 or curve != "linear"


@pytest.mark.parametrize("seed", range(12))
def test_every_usual_look_can_be_read_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    look = draw_look(LookRanges(), rng)
    signal = seen(look, anatomy() * np.maximum(aperture(look, SIZE, 1.0), 1e-3))
    stored = store(look, signal, "IMG 1")
    assert look.is_readable and stored.air_value is not None
    radiograph, image = read_back(tmp_path, stored)
    inside = image.mask & (aperture(look, SIZE, 1.0) > 0.9) & (signal > 0)
    inside[-14:, :40] &= not look.text
    inside[:1] &= not look.ramp
    assert inside.mean() > 0.3
    difference = (image.attenuation + np.log(np.maximum(signal, 1e-9)))[inside]
    assert np.abs(difference).max() < 0.05
    assert {"tag", "user"} >= {radiograph.response.relation.origin, image.air_intensity.origin}


def test_tags_state_the_field(tmp_path):
    look = draw_look(LookRanges(intensifier=1.0, shutter_tagged=1.0, leaves_tagged=1.0, iris_share=(0.8, 0.8)), np.random.default_rng(1))
    radiograph, _ = read_back(tmp_path, store(look, seen(look, anatomy())))
    opened = (aperture(look, SIZE, 1.0) > 0.5) & field(look, SIZE)
    assert (radiograph.mask != opened).mean() < 0.03  # tags count whole pixels
    untagged = dataclasses.replace(look, shutter_tagged=False, leaves_tagged=False)
    assert store(untagged, seen(look, anatomy())).tags == {}


def test_automatic_exposure_may_saturate_the_air():
    signal = anatomy()
    stored = store(Look(intensifier=True, brightness=0.3, bits=12), seen(Look(intensifier=True), signal))
    inside = field(Look(intensifier=True), SIZE) & (signal < 0.7)
    assert np.median(stored.pixels[inside]) == pytest.approx(0.3 * 4095, rel=0.02)
    assert stored.air_value is None and stored.pixels.max() == 4095
    assert (stored.pixels[~field(Look(intensifier=True), SIZE)] == 0).all()


def test_a_window_of_eight_bits_clips_both_ends(tmp_path):
    stored = store(Look(intensifier=False, curve="window", bits=8), anatomy())
    assert stored.pixels.dtype == np.uint8 and stored.air_value is None and stored.lut is None
    assert 0.02 < (stored.pixels == 255).mean() < 0.05 and 0.02 < (stored.pixels == 0).mean() < 0.05
    write_stored(tmp_path / "a.dcm", stored, VIEW, SERIES, 1)
    (radiograph,) = read_radiographs(tmp_path / "a.dcm")
    assert radiograph.bits_stored == 8 and any("Pixel Intensity Relationship" in text for text in radiograph.warnings)


def test_film_curve_rises_and_says_that_it_cannot_be_read(tmp_path):
    look = Look(intensifier=False, curve="sigmoid", bits=12)
    ramp = np.broadcast_to(np.geomspace(1e-3, 1, SIZE[0]), SIZE[::-1]).astype(np.float32)
    stored = store(look, ramp)
    steps = np.diff(stored.pixels[0].astype(int))
    assert (steps >= 0).all() and steps.argmax() not in (0, len(steps) - 1)
    assert not look.is_readable and stored.relation == "DISP" and stored.air_value is None


def test_text_is_burned_into_the_lower_corner():
    signal = np.full((300, 300), 0.2, np.float32)
    look = Look(intensifier=False, text=True, bits=16)
    plain, written = store(dataclasses.replace(look, text=False), signal), store(look, signal, "IMG 4\n72 kV")
    changed = plain.pixels != written.pixels
    rows, columns = np.nonzero(changed)
    assert 40 < len(rows) < 2000 and rows.min() > 260 and columns.max() < 100
    assert (written.pixels[changed] == 65535).all()


def test_a_ramp_of_grays_stands_in_the_first_row():
    stored = store(Look(intensifier=True, ramp=True), seen(Look(intensifier=True), anatomy()))
    np.testing.assert_array_equal(np.sort(stored.pixels[0]), stored.pixels[0])
    assert (stored.pixels[0, 0], stored.pixels[0, -1]) == (0, 4095)


# ---- what is drawn and refused


def test_same_seed_same_look():
    ranges = LookRanges()
    assert draw_look(ranges, np.random.default_rng(4)) == draw_look(ranges, np.random.default_rng(4))
    looks = {draw_look(ranges, np.random.default_rng(seed)) for seed in range(40)}
    assert len(looks) == 40
    assert {look.curve for look in looks} == set(READABLE) and {look.intensifier for look in looks} == {True, False}
    assert all(look.bits == 16 for look in looks if look.curve == "linear")
    moved = with_leaves(draw_look(ranges, np.random.default_rng(4)), ranges, np.random.default_rng(5))
    assert moved.leaves != draw_look(ranges, np.random.default_rng(4)).leaves


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curve": "cubic"}, "curve: expected one of linear"),
        ({"bits": 7}, "bits: expected 8 to 16, got 7"),
        ({"bits": 17}, "bits: expected 8 to 16"),
        ({"brightness": 1.0}, "brightness: expected a share"),
        ({"headroom": 0.0}, "headroom: expected a number above zero"),
    ],
)
def test_looks_that_there_are_not(changes, message):
    with pytest.raises(ValueError, match=message):
        Look(intensifier=True, **changes)
    assert set(READABLE) < set(CURVES)


# ---- files


def test_an_xray_says_that_it_was_exposed_and_a_drr_that_it_was_not(tmp_path):
    stored = dataclasses.replace(store(Look(intensifier=True), seen(Look(intensifier=True), anatomy())), kilovolts=71.6, exposure_ms=22.3)
    write_stored(tmp_path / "xray.dcm", stored, VIEW, SERIES, 1)
    write_xray(tmp_path / "drr.dcm", np.full(SIZE[::-1], 7, np.uint16), VIEW, SERIES, 2)
    xray, drr = pydicom.dcmread(tmp_path / "xray.dcm"), pydicom.dcmread(tmp_path / "drr.dcm")
    assert list(xray.ImageType[:2]) == ["ORIGINAL", "PRIMARY"] and list(drr.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert (xray.KVP, xray.ExposureTime) == (72, 22) and drr.KVP is None
    assert drr.ImageComments == DRR_COMMENT and "Simulated from CT" in drr.DerivationDescription
    assert "DRR" not in str(xray) and "DerivationDescription" not in xray
    assert xray.PatientName == drr.PatientName == "Simulated"


def test_classes_hold_what_they_may(tmp_path):
    expected = {
        (False, "linear", 12): "X-Ray Angiographic Image Storage",
        (True, "linear", 12): "Digital X-Ray Image Storage - For Processing",
        (False, "window", 8): "Secondary Capture Image Storage",
    }
    for (monochrome1, curve, bits), name in expected.items():
        look = Look(intensifier=False, curve=curve, bits=bits, monochrome1=monochrome1)
        write_stored(tmp_path / "a.dcm", store(look, anatomy()), VIEW, SERIES, 1)
        dataset = pydicom.dcmread(tmp_path / "a.dcm")
        assert dataset.SOPClassUID.name == name
        assert (dataset.BitsStored, dataset.PhotometricInterpretation) == (bits, "MONOCHROME1" if monochrome1 else "MONOCHROME2")
        np.testing.assert_array_equal(dataset.pixel_array, store(look, anatomy()).pixels)


def test_pixels_must_be_the_views(tmp_path):
    stored = store(Look(intensifier=False), anatomy()[:50])
    with pytest.raises(ValueError, match=r"stored\.pixels: expected shape \[101, 121\]"):
        write_stored(tmp_path / "a.dcm", stored, VIEW, SERIES, 1)
    assert not any(tmp_path.iterdir())
