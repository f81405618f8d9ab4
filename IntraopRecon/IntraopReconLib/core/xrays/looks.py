"""What a system makes of the beam and of the image: intensifier or flat panel, iris or collimator, vignetting, distortion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import ndtr

from IntraopReconLib.core.simulation_config import LookRanges
from SparseAnatomyLib.checks import check_choice, check_positive

Curve = Literal["linear", "square_root", "logarithm", "sigmoid", "window"]
CURVES: tuple[Curve, ...] = ("linear", "square_root", "logarithm", "sigmoid", "window")
READABLE: tuple[Curve, ...] = ("linear", "square_root", "logarithm")  # that a file can lead back to intensity
INTENSIFIER_SHARE = 0.992  # of half the image's edge: the radius of the round field
IRIS_LEAVES, WINDOW_LEAVES = 8, 4
IRIS_TURN_RAD, WINDOW_TURN_RAD, LEAF_TURN_RAD = 0.08, 0.02, 0.015


@dataclass(frozen=True)
class Leaf:
    """One leaf of a collimator, seen at the detector.

    Attributes:
        angle_rad: Direction in which the beam is cut off, from columns to rows.
        distance_share: Of its edge from the image's middle, in units of the shorter half edge.
        penumbra_mm: Standard deviation of its edge.
    """

    angle_rad: float
    distance_share: float
    penumbra_mm: float


@dataclass(frozen=True)
class Look:
    """How a system takes and stores its images.

    Attributes:
        intensifier: Whether an intensifier, with a round field and an iris; else a flat panel with a rectangular collimator.
        leaves: Of the iris or the collimator.
        vignetting: Share of the signal that is lost at the border of the field.
        pincushion: Share of the radius by which the border of the field is drawn outwards.
        s_distortion_rad: Turn of the border of the field against its middle.
        curve: How stored values follow the signal.
        bits: Of a stored value.
        monochrome1: Whether higher values mean less intensity.
        shutter_tagged: Whether the tags tell the round field.
        leaves_tagged: Whether the tags tell the collimator.
        text: Whether text is burned in.
        ramp: Whether the first row holds a ramp of grays.
        brightness: Share of the full scale that the median of the anatomy gets, where the air may saturate; None if it may not.
        headroom: Full scale in units of the signal in air, where `brightness` is None.
    """

    intensifier: bool
    leaves: tuple[Leaf, ...] = ()
    vignetting: float = 0.0
    pincushion: float = 0.0
    s_distortion_rad: float = 0.0
    curve: Curve = "linear"
    bits: int = 12
    monochrome1: bool = False
    shutter_tagged: bool = True
    leaves_tagged: bool = False
    text: bool = False
    ramp: bool = False
    brightness: float | None = None
    headroom: float = 1.2

    def __post_init__(self) -> None:
        check_choice("curve", self.curve, CURVES)
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits: expected 8 to 16, got {self.bits}.")
        check_positive("headroom", self.headroom)
        if self.brightness is not None and not 0 < self.brightness < 1:
            raise ValueError(f"brightness: expected a share of the full scale, got {self.brightness:g}.")

    @property
    def is_readable(self) -> bool:
        """Whether a file can say how its values lead back to intensity."""
        return self.curve in READABLE


def draw_look(ranges: LookRanges, rng: np.random.Generator) -> Look:
    """Draw a system with its settings.

    Raises:
        ValueError: The ranges name a curve that there is not.
    """
    intensifier = bool(rng.random() < ranges.intensifier)
    curve, saturates = str(rng.choice(ranges.curves)), bool(rng.random() < ranges.saturates)
    bits = 8 if curve == "window" else 16 if curve == "linear" and not saturates else int(rng.choice(ranges.bits))
    look = Look(
        intensifier=intensifier,
        vignetting=rng.uniform(*ranges.vignetting) * intensifier,
        pincushion=rng.uniform(*ranges.pincushion) * intensifier,
        s_distortion_rad=float(np.deg2rad(rng.uniform(*ranges.s_distortion_deg))) * intensifier,
        curve=curve,
        bits=bits,
        monochrome1=bool(rng.random() < ranges.monochrome1) and not intensifier,
        shutter_tagged=bool(rng.random() < ranges.shutter_tagged),
        leaves_tagged=bool(rng.random() < ranges.leaves_tagged),
        text=bool(rng.random() < ranges.text),
        ramp=bool(rng.random() < ranges.ramp) and intensifier,
        brightness=rng.uniform(*ranges.brightness) if saturates else None,
        headroom=rng.uniform(*ranges.headroom),
    )
    return with_leaves(look, ranges, rng)


def with_leaves(look: Look, ranges: LookRanges, rng: np.random.Generator) -> Look:
    """Return the look with its collimator set anew, as from one image to the next."""
    if look.intensifier:
        count, share, penumbra, turn = IRIS_LEAVES, ranges.iris_share, ranges.iris_penumbra_mm, IRIS_TURN_RAD
    else:
        count, share, penumbra, turn = WINDOW_LEAVES, ranges.window_share, ranges.window_penumbra_mm, WINDOW_TURN_RAD
    first = rng.uniform(-turn, turn)
    radius = INTENSIFIER_SHARE if look.intensifier else 1.0
    together = rng.uniform(*share)  # the leaves of an iris move as one
    leaves = []
    for number in range(count):
        distance = together + rng.normal(0, 0.012) if look.intensifier else rng.uniform(*share)
        angle = first + 2 * np.pi * number / count + rng.uniform(-LEAF_TURN_RAD, LEAF_TURN_RAD)
        leaves.append(Leaf(float(angle), float(distance * radius), rng.uniform(*penumbra)))
    return replace(look, leaves=tuple(leaves))


def aperture(look: Look, size_px: tuple[int, int], pixel_mm: float) -> np.ndarray:
    """Return how much of the beam the collimator lets through to each pixel.

    Args:
        look: The system.
        size_px: (columns, rows).
        pixel_mm: Pitch at the detector.

    Returns:
        Share, float32 [row, column]: 1 in the open field, 0 behind lead, between them the penumbra of the focal spot.
    """
    x, y, half = _from_middle(size_px)
    beam = np.ones(x.shape, np.float32)
    for leaf in look.leaves:
        inside_px = leaf.distance_share * half - (x * np.cos(leaf.angle_rad) + y * np.sin(leaf.angle_rad))
        beam *= ndtr(inside_px * (pixel_mm / max(leaf.penumbra_mm, 1e-6))).astype(np.float32)
    return beam


def field(look: Look, size_px: tuple[int, int]) -> np.ndarray:
    """Return which pixels the detector has: the round field of an intensifier, all of a flat panel; bool [row, column]."""
    x, y, half = _from_middle(size_px)
    return np.hypot(x, y) <= INTENSIFIER_SHARE * half if look.intensifier else np.ones(x.shape, bool)


def seen(look: Look, signal: np.ndarray) -> np.ndarray:
    """Return the signal as the system sees it: distorted, darker towards its border, nothing outside its field.

    Args:
        look: The system.
        signal: Relative to air, [row, column].

    Returns:
        float32 [row, column].

    Source of the distortion: the sum of a radial and a rotational term of third order, Gronenschild, The accuracy and reproducibility of a
    global method to correct for geometric image distortion in the X-ray imaging chain, Medical Physics 24(12), 1997.
    """
    size = signal.shape[1], signal.shape[0]
    x, y, half = _from_middle(size)
    squared = (x**2 + y**2) / half**2
    if look.pincushion or look.s_distortion_rad:
        shrink, turn = 1 - look.pincushion * squared, look.s_distortion_rad * squared
        column, row = (x * np.cos(turn) - y * np.sin(turn)) * shrink, (x * np.sin(turn) + y * np.cos(turn)) * shrink
        signal = map_coordinates(signal, [row + (size[1] - 1) / 2, column + (size[0] - 1) / 2], order=1, mode="nearest")
    return (signal * (1 - look.vignetting * squared) * field(look, size)).astype(np.float32)


def _from_middle(size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return each pixel's place from the image's middle, in columns and rows [row, column], and the shorter half edge."""
    columns, rows = size_px
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    return x, y, min(columns, rows) / 2
