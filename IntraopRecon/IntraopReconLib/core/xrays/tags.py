"""The DICOM attributes that are read, and no others: nothing about the patient leaves the file."""

from __future__ import annotations

from typing import Any

from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset

from SparseAnatomyLib.errors import InputError

PIXEL_KEYWORDS = (
    "Modality",
    "PresentationIntentType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelAspectRatio",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PixelIntensityRelationshipLUTSequence",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
)
GEOMETRY_KEYWORDS = (
    "ImagerPixelSpacing",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "PositionerPrimaryAngle",
    "PositionerSecondaryAngle",
    "PositionerPrimaryAngleIncrement",
    "PositionerSecondaryAngleIncrement",
)
SHUTTER_PATTERNS = (
    "{}Shape",
    "{}LeftVerticalEdge",
    "{}RightVerticalEdge",
    "{}UpperHorizontalEdge",
    "{}LowerHorizontalEdge",
    "CenterOfCircular{}",
    "RadiusOfCircular{}",
    "VerticesOfThePolygonal{}",
)
SHUTTER_KEYWORDS = [pattern.format(kind) for kind in ("Shutter", "Collimator") for pattern in SHUTTER_PATTERNS]
FRAME_KEYWORDS = frozenset([*PIXEL_KEYWORDS, *GEOMETRY_KEYWORDS, *SHUTTER_KEYWORDS])
FILE_KEYWORDS = [
    *FRAME_KEYWORDS,
    "SOPClassUID",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelData",
]
NUMBER_VRS = frozenset(("DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"))
BYTES_VRS = frozenset(("OB", "OW", "UN"))
DAMAGED_REMEDY = "Export the file again, or remove it from the folder."


def check_kind(element: DataElement) -> None:
    """Raise a ValueError unless the element holds what its tag calls for: numbers, text, bytes or a sequence.

    Numbers of another representation pass: vendors differ. Private and unknown elements pass too.
    """
    if dictionary_has_tag(element.tag) and _kind(element.VR) not in {_kind(vr) for vr in dictionary_VR(element.tag).split(" or ")}:
        raise ValueError(f"{described(element.keyword)} is of the wrong kind {element.VR}")


def _kind(vr: str) -> str:
    return "numbers" if vr in NUMBER_VRS else "bytes" if vr in BYTES_VRS else "sequence" if vr == "SQ" else "text"


def frame_attributes(dataset: FileDataset, frame: int, name: str) -> Dataset:
    """Return the wanted attributes of one frame in one flat dataset: the file's, then the shared groups', then the frame's own.

    Raises:
        InputError: The positioner's angles are not numbers.
    """
    flat = Dataset()
    flat.set_original_encoding(*dataset.original_encoding)
    flat.update({element.tag: element for element in dataset if element.keyword in FRAME_KEYWORDS})
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for group in (*shared, *own):
        for element in group:
            if element.keyword in FRAME_KEYWORDS:
                flat[element.tag] = element
            elif element.VR == "SQ" and element.value:
                flat.update({inner.tag: inner for inner in element.value[0] if inner.keyword in FRAME_KEYWORDS})
    for axis in ("Primary", "Secondary"):
        _add_increment(flat, f"Positioner{axis}Angle", frame, name)
    return flat


def _add_increment(flat: Dataset, keyword: str, frame: int, name: str) -> None:
    """Turn the angle of the first frame into that of this frame (PS3.3 C.8.7.5.1.3)."""
    increments, start = numbers(flat, f"{keyword}Increment", name), numbers(flat, keyword, name)
    if len(increments) > frame and len(start) == 1:
        setattr(flat, keyword, f"{start[0] + increments[frame]:.9g}")


def numbers(attributes: Dataset, keyword: str, name: str) -> list[float]:
    """Return an attribute's numbers, none where it is absent or empty.

    Raises:
        InputError: They are no numbers.
    """
    value: Any = attributes.get(keyword)
    values = [] if value is None or value == "" else [value] if isinstance(value, str | int | float) else list(value)
    try:
        return [float(number) for number in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: {described(keyword)} is not a number.", DAMAGED_REMEDY) from error


def described(keyword: str) -> str:
    """Return an attribute as messages show it, such as (0018,1164) Imager Pixel Spacing."""
    tag = tag_for_keyword(keyword)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


def shown(values: list[float]) -> str:
    """Return numbers as DICOM writes them, the first few."""
    return "\\".join(f"{value:g}" for value in values[:4])
