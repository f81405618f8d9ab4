"""Total-variation denoising: the objective goes down to what the closed form and a long run say, and nothing becomes negative."""

from __future__ import annotations

from itertools import pairwise

import numba
import numpy as np
import pytest

from IntraopReconLib.core.voxels.total_variation import denoise


@pytest.fixture(autouse=True)
def one_thread():
    """Keep threads from waiting for each other hundreds of times over volumes this small."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


def total_variation(volume: np.ndarray) -> float:
    """Return the isotropic total variation by forward differences, none across the far borders."""
    volume = volume.astype(np.float64)
    differences = [np.diff(volume, axis=axis, append=np.take(volume, [-1], axis=axis)) for axis in range(3)]
    return float(np.sqrt(np.sum(np.square(differences), axis=0)).sum())


def objective(volume: np.ndarray, noisy: np.ndarray, weight: float) -> float:
    return 0.5 * float(((volume - noisy.astype(np.float64)) ** 2).sum()) + weight * total_variation(volume)


def denoised(noisy: np.ndarray, weight: float, iterations: int) -> np.ndarray:
    volume = noisy.copy()
    denoise(volume, weight, np.zeros((3, *noisy.shape), np.float32), iterations)
    return volume


def noisy_block(seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    volume = np.zeros((11, 14, 17), np.float32)
    volume[3:8, 4:10, 5:13] = 1.0
    return volume + rng.normal(0, 0.2, volume.shape).astype(np.float32)


def test_the_objective_goes_down_and_settles():
    noisy = np.maximum(noisy_block(), 0)
    values = [objective(denoised(noisy, 0.15, n), noisy, 0.15) for n in (1, 5, 20, 80, 300)]
    assert objective(noisy, noisy, 0.15) > values[0]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-2] - values[-1] < 0.01 * values[-1]


def test_nothing_near_the_limit_is_better():
    noisy = np.maximum(noisy_block(1), 0)
    best = denoised(noisy, 0.15, 600)
    value = objective(best, noisy, 0.15)
    rng = np.random.default_rng(2)
    for size in (0.003, 0.03, 0.3):
        for _ in range(10):
            other = np.maximum(best + rng.normal(0, size, best.shape), 0)
            assert objective(other, noisy, 0.15) > value


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_step_shrinks_by_the_closed_form(axis):
    """A step of height h over n + m planes: its sides move towards each other by weight / n and weight / m."""
    profile = np.array([0.2] * 6 + [1.0] * 4, np.float32)
    noisy = np.ascontiguousarray(np.moveaxis(np.broadcast_to(profile, (5, 7, 10)), 2, axis))
    expected = np.moveaxis(np.broadcast_to([0.2 + 0.3 / 6] * 6 + [1.0 - 0.3 / 4] * 4, (5, 7, 10)), 2, axis)
    np.testing.assert_allclose(denoised(noisy, 0.3, 600), expected, atol=2e-3)


def test_much_weight_leaves_the_mean():
    noisy = np.random.default_rng(3).random((6, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(denoised(noisy, 30.0, 1000), noisy.mean(), atol=5e-3)


@pytest.mark.parametrize("weight", [0.0, 0.1, 10.0])
def test_a_constant_volume_is_left_alone(weight):
    noisy = np.full((5, 6, 7), 0.7, np.float32)
    np.testing.assert_allclose(denoised(noisy, weight, 20), 0.7, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_nothing_is_negative(weight):
    noisy = noisy_block() - 0.3
    assert noisy.min() < -0.5
    assert denoised(noisy, weight, 10).min() >= 0


def test_it_goes_on_from_where_the_last_call_ended():
    noisy = np.maximum(noisy_block(4), 0)
    dual = np.zeros((3, *noisy.shape), np.float32)
    for _ in range(20):
        volume = noisy.copy()
        denoise(volume, 0.15, dual, 5)
    np.testing.assert_allclose(volume, denoised(noisy, 0.15, 100), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 6, 7), (6, 1, 7), (6, 7, 1), (1, 1, 1)])
def test_thin_volumes_are_denoised_too(shape):
    noisy = np.random.default_rng(5).random(shape).astype(np.float32)
    result = denoised(noisy, 0.2, 50)
    assert np.isfinite(result).all()
    assert objective(result, noisy, 0.2) <= objective(noisy, noisy, 0.2)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba was started with one thread")
def test_neither_repeating_nor_threads_change_a_bit():
    results = []
    for count in (1, 2, 2):
        numba.set_num_threads(count)
        results.append(denoised(noisy_block(6), 0.1, 10))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
