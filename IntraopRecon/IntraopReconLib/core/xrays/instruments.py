"""Metal of the operating room: screws, wires, plates, tools, a prosthesis and leads, put together from exact solids.

Each is built about its own origin in mm and moved to its place. Sizes are those of common implants (ISO 5835 screws, 6 to 7 mm pedicle
screws with 5.5 mm rods, 1.2 to 2.5 mm wires). Where metal displaces bone the bone still counts, a tenth of the metal and less.
"""

from __future__ import annotations

import numpy as np

from SparseAnatomyLib.frames import affine

from .solids import Solids, ball, block, cylinder, join, pose, tapered, wire

TITANIUM_PER_MM = 0.345  # 4.5 g/cm³ × 0.766 cm²/g at 60 keV; NIST XCOM
STEEL_PER_MM = 0.94  # 7.8 g/cm³ × 1.205 cm²/g
COPPER_PER_MM = 1.43  # 8.96 g/cm³ × 1.593 cm²/g
CARBON_PER_MM = 0.028  # skins of a table, 1.6 g/cm³ × 0.175 cm²/g
FOAM_PER_MM = 0.001
TIP_STEPS = 4
ARC_STEPS = 16
X, Y, Z = np.eye(3)


def screw(length_mm: float, diameter_mm: float, per_mm: float, pitch_mm: float = 2.0, depth_share: float = 0.28) -> Solids:
    """Return the thread of a screw, its tip at z = length and its other end at the origin.

    The thread is a stack of half discs, wide and narrow in turn, those on one side half a pitch beyond those on the other: a silhouette
    whose teeth stand staggered as those of a helix do.

    Args:
        length_mm: Of thread and tip.
        diameter_mm: Over the crests.
        per_mm: Attenuation per mm.
        pitch_mm: From crest to crest.
        depth_share: Of the thread, as share of the diameter on each side.
    """
    crest, core, tip = diameter_mm / 2, diameter_mm * (0.5 - depth_share / 2), min(1.2 * diameter_mm, 6.0)
    count = max(2, round(length_mm / (pitch_mm / 4)))
    step = length_mm / count
    parts = []
    for n in range(count):
        start, end = n * step * Z, (n + 1) * step * Z
        narrower = np.clip((length_mm - (n + 0.5) * step) / tip, 0.12, 1.0)
        for side, shift in ((1, 0), (-1, 2)):
            height = (0.0, 0.6, 1.0, 0.6)[(n + shift) % 4]
            radius = (core + (crest - core) * height) * narrower
            parts.append(cylinder(start, end, radius, per_mm, [(side * X, 0.0)]))
    return join(*parts)


def pedicle_screw(length_mm: float, diameter_mm: float, per_mm: float = TITANIUM_PER_MM) -> Solids:
    """Return a screw along z with the tulip that holds a rod: the head's base at the origin, the rod along y at z = -7 mm."""
    base = cylinder(-4 * Z, 0 * Z, 5.0, per_mm)
    arms = [cylinder(-15 * Z, -4 * Z, 6.5, per_mm, [(-side * X, -3.0)]) for side in (1, -1)]
    set_screw = cylinder(-14 * Z, -10 * Z, 4.0, per_mm, [(X, 3.0), (-X, 3.0)])
    return join(screw(length_mm, diameter_mm, per_mm, pitch_mm=2.6), base, *arms, set_screw)


ROD_ABOVE_MM, ROD_RADIUS_MM = 7.0, 2.75


def rod(points_mm: np.ndarray, per_mm: float = TITANIUM_PER_MM, beyond_mm: float = 9.0) -> Solids:
    """Return the rod that joins the heads of pedicle screws, [P, 3], and ends a little beyond the outer ones."""
    points = np.asarray(points_mm, float)
    first, last = points[0] - points[1], points[-1] - points[-2]
    ends = points[0] + beyond_mm * first / np.linalg.norm(first), points[-1] + beyond_mm * last / np.linalg.norm(last)
    return wire(np.stack([ends[0], *points, ends[1]]), ROD_RADIUS_MM, per_mm)


def k_wire(length_mm: float, diameter_mm: float, sag_mm: float = 0.0, per_mm: float = STEEL_PER_MM) -> Solids:
    """Return a wire along z with a trocar tip at the origin, bent to an arc that leaves its chord by `sag_mm`."""
    radius, tip = diameter_mm / 2, 1.5 * diameter_mm
    share = np.linspace(0, 1, ARC_STEPS + 1)
    bend = 4 * sag_mm * share * (1 - share)
    points = np.stack([bend, np.zeros_like(share), -tip - (length_mm - tip) * share], 1)
    steps = [
        cylinder(-tip * (n + 1) / TIP_STEPS * Z, -tip * n / TIP_STEPS * Z, radius * (n + 0.7) / TIP_STEPS, per_mm) for n in range(TIP_STEPS)
    ]
    return join(wire(points, radius, per_mm), *steps)


def plate(holes: int, screws: np.ndarray, screw_mm: float, per_mm: float = STEEL_PER_MM) -> Solids:
    """Return a plate along y with holes; screws go through some of them along z, into the bone behind the plate.

    Args:
        holes: Number of holes, 13 mm apart.
        screws: Which holes hold a screw, bool [holes].
        screw_mm: Length of the screws.
        per_mm: Attenuation per mm.
    """
    half_width, half_thickness, gap = 5.75, 1.9, 13.0
    parts = [block(np.zeros(3), [half_width, gap * holes / 2 + 3, half_thickness], per_mm)]
    for place, filled in zip(gap * (np.arange(holes) - (holes - 1) / 2), screws, strict=True):
        middle = place * Y
        parts.append(cylinder(middle - half_thickness * Z, middle + half_thickness * Z, 2.6, -per_mm))
        if filled:
            thread = screw(screw_mm, 3.5, per_mm, pitch_mm=1.25).moved(affine(np.eye(3), middle - half_thickness * Z))
            head = cylinder(middle - (half_thickness + 2.4) * Z, middle - half_thickness * Z, 3.5, per_mm)
            parts.extend([thread, head])
    return join(*parts)


def hip_screw(lag_mm: float, holes: int, per_mm: float = STEEL_PER_MM) -> Solids:
    """Return a sliding hip screw: the lag screw from the origin along z to its tip, the plate of 135 degrees along the shaft."""
    thread_mm, barrel_mm, bore = 22.0, 38.0, 1.6
    thread = screw(thread_mm, 12.5, per_mm, pitch_mm=3.0, depth_share=0.3).moved(affine(np.eye(3), (lag_mm - thread_mm) * Z))
    shaft = cylinder(2 * Z, (lag_mm - thread_mm) * Z, 4.0, per_mm)
    canal = cylinder(2 * Z, (lag_mm - thread_mm) * Z, bore, -per_mm)
    barrel = join(cylinder(0 * Z, barrel_mm * Z, 6.3, per_mm), cylinder(0 * Z, barrel_mm * Z, 4.1, -per_mm))
    side = plate(holes, np.ones(holes, bool), 38.0, per_mm)
    down, inwards = np.array([0.0, 1.0, -1.0]) / np.sqrt(2), np.array([0.0, 1.0, 1.0]) / np.sqrt(2)
    side = side.moved(affine(np.stack([np.cross(down, inwards), down, inwards], 1), (13.0 * holes / 2 + 8) * down - 4.0 * inwards))
    return join(thread, shaft, canal, barrel, side)


def hip_prosthesis(stem_mm: float, head_radius_mm: float, per_mm: float = TITANIUM_PER_MM) -> Solids:
    """Return a total hip: the center of the head at the origin, the stem along z, the neck at 135 degrees, the cup around the head."""
    towards_stem = np.array([np.sin(np.pi / 4), 0.0, np.cos(np.pi / 4)])
    shoulder = 36.0 * towards_stem
    neck = cylinder((head_radius_mm - 2) * towards_stem, shoulder, 6.0, per_mm)
    stem = tapered(shoulder - 6 * Z, np.array([13.0, 7.0]), np.array([4.0, 3.5]), stem_mm, per_mm)
    opening = _unit(towards_stem - 0.3 * Z)
    cup = join(ball(np.zeros(3), head_radius_mm + 9, per_mm, cut=opening), ball(np.zeros(3), head_radius_mm + 5, -per_mm, cut=opening))
    return join(ball(np.zeros(3), head_radius_mm, per_mm), neck, stem, cup)


def clamp(length_mm: float, open_rad: float, per_mm: float = STEEL_PER_MM) -> Solids:
    """Return a forceps, the tips of its jaws near the origin, its rings at z = -length."""
    lock, jaw = -0.28 * length_mm, 0.28 * length_mm
    share = np.linspace(0, 1, ARC_STEPS + 1)
    turn = np.linspace(0, 2 * np.pi, 2 * ARC_STEPS + 1)
    parts = [cylinder(lock * Z - 3 * Y, lock * Z + 3 * Y, 4.5, per_mm)]
    for side in (1, -1):
        sine, cosine = np.sin(side * open_rad / 2), np.cos(open_rad / 2)
        reach = length_mm + lock - 11
        bow, flat = side * 2.0 * np.sin(np.pi * share), np.zeros_like(share)
        grip = np.stack([bow + sine * jaw * share, flat, lock + cosine * jaw * share], 1)
        shank = np.stack([-sine * reach * share - side * 4 * share**2, flat + side * 1.2, lock - 5 - cosine * reach * share], 1)
        middle = shank[-1] + 11 * np.array([-side * 0.6, 0.0, -0.8])
        ring = middle + 11 * np.stack([np.cos(turn), np.zeros_like(turn), np.sin(turn)], 1)
        parts += [wire(grip, 2.0, per_mm), wire(shank, 2.2, per_mm), wire(ring, 2.0, per_mm)]
    return join(*parts)


def retractor(width_mm: float, depth_mm: float, per_mm: float = STEEL_PER_MM) -> Solids:
    """Return a bent blade: its edge at the origin, the blade along z, the handle along x."""
    thick = 0.75
    blade = block(-depth_mm / 2 * Z, [thick, width_mm / 2, depth_mm / 2], per_mm)
    lip = block(-thick * Z - 3 * X, [3 - thick, width_mm / 2, thick], per_mm)
    handle = block(-(depth_mm + thick) * Z + 70 * X, [70 + thick, min(width_mm, 14.0) / 2, thick], per_mm)
    return join(blade, lip, handle)


def lead(points_mm: np.ndarray, per_mm: float = COPPER_PER_MM) -> Solids:
    """Return a cable through points, [P, 3], that ends in the snap of an electrode which faces its last piece sideways."""
    points = np.asarray(points_mm, float)
    normal = _unit(np.cross(points[-1] - points[-2], points[-2] - points[0] + 0.1 * X + 0.2 * Y))
    snap = cylinder(points[-1] - 0.5 * normal, points[-1] + 0.5 * normal, 5.0, STEEL_PER_MM)
    stud = cylinder(points[-1] + 0.5 * normal, points[-1] + 3.0 * normal, 2.0, STEEL_PER_MM)
    return join(wire(points, 0.45, per_mm), snap, stud)


def table_top(center_mm: np.ndarray, half_width_mm: float, half_length_mm: float, thick_mm: float = 40.0) -> Solids:
    """Return the carbon top of an operating table, the middle of its upper face at `center_mm`; the patient lies on it (posterior is +y).

    It is no metal: its attenuation belongs to soft tissue.
    """
    skin = 1.8
    middle = np.asarray(center_mm, float)
    faces = [block(middle + y * Y, [half_width_mm, skin / 2, half_length_mm], CARBON_PER_MM) for y in (skin / 2, thick_mm - skin / 2)]
    core = block(middle + thick_mm / 2 * Y, [half_width_mm, thick_mm / 2 - skin, half_length_mm], FOAM_PER_MM)
    sides = [
        block(middle + thick_mm / 2 * Y + side * (half_width_mm + 2) * X, [2.0, thick_mm / 2, half_length_mm], CARBON_PER_MM)
        for side in (1, -1)
    ]
    return join(*faces, core, *sides)


def at(solids: Solids, origin_mm: np.ndarray, z_axis: np.ndarray, towards: np.ndarray = (1.0, 0.3, 0.2)) -> Solids:
    """Return solids moved to a place, their z along a direction, their x as near to `towards` as can be."""
    return solids.moved(pose(origin_mm, z_axis, towards))


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector, float) / np.linalg.norm(vector)
