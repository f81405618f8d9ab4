"""Intensity to attenuation: Beer and Lambert with noise, with and without I0, and images that hold nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from IntraopReconLib.core.xrays.radiograph import Radiograph, attenuation
from IntraopReconLib.core.xrays.response import IntensityResponse
from IntraopReconLib.core.xrays.sourced import Sourced
from SparseAnatomyLib.errors import InputError

SIZE = 128
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]


def _radiograph(intensity: np.ndarray, mask: np.ndarray | None = None) -> Radiograph:
    response = IntensityResponse(np.arange(65536.0), 0, Sourced("LIN", "tag"), Sourced(1, "tag"))
    mask = np.ones(intensity.shape, bool) if mask is None else mask
    return Radiograph("view_000.dcm", Path("view_000.dcm"), "view_000.dcm", 0, np.asarray(intensity, np.float32), mask, response, 16)


def _cylinder(radius_px: float) -> np.ndarray:
    """Line integrals through a cylinder of 0.02 per mm, 1 mm pixels, off the center."""
    return 0.04 * np.sqrt(np.clip(radius_px**2 - (COLUMN - 50.0) ** 2, 0, None))


@pytest.mark.parametrize("air", [60000, 3000, 200])
@pytest.mark.parametrize("given", [True, False])
def test_noisy_air_averages_to_zero(air: int, given: bool):
    expected = _cylinder(40)
    noisy = np.random.default_rng(1).poisson(air * np.exp(-expected))
    result = attenuation(_radiograph(noisy), air if given else None)
    outside, tolerance = expected == 0, 0.002 if given else 0.01
    assert (result.attenuation[outside] < 0).mean() > 0.4
    jensen = 1 / (2 * air)  # the mean of -ln of a Poisson count lies this much above -ln of its mean
    assert result.attenuation[outside].mean() == pytest.approx(jensen, abs=tolerance)
    inside = (expected > 1.2) & (expected < 1.6)
    assert result.attenuation[inside].mean() == pytest.approx(expected[inside].mean(), abs=0.02)
    assert result.air_intensity.origin == ("user" if given else "assumed")
    assert result.warnings == ()


def test_noise_free_image_is_exact():
    expected = _cylinder(40)
    result = attenuation(_radiograph(50000 * np.exp(-expected)))
    np.testing.assert_allclose(result.attenuation, expected, atol=1e-5)
    assert result.attenuation.dtype == np.float32


def test_uneven_open_field_is_still_found():
    expected = _cylinder(30)
    shading = 1 - 0.04 * ((ROW - 64) ** 2 + (COLUMN - 64) ** 2) / 64**2
    result = attenuation(_radiograph(50000 * shading * np.exp(-expected)))
    assert result.warnings == ()
    assert abs(np.median(result.attenuation[expected == 0])) < 0.05


def test_no_open_field_is_said():
    covered = 2 + _cylinder(60) + 0.01 * ROW + 0.004 * COLUMN
    result = attenuation(_radiograph(60000 * np.exp(-covered)))
    assert "no open field" in result.warnings[0]
    assert "view_000.dcm" in result.warnings[0]


def test_what_is_outside_the_mask_does_not_set_the_air():
    intensity = 20000 * np.exp(-_cylinder(30))
    mask = ROW > 20
    intensity[~mask] = 50000
    result = attenuation(_radiograph(intensity, mask))
    assert result.air_intensity.value == pytest.approx(20000, rel=0.01)
    assert not result.mask[~mask].any()
    assert not result.attenuation[~mask].any()


def test_black_and_saturated_pixels_are_masked():
    intensity = 20000 * np.exp(-_cylinder(30))
    intensity[10:14, 10:14], intensity[90:95, 90:99] = 0, 65535
    mask = attenuation(_radiograph(intensity)).mask
    expected = np.ones((SIZE, SIZE), bool)
    expected[10:14, 10:14] = expected[90:95, 90:99] = False
    np.testing.assert_array_equal(mask, expected)


def test_collimator_that_no_tag_states_is_masked_but_dark_anatomy_is_not():
    intensity = 50000 * np.exp(-_cylinder(30))
    exposed = (ROW - 64) ** 2 + (COLUMN - 64) ** 2 < 60**2
    intensity[~exposed] = 40
    intensity[50:60, 50:60] = 40  # an implant: no photons pass, but the beam reaches all around it
    mask = attenuation(_radiograph(intensity)).mask
    np.testing.assert_array_equal(mask, exposed)


@pytest.mark.parametrize("level", [0, 65535, 1234])
def test_empty_images_are_refused(level: int):
    said = {0: "black", 65535: "saturated", 1234: "same value"}[level]
    with pytest.raises(InputError, match=f"view_000.dcm.*{said}") as caught:
        attenuation(_radiograph(np.full((SIZE, SIZE), level)))
    assert caught.value.remedy


def test_an_image_that_is_black_but_for_a_few_pixels_is_refused():
    intensity = np.zeros((SIZE, SIZE))
    intensity[:3, :3] = np.arange(9).reshape(3, 3) + 100
    with pytest.raises(InputError, match="black"):
        attenuation(_radiograph(intensity))


def test_signed_numbers_without_their_rescale_are_said():
    intensity = 50000 * np.exp(-_cylinder(40)) - 32768  # what the bits hold, not what it means
    said = attenuation(_radiograph(intensity)).warnings
    assert any("negative" in warning and "Rescale Intercept" in warning for warning in said)
    with pytest.raises(InputError, match="Rescale Intercept"):
        attenuation(_radiograph(intensity - 30000))


def test_dark_current_below_zero_is_not_said():
    intensity = 20000 * np.exp(-_cylinder(30))
    intensity[:2, :50] = -3
    assert attenuation(_radiograph(intensity)).warnings == ()


@pytest.mark.parametrize("air", [70000.0, -1.0, 0.0, float("nan")])
def test_impossible_air_intensity_is_refused(air: float):
    with pytest.raises(InputError, match=r"view_000\.dcm.*air_intensity"):
        attenuation(_radiograph(20000 * np.exp(-_cylinder(30))), air)


def test_air_intensity_below_most_of_the_image_is_doubted():
    result = attenuation(_radiograph(20000 * np.exp(-_cylinder(30))), 5000.0)
    assert "air_intensity" in result.warnings[0]


def test_a_scaled_response_changes_nothing():
    radiograph = _radiograph(50000 * np.exp(-_cylinder(40)))
    scaled = replace(
        radiograph, intensity=radiograph.intensity * 7, response=replace(radiograph.response, intensity=np.arange(65536.0) * 7)
    )
    for air in (None, 50000.0):
        np.testing.assert_allclose(attenuation(scaled, air).attenuation, attenuation(radiograph, air).attenuation, atol=1e-5)
