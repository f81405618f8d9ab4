"""What an image file tells beside line integrals: how it came about, how finely it is stored, and what is drawn on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage

from .radiograph import AttenuationImage, Radiograph

STANDARDIZED_MARK = "Bone-only standardized X-ray"  # begins the Derivation Description of what was standardized
_BONE_ONLY = re.compile(rf"\bDRR\b|digitally reconstructed radio|{STANDARDIZED_MARK}", re.IGNORECASE)
GLYPH_SHARE = 1 / 10  # of the image's shorter side; letters are smaller
LEAST_GLYPH_PX, LEAST_GLYPHS = 5, 3
GLYPH_CONTRAST = 0.15  # of the range of the image's values
GLYPH_RING_PX, GLYPH_RIM_PX = 3, 2
MOST_SAMPLES = 200_000


@dataclass(frozen=True)
class Origin:
    """How an image came about, as its file says.

    Attributes:
        shows_bone_only: Whether (0008,2111) Derivation Description of an image that is DERIVED by (0008,0008) Image Type, or (0020,4000)
            Image Comments, say that it is a DRR or was standardized.
        was_exposed: Whether it states a tube's voltage and an exposure, as a C-arm writes them.
    """

    shows_bone_only: bool = False
    was_exposed: bool = False


@dataclass(frozen=True, eq=False)
class StoredFacts:
    """What the pixels' values do not show once they are line integrals.

    Attributes:
        origin: How the image came about.
        bits: Bits of a stored value.
        levels: How many different values its field holds, in a sample of it; for logarithmic values, whose table may join some, how many
            the bits can hold.
        sampled: Number of pixels in that sample.
        saturated_share, black_share: Of the field; such pixels say nothing. Where no shutter is stated, black that is connected to the
            border of the image does not count: it may be a collimator.
        air_is_known: Whether the intensity of an unattenuated pixel is stated, or an open field shows it.
        graphics: Letters and signs that were drawn on the picture, bool [row, column]; None where there are none.
    """

    origin: Origin
    bits: int
    levels: int
    sampled: int
    saturated_share: float
    black_share: float
    air_is_known: bool
    graphics: NDArray[np.bool_] | None = None


def read_origin(path: Path) -> Origin:
    """Read how an image came about; what cannot be read says nothing, and nothing else is read.

    Source: DICOM PS3.3 C.7.6.1.1.2 (Image Type), C.8.7.2 (X-Ray Acquisition).
    """
    exposures = ["XRayTubeCurrent", "XRayTubeCurrentInuA", "ExposureTime", "Exposure"]
    tags = ["ImageType", "DerivationDescription", "ImageComments", "KVP", *exposures]
    try:
        dataset = dcmread(path, specific_tags=tags, stop_before_pixels=True)
        is_derived = "DERIVED" in [str(value).upper() for value in dataset.get("ImageType") or []][:1]
        derivation = str(dataset.get("DerivationDescription") or "") if is_derived else ""
        mark = _BONE_ONLY.search(f"{derivation}; {dataset.get('ImageComments') or ''}")
        was_exposed = _positive(dataset.get("KVP")) and any(_positive(dataset.get(tag)) for tag in exposures)
    except Exception:  # whatever a damaged tag causes: the image itself was read without it
        return Origin()
    return Origin(mark is not None, was_exposed)


def _positive(value: object) -> bool:
    try:
        return float(value) > 0
    except (TypeError, ValueError):
        return False


def stored_facts(radiograph: Radiograph, image: AttenuationImage, origin: Origin | None = None) -> StoredFacts:
    """Return what is to be remembered of an image when it becomes line integrals.

    Args:
        radiograph: As it was read.
        image: Its line integrals.
        origin: What its file says; read from the file where it is None.
    """
    field, intensity, response = radiograph.mask, radiograph.intensity, radiograph.response
    count = max(1, np.count_nonzero(field))
    values = intensity[field]
    sample = values[:: max(1, values.size // MOST_SAMPLES)]
    air, black = image.air_intensity, field & (intensity <= response.black)
    return StoredFacts(
        origin=read_origin(radiograph.path) if origin is None else origin,
        bits=radiograph.bits_stored,
        levels=int(np.unique(sample).size) if response.relation.value == "LIN" else 2**radiograph.bits_stored,
        sampled=int(sample.size),
        saturated_share=np.count_nonzero(values >= np.float32(response.saturation)) / count,
        black_share=np.count_nonzero(_enclosed(black) if field.all() else black) / count,
        air_is_known=air.origin == "user" or air.detail.startswith("open field"),
        graphics=_graphics(intensity, field),
    )


def _enclosed(dark: np.ndarray) -> NDArray[np.bool_]:
    """Return the dark pixels that no dark pixels connect with the border of the image."""
    outside = np.pad(np.zeros_like(dark), 1, constant_values=True)
    return dark & ~ndimage.binary_propagation(outside, mask=np.pad(dark, 1) | outside)[1:-1, 1:-1]


def _graphics(intensity: np.ndarray, field: np.ndarray) -> NDArray[np.bool_] | None:
    """Find letters: small pieces of exactly the brightest or the darkest value, which stand out of what is around them.

    Noise leaves no such pieces. What is saturated by itself has surroundings that nearly are.
    """
    values = intensity[field]
    if values.size < MOST_SAMPLES // 1000:
        return None
    contrast = GLYPH_CONTRAST * float(np.ptp(np.percentile(values[:: max(1, values.size // MOST_SAMPLES)], (0.5, 99.5))))
    found = np.zeros(intensity.shape, bool)
    for value in (values.min(), values.max()):
        glyphs = [glyph for glyph in _pieces(intensity == value) if _stands_out(intensity, field, glyph, value, contrast)]
        if len(glyphs) >= LEAST_GLYPHS:
            for box, piece in glyphs:
                found[box] |= piece
    return ndimage.binary_dilation(found, iterations=GLYPH_RIM_PX) if found.any() else None


def _pieces(of_value: np.ndarray) -> list[tuple[tuple[slice, slice], NDArray[np.bool_]]]:
    """Return the connected pieces that are of the size of letters, each with its box."""
    labels, count = ndimage.label(of_value, np.ones((3, 3)))
    largest = GLYPH_SHARE * min(of_value.shape)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    pieces = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        height, width = (part.stop - part.start for part in box)
        if sizes[number - 1] >= LEAST_GLYPH_PX and max(height, width) <= largest and height > LEAST_GLYPHS:
            pieces.append((box, labels[box] == number))
    return pieces


def _stands_out(intensity: np.ndarray, field: np.ndarray, glyph: tuple, value: float, contrast: float) -> bool:
    """Whether the median of the pixels around a piece is far from its own value."""
    box, piece = glyph
    rows, columns = (slice(max(0, part.start - GLYPH_RING_PX), part.stop + GLYPH_RING_PX) for part in box)
    near = np.pad(piece, [(part.start - wide.start, 0) for part, wide in zip(box, (rows, columns), strict=True)])
    region = intensity[rows, columns]
    near = np.pad(near, [(0, size - have) for size, have in zip(region.shape, near.shape, strict=True)])
    ring = ndimage.binary_dilation(near, iterations=GLYPH_RING_PX) & (region != value) & field[rows, columns]
    return bool(ring.any()) and abs(float(np.median(region[ring])) - float(value)) > contrast
