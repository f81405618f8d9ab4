"""X-ray DICOM to `Radiograph`: pixels, masks and geometric values, and nothing about the patient.

Reads XA, RF, DX, CR, enhanced XA and XRF, and secondary captures of those modalities; single- and multi-frame; uncompressed, RLE, JPEG,
JPEG-LS and JPEG 2000.
"""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    JPEGLSTransferSyntaxes,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.ordering import natural_key
from SparseAnatomyLib.textfiles import writable

from .codestream import frame_header
from .radiograph import Radiograph
from .response import IntensityResponse, intensity_response
from .shutters import shutter_mask
from .sourced import Sourced
from .tags import DAMAGED_REMEDY, FILE_KEYWORDS, check_kind, described, frame_attributes, numbers, shown

PROJECTION_CLASSES = {
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
}
CAPTURE_CLASSES = {
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
}
MODALITIES = ("XA", "RF", "DX", "CR", "RG", "DR")
AT_PATIENT = ("GEOMETRY", "FIDUCIAL")  # what Pixel Spacing was calibrated by
LARGEST_SIZE_PX = 16_384
LARGEST_PIXEL_COUNT = 2**31


def read_radiographs(path: Path, relative_to: Path | None = None) -> list[Radiograph]:
    """Read X-ray images.

    Args:
        path: A DICOM file, or a folder whose files are all read, subfolders included, in the order of their names (see `natural_key`).
            Hidden files, DICOMDIR and files that neither are DICOM nor are named .dcm are passed over.
        relative_to: Folder that image names start from; by default `path`, or the folder of a single file.

    Returns:
        One radiograph a frame.

    Raises:
        InputError: Nothing to read, or a file that is not a readable X-ray; names the file.
        ResourceError: An image does not fit into memory.
    """
    path = Path(path)
    if path.is_dir():
        root = path if relative_to is None else Path(relative_to)
        files = [file for file in sorted(path.rglob("*"), key=natural_key) if _is_candidate(file, path)]
        if not files:
            raise InputError(f"The folder {path.name or path} holds no DICOM files.", "Choose the folder with the X-ray images.")
    elif path.exists():
        root, files = path.parent if relative_to is None else Path(relative_to), [path]
    else:
        raise InputError(f"{path.name or path} does not exist.", "Check the name of the file or folder.")
    return [radiograph for file in files for radiograph in _read_file(file, file.relative_to(root).as_posix())]


def _is_candidate(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    if hidden or file.name.upper() == "DICOMDIR":
        return False
    if file.suffix.lower() == ".dcm" and (file.is_file() or not file.exists()):  # of a link to nowhere, reading it says so
        return True
    if not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return True  # reading it says what is wrong


def _read_file(file: Path, image: str) -> list[Radiograph]:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # pydicom warns of every small breach of the standard
        shown_image = writable(image)
        dataset = _read_dataset(file, shown_image)
        frame_count = _check_image(dataset, shown_image)
        radiographs = []
        for frame, pixels in enumerate(_frames(dataset, frame_count, shown_image)):
            name = shown_image if frame_count == 1 else f"{shown_image}, frame {frame}"
            radiographs.append(_radiograph(frame_attributes(dataset, frame, name), pixels, (file, image, frame, name)))
    return radiographs


def _read_dataset(file: Path, image: str) -> FileDataset:
    """Parse the attributes that are needed; the patient's are never read."""
    try:
        dataset = dcmread(file, specific_tags=FILE_KEYWORDS)
        for element in dataset.iterall():
            check_kind(element)  # touching an element also converts its value
    except InvalidDicomError as error:
        raise InputError(f"{image} is not a DICOM file.", "Remove it from the folder, or export the X-ray as DICOM.") from error
    except OSError as error:
        if isinstance(error, EOFError) or error.errno is None:
            raise InputError(f"{image} is truncated or damaged ({error}).", DAMAGED_REMEDY) from error
        raise InputError(f"{image} cannot be read: {error.strerror}.", "Check the file and its permissions.") from error
    except MemoryError as error:
        raise ResourceError(f"{image} does not fit into memory.", "Close other programs.") from error
    except Exception as error:  # what a damaged file causes in the parser is not foreseeable
        raise InputError(f"{image} is a damaged DICOM file ({error}).", DAMAGED_REMEDY) from error
    return dataset


def _check_image(dataset: FileDataset, image: str) -> int:
    """Return the number of frames of an image that can be read.

    Raises:
        InputError: It is not a projection X-ray, or its pixel description is damaged.
    """
    sop_class, modality = str(dataset.get("SOPClassUID") or ""), str(dataset.get("Modality") or "")
    if not sop_class:
        raise InputError(f"{image} is truncated or damaged: it does not say what it holds.", DAMAGED_REMEDY)
    if sop_class not in PROJECTION_CLASSES and not (sop_class in CAPTURE_CLASSES and modality in MODALITIES):
        raise InputError(
            f"{image} is not an X-ray image but {modality or 'an object'} ({UID(sop_class).name}).", "Choose XA, RF, DX or CR images."
        )
    if "PixelData" not in dataset:
        raise InputError(f"{image} holds no pixels; the file may be truncated.", DAMAGED_REMEDY)
    if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2") or dataset.get("SamplesPerPixel", 1) != 1:
        raise InputError(f"{image} is a color image, not an X-ray as it was measured.", "Export the original gray image.")
    values = {name: dataset.get(name) for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")}
    for name, number in values.items():
        if not isinstance(number, int):
            raise InputError(f"{image}: {described(name)} is missing or damaged.", DAMAGED_REMEDY)
    rows, columns, allocated, stored, high_bit, signed = values.values()
    if not (1 <= rows <= LARGEST_SIZE_PX and 1 <= columns <= LARGEST_SIZE_PX):
        raise InputError(f"{image}: its size of {columns} × {rows} pixels is not that of an X-ray.", DAMAGED_REMEDY)
    if not (allocated in (8, 16) and 1 < stored <= allocated and stored - 1 <= high_bit < allocated and signed in (0, 1)):
        raise InputError(
            f"{image}: {stored} bits stored in {allocated} are not supported.", "Export the image with 8 to 16 bits per pixel."
        )
    try:
        frame_count = int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        frame_count = 0
    if not (frame_count >= 1 and frame_count * rows * columns <= LARGEST_PIXEL_COUNT):
        raise InputError(f"{image}: {described('NumberOfFrames')} is damaged or too large.", DAMAGED_REMEDY)
    return frame_count


def _frames(dataset: FileDataset, frame_count: int, image: str) -> Iterator[np.ndarray]:
    """Decode one frame after another: stored values [row, column], overlay bits removed."""
    syntax = dataset.file_meta.get("TransferSyntaxUID", UID(""))
    count = 0
    try:
        plugin = "pyjpegls" if syntax in JPEGLSTransferSyntaxes else ""  # raises where gdcm would end the process
        if not get_decoder(syntax).is_available:
            raise NotImplementedError
        _check_codestreams(dataset, syntax, frame_count)
        for count, pixels in enumerate(iter_pixels(dataset, raw=True, decoding_plugin=plugin, correct_unused_bits=False), 1):
            if count > frame_count or pixels.shape != (dataset.Rows, dataset.Columns):
                break
            yield _significant_bits(pixels, dataset)
    except MemoryError as error:
        raise ResourceError(f"{image} does not fit into memory.", "Close other programs.") from error
    except NotImplementedError as error:
        known = syntax.name if syntax else "none stated"
        raise InputError(f"{image}: its transfer syntax ({known}) is not supported.", "Export it uncompressed.") from error
    except Exception as error:  # each decoder fails in its own way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{image}: its pixels cannot be decoded; it may be truncated ({reason}).", DAMAGED_REMEDY) from error
    if count != frame_count:
        raise InputError(f"{image}: its pixels do not fill {frame_count} frame(s) of the stated size.", DAMAGED_REMEDY)


def _check_codestreams(dataset: FileDataset, syntax: UID, frame_count: int) -> None:
    """Raise a ValueError unless each compressed frame states the size and the bits that the dataset states."""
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    for codestream in generate_frames(dataset.PixelData, number_of_frames=frame_count):
        header = frame_header(codestream)
        if (header.rows, header.columns, header.components) != (dataset.Rows, dataset.Columns, 1):
            raise ValueError(f"a frame of {header.columns} × {header.rows} pixels in an image of {dataset.Columns} × {dataset.Rows}")
        if not dataset.BitsStored <= header.precision <= dataset.BitsAllocated:
            raise ValueError(f"a frame of {header.precision} bits in an image of {dataset.BitsStored} bits")


def _significant_bits(pixels: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Shift out what lies above High Bit (overlays) and below the stored bits; the right shift extends the sign."""
    size = 8 * pixels.dtype.itemsize
    return (pixels << (size - 1 - dataset.HighBit)) >> (size - dataset.BitsStored)


def _radiograph(attributes: Dataset, pixels: np.ndarray, origin: tuple[Path, str, int, str]) -> Radiograph:
    path, image, frame, name = origin
    response, warnings = intensity_response(attributes, name)
    mask, shutter_warnings = shutter_mask(attributes, name)
    warnings += shutter_warnings
    if attributes.get("PresentationIntentType") == "FOR PRESENTATION":
        warnings.append(f"{name}: it was processed for viewing, so its attenuation may be distorted; use the image for processing.")
    return Radiograph(
        name=name,
        path=path,
        image=image,
        frame=frame,
        intensity=response.intensity_of(pixels),
        mask=mask & ~_padding(attributes, pixels, response),
        response=response,
        bits_stored=int(attributes.BitsStored),
        pixel_spacing_mm=_pixel_spacing(attributes, name, warnings),
        source_to_detector_mm=_distance(attributes, "DistanceSourceToDetector", name, warnings),
        source_to_patient_mm=_distance(attributes, "DistanceSourceToPatient", name, warnings),
        positioner_primary_deg=_angle(attributes, "PositionerPrimaryAngle", name),
        positioner_secondary_deg=_angle(attributes, "PositionerSecondaryAngle", name),
        warnings=tuple(warnings),
    )


def _padding(attributes: Dataset, pixels: np.ndarray, response: IntensityResponse) -> np.ndarray:
    """Return which pixels hold the padding value or range (PS3.3 C.7.5.1.1.2)."""
    first = attributes.get("PixelPaddingValue")
    if not isinstance(first, int):
        return np.zeros(pixels.shape, dtype=bool)
    last = attributes.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    if low <= response.first and high >= response.last:
        return np.zeros(pixels.shape, dtype=bool)
    return (pixels >= low) & (pixels <= high)


def _pixel_spacing(attributes: Dataset, name: str, warnings: list[str]) -> Sourced[tuple[float, float]] | None:
    """Return the pitch at the detector between (rows, columns), or None where no tag gives it.

    Imager Pixel Spacing comes first: Pixel Spacing may have been calibrated to the patient's depth, which (0028,0A02) Pixel Spacing
    Calibration Type says (PS3.3 10.7.1.3).
    """
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        values = numbers(attributes, keyword, name)
        if not values:
            continue
        if len(values) != 2 or not all(math.isfinite(number) and number > 0 for number in values):
            raise InputError(f"{name}: {described(keyword)} is {shown(values)}, not two numbers above zero.", DAMAGED_REMEDY)
        calibration = attributes.get("PixelSpacingCalibrationType")
        if keyword == "PixelSpacing" and calibration in AT_PATIENT:
            warnings.append(f"{name}: {described(keyword)} holds at the patient, not at the detector ({calibration}), so it was not used.")
            return None
        return Sourced((values[0], values[1]), "tag", described(keyword))
    return None


def _distance(attributes: Dataset, keyword: str, name: str, warnings: list[str]) -> Sourced[float] | None:
    values = numbers(attributes, keyword, name)
    if not values:
        return None
    if len(values) != 1 or not (math.isfinite(values[0]) and values[0] > 0):
        warnings.append(f"{name}: {described(keyword)} is {shown(values)}, which was ignored.")
        return None
    return Sourced(values[0], "tag", described(keyword))


def _angle(attributes: Dataset, keyword: str, name: str) -> Sourced[float] | None:
    values = numbers(attributes, keyword, name)
    if len(values) != 1 or not math.isfinite(values[0]):
        return None
    return Sourced(values[0], "tag", described(keyword))
