"""What the realism benchmark measures: known noise, edges, veil and fields are found again."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr
from Testing.benchmarks import realism
from Testing.benchmarks.image_statistics import QUANTILES, open_field, statistics

SIZE, PIXEL_MM = 512, 0.2
RADIUS = 250.0


def radius_px() -> np.ndarray:
    return np.hypot(*(np.indices((SIZE, SIZE)) - (SIZE - 1) / 2))


def image(noise: float = 0.01, blur_px: float = 0.0, edge_px: float = 2.0, veil: float = 0.05, seed: int = 0) -> np.ndarray:
    """Return a bright field with a dark bar, closed by a square iris whose corners hold a veil, in a round detector, [row, column]."""
    rng = np.random.default_rng(seed)
    column = np.arange(SIZE) - 260.3
    flat = 1000 * (1 - 0.6 * ndtr(column / edge_px) * ndtr((60 - column) / edge_px)) * np.ones((SIZE, 1))
    grain = rng.normal(0, 1, flat.shape)
    if blur_px:
        grain = gaussian_filter(grain, blur_px)
        grain /= grain.std()
    row, at = np.indices(flat.shape) - (SIZE - 1) / 2
    opened = np.maximum(np.abs(row), np.abs(at)) < 215
    flat = np.where(opened, flat * (1 + noise * grain), veil * 1000)
    return np.where(radius_px() <= RADIUS, flat, 0).astype(np.float32)


def test_the_field_is_what_iris_and_detector_leave_open():
    found = open_field(image(), RADIUS)
    expected = (np.abs(np.indices(found.shape) - (SIZE - 1) / 2).max(0) < 215) & (radius_px() <= RADIUS)
    assert (found != expected).mean() < 0.03


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_noise_is_found_and_is_white_if_it_is(noise):
    found = statistics(image(noise), PIXEL_MM, RADIUS, open_field(image(noise), RADIUS))
    assert found.noise == pytest.approx(noise, rel=0.05)
    np.testing.assert_allclose(found.noise_shares, [0.05, 0.19, 0.76], atol=0.03)


def test_blurred_noise_has_its_power_at_low_frequencies():
    blurred = image(blur_px=1.5)
    shares = statistics(blurred, PIXEL_MM, RADIUS, open_field(blurred, RADIUS)).noise_shares
    assert shares[0] > 0.5 and shares[2] < 0.06 and sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("edge_px", [1.5, 3.0])
def test_width_of_edges(edge_px):
    clean = image(noise=1e-4, edge_px=edge_px)
    found = statistics(clean, PIXEL_MM, RADIUS, open_field(clean, RADIUS)).edge_mm
    expected = 2.563 * np.hypot(edge_px, 0.7) * PIXEL_MM
    assert found == pytest.approx(expected, rel=0.15)  # of the logarithm, which is a little steeper at its dark end


def test_veil_and_grays():
    found = statistics(image(veil=0.08), PIXEL_MM, RADIUS, open_field(image(veil=0.08), RADIUS))
    assert found.veil == pytest.approx(0.08, rel=0.03)
    assert set(found.grays) == set(QUANTILES)
    assert found.grays[5] == pytest.approx(0.4 / 1.02, rel=0.05) and found.grays[95] == pytest.approx(1, abs=0.03)
    assert np.isnan(statistics(image(), PIXEL_MM, None, open_field(image(), None)).veil)


def test_the_picture_that_ships_is_small_and_of_simulated_xrays_only():
    assert realism.PICTURE.stat().st_size < 400_000
    with Image.open(realism.PICTURE) as picture:
        assert picture.mode == "L" and picture.size[0] == 3 * realism.TILE_PX + 8
        assert picture.size[1] == 2 * realism.TILE_PX + 4  # of the six shots, and no more


def test_without_cts_nothing_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["realism", "--data", str(tmp_path)])
    assert realism.main() == 2
    assert "There are no CTs" in capsys.readouterr().err
