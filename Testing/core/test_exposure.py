"""An exposure: noise as photons make it, scatter and glare that fill shadows, blur that keeps the signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from IntraopReconLib.core.simulation_config import ExposureRanges
from IntraopReconLib.core.xrays.exposure import Exposure, draw_exposure, expose
from IntraopReconLib.core.xrays.spectrum import transmission, tube_spectrum

IDEAL = Exposure(80.0, 0.1, 1e9, 0.0, 40.0, 0.0, 0.0, 0.0, 0.0)


def slab(soft: float, size: int = 64) -> np.ndarray:
    integrals = np.zeros((3, size, size), np.float32)
    integrals[0] = soft
    return integrals


def test_without_disturbances_it_is_the_transmission():
    integrals = slab(3.0)
    integrals[1, 20:40, 20:40] = 1.0
    signal = expose(integrals, 0.7, IDEAL, np.random.default_rng(0))
    np.testing.assert_allclose(signal, transmission(integrals, tube_spectrum(80.0, 0.1)), rtol=2e-3)


def test_the_noise_is_that_of_the_photons():
    signal = expose(slab(3.0, 200), 0.7, replace(IDEAL, photons=400.0), np.random.default_rng(0))
    assert signal.std() / signal.mean() == pytest.approx(400**-0.5, rel=0.05)


def test_electronics_add_to_it():
    signal = expose(slab(3.0, 200), 0.7, replace(IDEAL, photons=400.0, electronic_photons=15.0), np.random.default_rng(0))
    assert signal.std() / signal.mean() == pytest.approx(np.hypot(20, 15) / 400, rel=0.05)


@pytest.mark.parametrize("disturbance", [{"scatter": 0.15}, {"glare": 0.1}])
def test_scatter_and_glare_fill_a_shadow(disturbance):
    integrals = slab(2.0, 128)
    integrals[2, 60:68, 60:68] = 6.0
    rng = np.random.default_rng(0)
    clear = expose(integrals, 0.7, IDEAL, rng)[64, 64]
    assert expose(integrals, 0.7, replace(IDEAL, **disturbance), rng)[64, 64] > 3 * clear


def test_scatter_is_a_share_of_the_primary_by_attenuation():
    rng = np.random.default_rng(0)
    primary = expose(slab(4.0), 0.7, IDEAL, rng).mean()
    total = expose(slab(4.0), 0.7, replace(IDEAL, scatter=0.1), rng).mean()
    assert (total - primary) / primary == pytest.approx(0.1 * -np.log(primary), rel=0.01)


def test_two_xrays_of_one_seed_differ_only_where_the_patient_does():
    exposure = replace(IDEAL, photons=300.0)
    changed = slab(3.0)
    changed[1, 10, 10] = 0.5
    first, second = (expose(each, 0.7, exposure, np.random.default_rng(7)) for each in (slab(3.0), changed))
    differing = np.argwhere(np.abs(first - second) > 1e-5 * first.mean())
    assert differing.tolist() == [[10, 10]]


def test_draws_stay_in_their_ranges_and_repeat():
    ranges = ExposureRanges()
    first, again = (draw_exposure(ranges, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    for name, value in vars(first).items():
        low, high = getattr(ranges, name)
        assert low <= value <= high
