"""How realistic X-rays are drawn: every range and its default; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ExposureRanges:
    """Ranges that exposures are drawn from; the names are those of `xrays.exposure.Exposure`.

    C-arms in the operating room run at 60 to 110 kV, with up to 0.3 mm of copper. Where a trunk is densest, these shares of scatter come to
    0.05 to 0.5 scattered photons per primary one, as behind an air gap and a grid, and beside light parts of the body to 0.7. Glare is
    that of flat panels; an intensifier has several times as much. A fluoroscopy frame counts hundreds of photons a pixel, a single shot
    thousands.
    """

    kilovolts: tuple[float, float] = (60.0, 110.0)
    copper_mm: tuple[float, float] = (0.0, 0.3)
    photons: tuple[float, float] = (400.0, 8000.0)
    scatter: tuple[float, float] = (0.005, 0.04)
    scatter_mm: tuple[float, float] = (25.0, 60.0)
    glare: tuple[float, float] = (0.0, 0.01)
    focal_blur_mm: tuple[float, float] = (0.05, 0.5)
    detector_blur_mm: tuple[float, float] = (0.1, 0.5)
    electronic_photons: tuple[float, float] = (0.0, 3.0)


@dataclass(frozen=True)
class InstrumentRanges:
    """What metal lies in the beam, by chance; lengths in mm. Sizes are those of common implants.

    Attributes:
        pedicle_screws, hip_screw, prosthesis, k_wires, plate, clamp, retractor, leads: Chance of each, 0 to 1.
        levels: Fewest and most pairs of pedicle screws.
        wires: Fewest and most K-wires.
        steel: Chance that a plate or a wire is of steel and not of titanium.
        reach_mm: How far from the isocenter bone is chosen for an implant.
        stand_off_mm: How far from bone the tips of tools end.
        body_mm: How far in front of or behind the isocenter leads lie on the skin.
    """

    pedicle_screws: float = 0.35
    hip_screw: float = 0.08
    prosthesis: float = 0.02
    k_wires: float = 0.35
    plate: float = 0.2
    clamp: float = 0.25
    retractor: float = 0.2
    leads: float = 0.3
    levels: tuple[int, int] = (1, 3)
    screw_mm: tuple[float, float] = (35.0, 50.0)
    screw_diameter_mm: tuple[float, float] = (5.5, 7.0)
    wires: tuple[int, int] = (1, 3)
    wire_mm: tuple[float, float] = (80.0, 220.0)
    wire_diameter_mm: tuple[float, float] = (1.2, 2.5)
    wire_sag_mm: tuple[float, float] = (0.0, 12.0)
    plate_holes: tuple[int, int] = (4, 9)
    steel: float = 0.5
    reach_mm: float = 60.0
    stand_off_mm: tuple[float, float] = (10.0, 60.0)
    body_mm: tuple[float, float] = (90.0, 140.0)


@dataclass(frozen=True)
class LookRanges:
    """How systems collimate, store and mark an image; chances are 0 to 1, pairs are ranges.

    By default every drawn image can be read back to attenuation. What cannot (`sigmoid`, `window`) is drawn where `curves` names it.

    Attributes:
        intensifier: Chance of an image intensifier; else a flat panel.
        curves: Drawn from evenly: linear, square_root, logarithm, sigmoid (as film), window (of 8 bits, as exported for slides).
        bits: Of a stored value, drawn from evenly; `window` always has 8, and `linear` 16 if it does not saturate: fewer hold not both air
            and what is behind a trunk.
        saturates: Chance that automatic exposure drives the air out of the scale, as systems with few bits do; then nothing tells what an
            unattenuated pixel would be, and attenuation is known up to a constant. Never by default.
        headroom: Full scale in units of the signal in air, where it does not saturate.
        monochrome1: Chance that a flat panel stores higher values for less intensity.
        shutter_tagged: Chance that the round field of an intensifier stands in the tags.
        leaves_tagged: Chance that the collimator stands in the tags.
        text: Chance of burned-in text.
        ramp: Chance of the gray ramp that some intensifier systems write into the first row.
        brightness: Share of the full scale at which automatic exposure puts the median of the anatomy, where it saturates.
        vignetting: Share of the signal that an intensifier loses at the border of its field.
        pincushion, s_distortion_deg: Of an intensifier, at the border of its field: share of the radius, and turn. None by default, because
            poses cannot state it.
        iris_share: Distance of an iris' leaves from its middle, in radii of the field.
        window_share: Distance of a flat panel's collimator leaves from the middle, in half edges.
        iris_penumbra_mm, window_penumbra_mm: Standard deviation of the leaves' edges at the detector.
    """

    intensifier: float = 0.5
    curves: tuple[str, ...] = ("linear", "linear", "square_root", "logarithm")
    bits: tuple[int, ...] = (12, 12, 16)
    saturates: float = 0.0
    headroom: tuple[float, float] = (1.05, 1.4)
    monochrome1: float = 0.2
    shutter_tagged: float = 0.8
    leaves_tagged: float = 0.5
    text: float = 0.3
    ramp: float = 0.5
    brightness: tuple[float, float] = (0.15, 0.4)
    vignetting: tuple[float, float] = (0.0, 0.12)
    pincushion: tuple[float, float] = (0.0, 0.0)
    s_distortion_deg: tuple[float, float] = (0.0, 0.0)
    iris_share: tuple[float, float] = (0.93, 1.03)
    window_share: tuple[float, float] = (0.72, 1.08)
    iris_penumbra_mm: tuple[float, float] = (0.8, 4.0)
    window_penumbra_mm: tuple[float, float] = (0.4, 2.0)


INTENSIFIER_GLARE = (0.04, 0.12)  # share that an intensifier spreads over its field
FLAT_PANEL_GLARE = (0.0, 0.03)


@dataclass(frozen=True)
class RealisticRanges:
    """Everything that a realistic X-ray is drawn from.

    Attributes:
        exposures: Tube, scatter, blur and noise, the same for all X-rays of a case.
        looks: The system; only its collimator changes within a case.
        instruments: Metal in the beam, where there is any.
        table: Chance that the patient lies on an operating table and not on thin air.
    """

    exposures: ExposureRanges = field(default_factory=ExposureRanges)
    looks: LookRanges = field(default_factory=LookRanges)
    instruments: InstrumentRanges = field(default_factory=InstrumentRanges)
    table: float = 0.8
