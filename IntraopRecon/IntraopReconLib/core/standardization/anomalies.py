"""What healthy anatomy does not show, drawn into training pairs: lesions, fracture lines, screws, wires, cement.

A network that only ever saw healthy anatomy erases what is not. Here every pair has things of random shape, size and density, so that it
learns to let pass what it does not know. They are drawn as what they change in the line integrals, in the plane of the detector: an
ellipsoid's chords, a tube's chords, a gap in bone. Tests and benchmarks insert theirs in the volume instead, none of which was trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

SOFT_PER_MM = 0.021
BONE_PER_MM = (0.023, 0.045)  # at 60 keV, of 120 to 1200 HU
MAGNIFICATION = 1.6  # from the patient to the detector, about
TITANIUM_PER_MM, STEEL_PER_MM = 0.345, 0.94


def draw_anomalies(integrals: np.ndarray, pixel_mm: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Put anomalies into the line integrals of a view.

    Args:
        integrals: Of soft tissue, bone and metal at 60 keV, [material, row, column].
        pixel_mm: Pitch at the detector.
        count: How many.
        rng: Source of their kind, place and form.

    Returns:
        The line integrals with them, none negative, float32 [material, row, column].
    """
    changed = integrals.astype(np.float32, copy=True)
    weights = np.sqrt(changed[1].ravel() + 0.0004 * changed[1].max() + 1e-6)  # mostly on bone, thin bone too
    places = rng.choice(weights.size, count, p=weights / weights.sum())
    kinds = rng.choice(len(_KINDS), count, p=[share for _, share in _KINDS])
    for place, kind in zip(places, kinds, strict=True):
        _KINDS[kind][0](changed, divmod(int(place), changed.shape[2]), pixel_mm, rng)
    return np.maximum(changed, 0, out=changed)


def draw_organs(integrals: np.ndarray, pixel_mm: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Put soft tissue and gas where a few patients do not have them: bowel, fat, organs are all background.

    Args:
        integrals: As in `draw_anomalies`.
        pixel_mm: Pitch at the detector.
        count: How many.
        rng: Source of their place and form.

    Returns:
        The line integrals with them, none negative, float32 [material, row, column].
    """
    changed = integrals.astype(np.float32, copy=True)
    for _ in range(count):
        at = int(rng.integers(changed.shape[1])), int(rng.integers(changed.shape[2]))
        is_gas = rng.random() < 0.4
        chord_mm = _ellipsoid(changed.shape[1:], at, pixel_mm, rng, (3.0, 18.0) if is_gas else (10.0, 60.0))
        contrast = -1.0 if is_gas else rng.uniform(0.03, 0.15) * rng.choice([-1, 1])  # organs and fat differ by up to 150 HU
        changed[0] = np.maximum(changed[0] + SOFT_PER_MM * contrast * chord_mm, 0.3 * changed[0])
    return np.maximum(changed, 0, out=changed)


def _lytic(integrals: np.ndarray, at: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> None:
    """Bone gives way to soft tissue within an ellipsoid, up to all that the ray meets of it."""
    chord_mm = _ellipsoid(integrals.shape[1:], at, pixel_mm, rng, (2.0, 14.0))
    lost = np.minimum(chord_mm * rng.uniform(0.006, 0.04), rng.uniform(0.5, 0.98) * integrals[1])
    integrals[1] -= lost
    integrals[0] += lost * _soft_per_bone(rng)


def _sclerotic(integrals: np.ndarray, at: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> None:
    """An ellipsoid of dense bone or cement."""
    chord_mm = _ellipsoid(integrals.shape[1:], at, pixel_mm, rng, (1.5, 14.0))
    gained = chord_mm * rng.uniform(0.008, 0.07)
    integrals[1] += gained
    integrals[0] -= np.minimum(SOFT_PER_MM * chord_mm, gained) * rng.uniform(0.3, 0.9)  # which it displaces


def _texture(integrals: np.ndarray, at: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> None:
    """A patch of random bone, more and less than there was: no known disease, and it is to pass all the same."""
    patch = _ellipsoid(integrals.shape[1:], at, pixel_mm, rng, (6.0, 25.0))
    noise = gaussian_filter(rng.standard_normal(patch.shape), rng.uniform(0.6, 5.0) / pixel_mm)
    noise *= rng.uniform(0.05, 0.4) / max(float(noise.std()), 1e-9)
    before = integrals[1].copy()
    integrals[1] = np.maximum(before + noise * patch / max(float(patch.max()), 1e-9), 0)
    integrals[0] -= rng.uniform(0.2, 0.7) * (integrals[1] - before)


def _fracture(integrals: np.ndarray, at: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> None:
    """A wavy gap in the bone, with a step beside it now and then, where the fragments overlap."""
    along, across = _line_coordinates(integrals.shape[1:], at, pixel_mm, rng)
    half_length = rng.uniform(8.0, 50.0)
    across = across + rng.uniform(0, 3) * np.sin(along / rng.uniform(2.0, 10.0) + rng.uniform(0, 6.28))
    within = np.clip((half_length - np.abs(along)) / 3.0 + 0.5, 0, 1)
    width = rng.uniform(0.5, 3.0)
    gap = np.exp(-0.5 * (across / width) ** 2) * within
    lost = rng.uniform(0.15, 0.95) * gap * integrals[1]
    integrals[1] -= lost
    integrals[0] += lost * _soft_per_bone(rng)
    if rng.random() < 0.4:
        overlap = np.exp(-0.5 * ((across - rng.uniform(2, 6)) / rng.uniform(0.8, 3)) ** 2) * within
        integrals[1] += rng.uniform(0.1, 0.6) * overlap * integrals[1]


def _metal(integrals: np.ndarray, at: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> None:
    """A wire, a rod or a threaded screw, straight or bent, with a head now and then."""
    along, across = _line_coordinates(integrals.shape[1:], at, pixel_mm, rng)
    half_length, radius = rng.uniform(6.0, 60.0), float(np.exp(rng.uniform(np.log(0.5), np.log(5.5))))
    across = across + rng.uniform(-1, 1) * 0.004 * along**2
    profile = np.full_like(along, radius)
    if rng.random() < 0.6:  # a thread
        profile *= 1 - rng.uniform(0.05, 0.35) * (0.5 + 0.5 * np.sin(along * 2 * np.pi / rng.uniform(2.0, 6.0)))
    if rng.random() < 0.5:
        profile = np.where(np.abs(along - half_length) < rng.uniform(3, 9), radius * rng.uniform(1.2, 2.2), profile)
    foreshortened = rng.uniform(1.0, 2.0)
    chord_mm = 2 * np.sqrt(np.maximum(profile**2 - across**2, 0)) * (np.abs(along) < half_length) / MAGNIFICATION
    chord_mm = gaussian_filter(chord_mm, 0.3 / pixel_mm)  # a pixel has an area
    integrals[2] += foreshortened * chord_mm * rng.choice([TITANIUM_PER_MM, TITANIUM_PER_MM, rng.uniform(0.1, STEEL_PER_MM)])


_KINDS: list[tuple[Callable[..., None], float]] = [(_lytic, 0.24), (_sclerotic, 0.16), (_texture, 0.15), (_fracture, 0.25), (_metal, 0.2)]


def _soft_per_bone(rng: np.random.Generator) -> float:
    """Return the attenuation of the soft tissue that takes the place of bone, relative to that of the bone: cancellous to cortical."""
    return SOFT_PER_MM / rng.uniform(*BONE_PER_MM)


def _ellipsoid(
    shape: tuple[int, ...], at: tuple[int, int], pixel_mm: float, rng: np.random.Generator, radius_mm: tuple[float, float]
) -> np.ndarray:
    """Return the chords of an ellipsoid with the given range of half axes in the patient, in mm of the patient."""
    low, high = np.log(radius_mm)
    first, second, depth = np.exp(rng.uniform(low, high, 3))
    along, across = _line_coordinates(shape, at, pixel_mm, rng)
    lobes = 1 + rng.uniform(0, 0.3) * np.sin(rng.integers(2, 6) * np.arctan2(across, along) + rng.uniform(0, 6.28))
    inside = 1 - ((along / first) ** 2 + (across / second) ** 2) / (MAGNIFICATION * lobes) ** 2
    return (2 * depth * np.sqrt(np.maximum(inside, 0))).astype(np.float32)


def _line_coordinates(
    shape: tuple[int, ...], at: tuple[int, int], pixel_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return every pixel's place along and across a line of random direction through a pixel, in mm of the detector."""
    angle = rng.uniform(0, np.pi)
    down = (np.arange(shape[0], dtype=np.float32) - at[0])[:, None] * np.float32(pixel_mm)
    right = (np.arange(shape[1], dtype=np.float32) - at[1]) * np.float32(pixel_mm)
    return down * np.float32(np.sin(angle)) + right * np.float32(np.cos(angle)), down * np.float32(np.cos(angle)) - right * np.float32(
        np.sin(angle)
    )
