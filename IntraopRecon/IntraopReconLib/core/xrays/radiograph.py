"""One X-ray image on its way from stored intensities to attenuation line integrals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_propagation, gaussian_filter, gaussian_filter1d
from scipy.signal import find_peaks

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView

from .response import IntensityResponse
from .sourced import Sourced

if TYPE_CHECKING:
    from .stored import StoredFacts

LEAST_USABLE_SHARE = 0.01  # of the pixels inside the shutter
SMOOTHING_PX = 2.0
OPEN_FIELD_HALF_WIDTH = 0.03  # relative
OPEN_FIELD_LEAST_SHARE = 0.01
OPEN_FIELD_LEAST_LEVEL = 0.85  # of the brightest pixels
HISTOGRAM_BINS = 400
BRIGHTER_THAN_AIR = 1.1
UNEXPOSED_LEVEL = 0.003  # of air: an attenuation of 5.8
EXPOSED_LEVEL = 0.001  # of air: what lead leaves at most, nearly
NEGATIVE_SHARE = 0.01  # of the pixels; fewer are a detector's dark current, subtracted
UNEXPOSED_SHARE = 0.1  # of the median of what is exposed: behind a trunk, all is dark


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One X-ray image as it was measured; holds nothing about the patient.

    Attributes:
        name: What messages call it: the image's path, with its frame where the file has several.
        path: The file.
        image: Its path relative to the folder that was read, with forward slashes.
        frame: Frame within the file, counted from 0.
        intensity: Proportional to the X-ray intensity at the detector, float32 [row, column].
        mask: False outside shutters and collimators and in padding, bool [row, column].
        response: From stored values to intensity, with relation (LIN or LOG) and polarity.
        bits_stored: Bits of a stored value.
        pixel_spacing_mm: Pitch at the detector between (rows, columns).
        source_to_detector_mm: SDD.
        source_to_patient_mm: From the source to the isocenter.
        positioner_primary_deg: Positive towards the patient's left (LAO).
        positioner_secondary_deg: Positive towards the head (CRA).
        warnings: What had to be assumed, a sentence each.
    """

    name: str
    path: Path
    image: str
    frame: int
    intensity: np.ndarray
    mask: np.ndarray
    response: IntensityResponse
    bits_stored: int
    pixel_spacing_mm: Sourced[tuple[float, float]] | None = None
    source_to_detector_mm: Sourced[float] | None = None
    source_to_patient_mm: Sourced[float] | None = None
    positioner_primary_deg: Sourced[float] | None = None
    positioner_secondary_deg: Sourced[float] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def size_px(self) -> tuple[int, int]:
        """(columns, rows)."""
        return self.intensity.shape[1], self.intensity.shape[0]


@dataclass(frozen=True, eq=False)
class AttenuationImage:
    """Line integrals of one radiograph.

    Attributes:
        attenuation: Dimensionless, float32 [row, column]; 0 on average in air, so noise makes it negative there; 0 outside the mask.
        mask: False where a pixel says nothing: shutter, collimator, padding, no counts, saturation; bool [row, column].
        air_intensity: Intensity of an unattenuated pixel (I0), in the units of `Radiograph.intensity`.
        warnings: Sentences for the user.
    """

    attenuation: np.ndarray
    mask: np.ndarray
    air_intensity: Sourced[float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MeasuredView:
    """A calibrated X-ray: what every later stage works on.

    Attributes:
        name: What the user calls the view: the image's path within the case, with its frame where it has several.
        attenuation: Line integrals, dimensionless, float32 [row, column].
        mask: False where a pixel says nothing (shutter, bead, saturation), bool [row, column].
        geometry: Source and detector.
        pose_sigma_mm: How far the pose may be off at the isocenter (standard deviation along each axis), as its calibration estimates it;
            None for a pose that is taken as exact.
        stored: What the file told beside line integrals; None for a view that comes from none.
    """

    name: str
    attenuation: np.ndarray
    mask: np.ndarray
    geometry: XrayView
    pose_sigma_mm: float | None = None
    stored: StoredFacts | None = None


def attenuation(radiograph: Radiograph, air_intensity: float | None = None) -> AttenuationImage:
    """Turn intensities into line integrals by Beer and Lambert: attenuation = -ln(intensity / air intensity).

    Args:
        radiograph: The image.
        air_intensity: Stored value of an unattenuated pixel; estimated from the open field where it is None.

    Returns:
        Line integrals and mask. Pixels brighter than air, as noise makes them, keep their negative attenuation: clipping would bias air.

    Raises:
        InputError: The image is black, saturated or constant, or `air_intensity` cannot be stored in it.
    """
    mask = _usable(radiograph)
    if air_intensity is None:
        air, warnings = estimate_air_intensity(radiograph, mask)
    else:
        air, warnings = _stated_air_intensity(radiograph, air_intensity, mask)
    mask &= _exposed(radiograph, air.value)
    warnings += _negative(radiograph)
    line_integrals = np.zeros(radiograph.intensity.shape, dtype=np.float32)
    line_integrals[mask] = np.log(np.float32(air.value)) - np.log(radiograph.intensity[mask])
    return AttenuationImage(line_integrals, mask, air, warnings)


def _usable(radiograph: Radiograph) -> np.ndarray:
    """Return the pixels that hold a measurement, if there are enough of them."""
    field, intensity, response = radiograph.mask, radiograph.intensity, radiograph.response
    black = field & (intensity <= response.black)
    saturated = field & (intensity >= np.float32(response.saturation))
    mask = field & ~black & ~saturated
    count = np.count_nonzero(field)
    if np.count_nonzero(mask) < LEAST_USABLE_SHARE * count or not mask.any():
        dark = "black" if not _negative(radiograph) else "black or negative (signed numbers without their Rescale Intercept?)"
        kind = "saturated" if np.count_nonzero(saturated) > np.count_nonzero(black) else dark
        raise InputError(f"{radiograph.name} is {kind} almost everywhere.", "Leave the image out, or acquire it again.")
    if np.ptp(intensity[mask]) == 0:
        raise InputError(f"{radiograph.name} has the same value in every pixel.", "Leave the image out, or acquire it again.")
    return mask


def _negative(radiograph: Radiograph) -> tuple[str, ...]:
    """Say so where many values are below zero, as in a file of signed numbers without the rescale that belongs to them."""
    share = np.count_nonzero(radiograph.mask & (radiograph.intensity < 0)) / max(1, np.count_nonzero(radiograph.mask))
    if share < NEGATIVE_SHARE:
        return ()
    return (
        f"{radiograph.name}: {share:.0%} of its pixels are negative, which no X-ray intensity is, and count as black; export the image "
        "with its (0028,1052) Rescale Intercept.",
    )


def _exposed(radiograph: Radiograph, air: float) -> np.ndarray:
    """Estimate which pixels the beam reached, for collimators that no tag states.

    Unexposed is what is darker than `UNEXPOSED_LEVEL` of air and than `UNEXPOSED_SHARE` of the rest, itself or after smoothing, and
    connected to the image's border or to a shutter through pixels as dark. Behind so much of a patient too few photons are left to
    measure, so little is lost where anatomy is taken for lead.
    """
    exposed = radiograph.intensity[radiograph.mask & (radiograph.intensity > EXPOSED_LEVEL * air)]
    typical = float(np.median(exposed)) if exposed.size else air
    level = min(UNEXPOSED_LEVEL * air, UNEXPOSED_SHARE * typical)
    closed = np.pad(~radiograph.mask, 1, constant_values=True)
    darkest = np.minimum(radiograph.intensity, gaussian_filter(radiograph.intensity, SMOOTHING_PX))
    dark = np.pad(darkest < level, 1, constant_values=True) | closed
    return ~binary_propagation(closed, mask=dark)[1:-1, 1:-1]


def _stated_air_intensity(radiograph: Radiograph, stored: float, mask: np.ndarray) -> tuple[Sourced[float], tuple[str, ...]]:
    remedy = "Correct or remove air_intensity in poses.json."
    try:
        value = radiograph.response.intensity_of_value(stored)
    except ValueError as error:
        raise InputError(f"{radiograph.name}: air_intensity is wrong: {error}.", remedy) from error
    if not value > radiograph.response.black:
        raise InputError(f"{radiograph.name}: air_intensity is wrong: {stored:g} is the value of a black pixel.", remedy)
    air, warnings = Sourced(value, "user", f"air_intensity {stored:g}"), ()
    if np.median(radiograph.intensity[mask]) > BRIGHTER_THAN_AIR * value:
        warnings = (f"{radiograph.name} is brighter than its air_intensity almost everywhere; its polarity or air_intensity may be wrong.",)
    return air, warnings


def estimate_air_intensity(radiograph: Radiograph, mask: np.ndarray) -> tuple[Sourced[float], tuple[str, ...]]:
    """Estimate I0 from the open field: the brightest peak in the histogram of the smoothed image.

    Args:
        radiograph: The image.
        mask: Usable pixels, bool [row, column].

    Returns:
        The mean intensity around that peak; where no peak is near the brightest pixels, their level, with a warning.
    """
    intensity = radiograph.intensity
    weight = gaussian_filter(mask.astype(np.float32), SMOOTHING_PX)
    smooth = gaussian_filter(np.where(mask, intensity, 0), SMOOTHING_PX) / np.maximum(weight, 1e-3)
    inside = mask & (weight > 0.5)
    if not inside.any():
        inside = mask
    levels = smooth[inside]
    top = float(np.percentile(levels, 99.9))
    histogram, edges = np.histogram(levels, bins=HISTOGRAM_BINS, range=(0.0, 1.1 * top))
    share = gaussian_filter1d(histogram / levels.size, 2.0)
    width = int(OPEN_FIELD_HALF_WIDTH / 1.1 * HISTOGRAM_BINS)
    share_around = np.convolve(share, np.ones(2 * width + 1), mode="same")
    peaks = [peak for peak in find_peaks(np.append(share, 0.0))[0] if share_around[peak] >= OPEN_FIELD_LEAST_SHARE]
    peak = float(edges[peaks[-1]] + edges[peaks[-1] + 1]) / 2 if peaks else 0.0
    if peak < OPEN_FIELD_LEAST_LEVEL * top:
        warning = (
            f"{radiograph.name}: no open field is apparent, so the brightest pixels were taken for air; attenuation may be "
            "too low throughout."
        )
        return Sourced(top, "assumed", "brightest pixels; no open field is apparent"), (warning,)
    open_field = inside & (np.abs(smooth / peak - 1) < OPEN_FIELD_HALF_WIDTH)
    detail = f"open field, {np.count_nonzero(open_field) / levels.size:.0%} of the image"
    return Sourced(float(intensity[open_field].mean(dtype=float)), "assumed", detail), ()
