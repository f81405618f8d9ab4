"""Where screws, wires and tools lie in a simulated X-ray: in or near bone, or in the field, by chance."""

from __future__ import annotations

import numpy as np

from IntraopReconLib.core.simulation_config import InstrumentRanges
from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.grid import VoxelGrid

from .instruments import (
    ROD_ABOVE_MM,
    STEEL_PER_MM,
    TITANIUM_PER_MM,
    at,
    clamp,
    hip_prosthesis,
    hip_screw,
    k_wire,
    lead,
    pedicle_screw,
    plate,
    retractor,
    rod,
)
from .simulate_beads import BONE_PER_MM
from .solids import Solids, join

LEVEL_MM = (30.0, 38.0)  # between the vertebrae
PEDICLE_MM = (11.0, 17.0)  # from the midline, where the screws enter
CONVERGE_RAD = (0.05, 0.35)
LEAD_STEPS = 60


def bone_points_lps_mm(bone_per_mm: np.ndarray, grid: VoxelGrid, center_lps_mm: np.ndarray, reach_mm: float) -> np.ndarray:
    """Return the voxels of bone near the isocenter, [N, 3]; the isocenter itself where there are none.

    Args:
        bone_per_mm: Attenuation of bone per mm, [k, j, i].
        grid: Where the voxels lie; aligned with LPS.
        center_lps_mm: Isocenter, [3].
        reach_mm: How far around it.
    """
    low = np.clip((center_lps_mm - reach_mm - grid.origin_lps_mm) / grid.spacing_mm, 0, None).astype(int)
    high = np.clip((center_lps_mm + reach_mm - grid.origin_lps_mm) / grid.spacing_mm + 1, 0, None).astype(int)
    k, j, i = np.nonzero(bone_per_mm[low[2] : high[2], low[1] : high[1], low[0] : high[0]] > BONE_PER_MM)
    points = grid.origin_lps_mm + grid.spacing_mm * (np.stack([i, j, k], 1) + low)
    near = points[np.linalg.norm(points - center_lps_mm, axis=1) <= reach_mm]
    return near if len(near) else np.asarray(center_lps_mm, float)[None]


def random_instruments(bone_points: np.ndarray, center_lps_mm: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    """Draw the metal in the beam.

    Args:
        bone_points: Places in bone, LPS mm, [N, 3]; see `bone_points_lps_mm`.
        center_lps_mm: Isocenter, [3].
        ranges: Chances and sizes.
        rng: Source of kinds, places and sizes.

    Returns:
        All solids, often none.

    Raises:
        ValueError: `bone_points` is empty or not [N, 3].
    """
    points = check_array("bone_points", bone_points, (None, 3))
    if not len(points):
        raise ValueError("bone_points: expected at least one point, got none.")
    center = check_array("center_lps_mm", center_lps_mm, (3,))
    parts = []
    for name, draw in KINDS.items():
        if rng.random() < getattr(ranges, name):
            parts.append(draw(points[rng.integers(len(points))], center, ranges, rng))
    return join(*parts)


def _pedicle_screws(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    """Pairs of screws from behind that converge, joined by a rod on each side."""
    levels, gap = rng.integers(ranges.levels[0], ranges.levels[1] + 1), rng.uniform(*LEVEL_MM)
    length, diameter = rng.uniform(*ranges.screw_mm), rng.uniform(*ranges.screw_diameter_mm)
    parts = []
    for side in (1, -1):
        heads = []
        for level in range(levels):
            entry = anchor + [side * rng.uniform(*PEDICLE_MM), 0.6 * length, (level - (levels - 1) / 2) * gap] + rng.normal(0, 1, 3)
            converge, cranial = rng.uniform(*CONVERGE_RAD), rng.normal(0, 0.08)
            axis = np.array([-side * np.sin(converge), -np.cos(converge), np.sin(cranial)])
            parts.append(at(pedicle_screw(length, diameter), entry, axis, (1, 0, 0)))
            heads.append(entry - ROD_ABOVE_MM * axis / np.linalg.norm(axis))
        if levels > 1:
            parts.append(rod(np.stack(heads)))
    return join(*parts)


def _k_wires(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    """Wires whose tips end near each other, from about one direction."""
    main, per_mm = _direction(rng), _metal(ranges, rng)
    parts = []
    for _ in range(rng.integers(ranges.wires[0], ranges.wires[1] + 1)):
        length, diameter = rng.uniform(*ranges.wire_mm), rng.uniform(*ranges.wire_diameter_mm)
        wire = k_wire(length, diameter, rng.uniform(*ranges.wire_sag_mm) * length / ranges.wire_mm[1], per_mm)
        parts.append(at(wire, anchor + rng.normal(0, 8, 3), main + rng.normal(0, 0.25, 3), _direction(rng)))
    return join(*parts)


def _plate(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    holes = int(rng.integers(ranges.plate_holes[0], ranges.plate_holes[1] + 1))
    built = plate(holes, rng.random(holes) < 0.6, rng.uniform(14, 36), _metal(ranges, rng))
    return at(built, anchor, _direction(rng), _direction(rng))


def _hip_screw(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    """The tip of the lag screw in bone, the shaft of the femur below and beside it."""
    side, length = rng.choice([-1.0, 1.0]), rng.uniform(75, 105)
    axis = np.array([side * 0.7, rng.normal(0, 0.15), 0.7])
    axis /= np.linalg.norm(axis)
    return at(hip_screw(length, int(rng.integers(3, 6)), _metal(ranges, rng)), anchor - length * axis, axis, (0.05, -side, 0.1))


def _prosthesis(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    side = rng.choice([-1.0, 1.0])
    built = hip_prosthesis(rng.uniform(90, 150), rng.uniform(14, 18), _metal(ranges, rng))
    return at(built, anchor, np.array([0.1 * side, 0.0, -1.0]) + rng.normal(0, 0.08, 3), (side, 0, 0))


def _clamp(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    inwards = -_outwards(rng)
    tip = anchor - rng.uniform(*ranges.stand_off_mm) * inwards
    return at(clamp(rng.uniform(120, 200), rng.uniform(0.05, 0.5)), tip, inwards, _direction(rng))


def _retractor(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    inwards = -_outwards(rng)
    tip = anchor - rng.uniform(*ranges.stand_off_mm) * inwards + rng.normal(0, 15, 3)
    return at(retractor(rng.uniform(15, 35), rng.uniform(40, 80)), tip, inwards, _direction(rng))


def _leads(anchor: np.ndarray, center: np.ndarray, ranges: InstrumentRanges, rng: np.random.Generator) -> Solids:
    """Cables of an ECG, each a smooth curve on the skin in front or behind, from beyond the field to an electrode near it."""
    parts = []
    depth = rng.uniform(*ranges.body_mm) * rng.choice([-1.0, 1.0])
    for _ in range(rng.integers(1, 4)):
        share = np.linspace(0, 1, LEAD_STEPS)
        start, end = rng.uniform(-1, 1, 2) * 60 + [0, 260 * rng.choice([-1.0, 1.0])], rng.uniform(-90, 90, 2)
        waves = sum(rng.normal(0, 22 / n, 2) * np.sin(np.pi * n * share[:, None]) for n in (1, 2, 3, 4))
        x, z = (start + share[:, None] * (end - start) + waves).T
        y = depth * np.sqrt(np.clip(1 - (x / 220) ** 2, 0.1, 1))
        parts.append(lead(center + np.stack([x, y, z], 1)))
    return join(*parts)


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _outwards(rng: np.random.Generator) -> np.ndarray:
    """Return the direction that a surgeon stands in: from the side or above, not from the head."""
    vector = rng.normal(size=3) * [1.0, 1.0, 0.5]
    return vector / np.linalg.norm(vector)


def _metal(ranges: InstrumentRanges, rng: np.random.Generator) -> float:
    return STEEL_PER_MM if rng.random() < ranges.steel else TITANIUM_PER_MM


KINDS = {
    "pedicle_screws": _pedicle_screws,
    "hip_screw": _hip_screw,
    "prosthesis": _prosthesis,
    "k_wires": _k_wires,
    "plate": _plate,
    "clamp": _clamp,
    "retractor": _retractor,
    "leads": _leads,
}
