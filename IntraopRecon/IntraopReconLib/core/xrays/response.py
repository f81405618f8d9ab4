"""From stored pixel values to X-ray intensity: bits, modality LUT, polarity and LIN/LOG, all in one table per image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from SparseAnatomyLib.errors import InputError

from .sourced import Sourced

Relation = Literal["LIN", "LOG"]
LARGEST_NATURAL_LOGARITHM_SPAN = 30.0  # a wider range of rescaled values cannot be natural logarithms of an intensity
DARK_BONE_MODALITIES = ("XA", "RF")  # shown as on a fluoroscope; all others as on film, where bone is white


@dataclass(frozen=True, eq=False)
class IntensityResponse:
    """What each stored value says about the X-ray intensity at the detector.

    Attributes:
        intensity: Intensity of each stored value, proportional to the beam's, float64 [value - first].
        first: The lowest value that the bits can store; the highest is `last`.
        relation: How the stored values follow the intensity.
        sign: +1 where higher values mean more intensity, -1 where they mean less.
    """

    intensity: np.ndarray
    first: int
    relation: Sourced[Relation]
    sign: Sourced[int]

    @property
    def last(self) -> int:
        """The highest value that the bits can store."""
        return self.first + len(self.intensity) - 1

    @property
    def black(self) -> float:
        """Intensity at or below which a pixel says nothing."""
        return max(0.0, float(self.intensity.min()))

    @property
    def saturation(self) -> float:
        """Intensity at which the detector or the bits are full."""
        return float(self.intensity.max())

    def intensity_of(self, stored: np.ndarray) -> np.ndarray:
        """Return the intensity of stored values, float32 of the same shape."""
        return self.intensity.astype(np.float32)[stored.astype(np.int64) - self.first]

    def intensity_of_value(self, stored: float) -> float:
        """Return the intensity of one stored value, which need not be whole.

        Raises:
            ValueError: The bits cannot store it.
        """
        if not self.first <= stored <= self.last:
            raise ValueError(f"expected a stored value from {self.first} to {self.last}, got {stored:g}")
        return float(np.interp(stored - self.first, np.arange(len(self.intensity)), self.intensity))


def intensity_response(image: Dataset, name: str) -> tuple[IntensityResponse, list[str]]:
    """Build the table of one image.

    Args:
        image: The attributes of one frame: bits, Modality LUT or Rescale, Pixel Intensity Relationship, Photometric Interpretation.
        name: What messages call the image.

    Returns:
        The table, and warnings about what had to be assumed.

    Raises:
        InputError: The Modality LUT is unusable.

    Source: DICOM PS3.3 C.8.7.1.1.1 (XA, RF), C.8.11.3.1.2 (DX), C.7.6.16.2.13 (Enhanced XA), C.11.1 (Modality LUT).
    """
    bits, signed = int(image.BitsStored), bool(image.PixelRepresentation)
    first = -(2 ** (bits - 1)) if signed else 0
    values = np.arange(first, first + 2**bits)
    linear_lut = _to_linear_lut(image)
    output = _modality_output(image if linear_lut is None else linear_lut, values, name)
    warnings: list[str] = []
    relation = _relation(image, name, warnings)
    sign = _sign(image, name, warnings)
    has_lut = linear_lut is not None or bool(image.get("ModalityLUTSequence"))
    if relation.value == "LOG" and has_lut:
        intensity = output  # PS3.3 C.8.7.1.1.1: the LUT of a logarithmic image leads back to intensity
    else:
        rescaled = has_lut or not np.array_equal(output, values)
        rises = sign.value > 0 if sign.origin == "assumed" else sign.value * (output[-1] - output[0]) > 0  # the tag speaks of stored values
        rising = output if rises else output.min() + output.max() - output
        intensity = rising if relation.value == "LIN" else _exponential(rising, bits, rescaled, name, warnings)
    if not np.isfinite(intensity).all() or not intensity.max() > max(0.0, intensity.min()):
        raise InputError(f"{name}: its modality LUT or rescale slope maps every pixel to the same value.", "Export the image again.")
    return IntensityResponse(intensity, first, relation, sign), warnings


def _to_linear_lut(image: Dataset) -> Dataset | None:
    """Return the table of an enhanced object that leads back to intensity, posing as a Modality LUT."""
    for item in image.get("PixelIntensityRelationshipLUTSequence") or []:
        if item.get("LUTFunction") == "TO_LINEAR":
            lut = Dataset()
            lut.set_original_encoding(*image.original_encoding)  # of tables that are stored as words
            lut.ModalityLUTSequence = [item]
            return lut
    return None


def _modality_output(image: Dataset, values: np.ndarray, name: str) -> np.ndarray:
    """Return the modality LUT's or the rescale's output for each stored value, float64."""
    try:
        return np.asarray(apply_modality_lut(values, image), dtype=float)
    except Exception as error:  # pydicom lets whatever a damaged table causes through
        raise InputError(f"{name}: its modality LUT is damaged ({error}).", "Export the image again.") from error


def _relation(image: Dataset, name: str, warnings: list[str]) -> Sourced[Relation]:
    stated = image.get("PixelIntensityRelationship") or ""
    detail = "(0028,1040) Pixel Intensity Relationship"
    if stated in ("LIN", "LOG"):
        return Sourced(stated, "tag", detail)
    if image.get("PixelIntensityRelationshipLUTSequence"):
        return Sourced("LOG", "tag", "(0028,9422) Pixel Intensity Relationship LUT Sequence")
    said = f"is {stated}" if stated else "is absent"
    warnings.append(f"{name}: {detail} {said}; pixels are taken as proportional to X-ray intensity, so attenuation may be distorted.")
    return Sourced("LIN", "assumed", f"{detail} {said}")


def _sign(image: Dataset, name: str, warnings: list[str]) -> Sourced[int]:
    """Polarity: as stated, else from how images of the modality are shown."""
    stated = image.get("PixelIntensityRelationshipSign")
    if stated in (1, -1):
        return Sourced(int(stated), "tag", "(0028,1041) Pixel Intensity Relationship Sign")
    modality, photometric = image.get("Modality", ""), image.PhotometricInterpretation
    dark_bone = modality in DARK_BONE_MODALITIES
    sign = 1 if dark_bone == (photometric == "MONOCHROME2") else -1
    if not (dark_bone and sign > 0):  # an XA or RF image in MONOCHROME2 is as PS3.3 C.8.7.1 wants it
        warnings.append(f"{name}: its polarity is not stated; {modality} in {photometric} is taken to show bone {_bone(dark_bone)}.")
    return Sourced(sign, "assumed", f"{modality} shown with bone {_bone(dark_bone)}, (0028,0004) {photometric}")


def _bone(dark: bool) -> str:
    return "dark" if dark else "white"


def _exponential(logarithm: np.ndarray, bits: int, rescaled: bool, name: str, warnings: list[str]) -> np.ndarray:
    """Undo a logarithm: a natural one where a rescale gives it, else one that spans the bits; the maximum becomes 1."""
    span = float(np.ptp(logarithm))
    if not (rescaled and span <= LARGEST_NATURAL_LOGARITHM_SPAN):
        warnings.append(f"{name}: it is logarithmic without a table back to intensity, so the scale of its attenuation is assumed.")
        logarithm = logarithm * (bits * math.log(2) / max(span, 1e-30))
    return np.exp(logarithm - logarithm.max())
