"""Simulated X-rays as X-Ray Angiographic Image objects (DICOM PS3.3 A.14), losslessly compressed with JPEG-LS.

Those that higher values show darker are Digital X-Ray Images (A.26), as only these may; exports of 8 bits are Secondary Captures (A.8).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    generate_uid,
)

from SparseAnatomyLib.geometry import XrayView

from .storage import LUT_BITS, StoredImage

DRR_COMMENT = "SparseAnatomy DRR"
"""Image Comments of an X-ray without soft tissue, spectrum and scatter: what standardization would make of a real one."""
ANONYMOUS = ("Anonymous", "ANONYMOUS")
"""Patient's Name and Patient ID of X-rays that name nobody: all of them have the same, so it is no patient's."""
TUBE_CURRENT_MA = 10


@dataclass(frozen=True)
class XraySeries:
    """What the images of one simulated acquisition share.

    Attributes:
        key: Whatever tells this acquisition from every other; the same key gives the same UIDs, so that a repeated simulation gives the
            same files.
        description: Series Description, at most 64 characters.
        isocenter_lps_mm: Point that Distance Source to Patient refers to.
    """

    key: str
    description: str
    isocenter_lps_mm: np.ndarray

    def uid(self, *parts: str) -> str:
        """Return the UID of the study, the series or an instance; one input gives one UID."""
        return generate_uid(entropy_srcs=[self.key, *parts])


def write_xray(path: Path, intensity: np.ndarray, view: XrayView, series: XraySeries, number: int) -> None:
    """Write one single-frame XA image whose stored values are proportional to X-ray intensity (LIN).

    Args:
        path: File to write; an existing one is replaced.
        intensity: Stored values, uint16 [row, column].
        view: Source and detector; the pixel pitch, the distances and the positioner's angles go into the tags.
        series: What the images share.
        number: Instance Number, from 1.

    Raises:
        ValueError: `intensity` is not uint16 or not of the view's size.
        OSError: The file cannot be written.
    """
    if intensity.dtype != np.uint16 or intensity.shape != view.size_px[::-1]:
        raise ValueError(f"intensity: expected uint16 {list(view.size_px[::-1])}, got {intensity.dtype} {list(intensity.shape)}.")
    dataset = _dataset(XRayAngiographicImageStorage, view, series, number)
    dataset.ImageType = ["DERIVED", "SECONDARY", "SINGLE PLANE"]
    dataset.DerivationDescription = "Simulated from CT; not an X-ray of a patient"
    dataset.ImageComments = DRR_COMMENT
    _set_pixels(dataset, StoredImage(intensity, 16, False, "LIN", None, None))
    _save(path, dataset)


def write_stored(path: Path, stored: StoredImage, view: XrayView, series: XraySeries, number: int) -> None:
    """Write one single-frame image as an X-ray system stores it; it counts as an X-ray, not as a DRR.

    Args:
        path: File to write; an existing one is replaced.
        stored: Pixels, how they follow the intensity, shutters.
        view: Source and detector.
        series: What the images share.
        number: Instance Number, from 1.

    Raises:
        ValueError: The pixels are not of the view's size.
        OSError: The file cannot be written.
    """
    if stored.pixels.shape != view.size_px[::-1]:
        raise ValueError(f"stored.pixels: expected shape {list(view.size_px[::-1])}, got {list(stored.pixels.shape)}.")
    if stored.bits == 8:
        dataset = _dataset(SecondaryCaptureImageStorage, view, series, number)
        dataset.ConversionType = "WSD"
    elif stored.monochrome1:
        dataset = _dataset(DigitalXRayImageStorageForProcessing, view, series, number)
        dataset.Modality = "DX"
        dataset.PresentationIntentType = "FOR PROCESSING"
        dataset.PixelIntensityRelationshipSign = -1
    else:
        dataset = _dataset(XRayAngiographicImageStorage, view, series, number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    if stored.kilovolts is not None and stored.exposure_ms is not None:
        dataset.KVP = f"{stored.kilovolts:.0f}"
        dataset.XRayTubeCurrent = TUBE_CURRENT_MA
        dataset.ExposureTime = max(1, round(stored.exposure_ms))
    for keyword, value in stored.tags.items():
        setattr(dataset, keyword, value)
    _set_pixels(dataset, stored)
    _save(path, dataset)


def write_standardized(path: Path, intensity: np.ndarray, view: XrayView, series: XraySeries, number: int, derivation: str) -> None:
    """Write one single-frame XA image that was computed from an X-ray; it holds nothing about the patient.

    Args:
        path: File to write; an existing one is replaced.
        intensity: Stored values, proportional to X-ray intensity (LIN), uint16 [row, column].
        view: Source and detector.
        series: What the images share.
        number: Instance Number, from 1.
        derivation: What was done, for (0008,2111) Derivation Description.

    Raises:
        OSError: The file cannot be written.
    """
    dataset = _dataset(XRayAngiographicImageStorage, view, series, number)
    dataset.PatientName, dataset.PatientID = ANONYMOUS
    dataset.ManufacturerModelName = "IntraopRecon"
    dataset.ImageType = ["DERIVED", "SECONDARY", "SINGLE PLANE"]
    dataset.DerivationDescription = derivation
    _set_pixels(dataset, StoredImage(intensity, 16, False, "LIN", None, None))
    _save(path, dataset)


def _dataset(storage: UID, view: XrayView, series: XraySeries, number: int) -> FileDataset:
    """Return all but what the image itself says."""
    instance_uid = series.uid("instance", str(number))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = storage
    dataset.SOPInstanceUID = instance_uid
    dataset.InstanceNumber = number
    _set_series(dataset, series)
    _set_acquisition(dataset, view, series.isocenter_lps_mm)
    return dataset


def _save(path: Path, dataset: FileDataset) -> None:
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    partial = path.with_name(path.name + ".partial")
    dataset.save_as(partial, enforce_file_format=True)
    os.replace(partial, path)


def _set_series(dataset: FileDataset, series: XraySeries) -> None:
    """Patient, General Study, General Series and General Equipment modules (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1)."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Simulated"
    dataset.PatientID = "SIMULATED"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.StudyInstanceUID = series.uid("study")
    dataset.StudyDate = ""
    dataset.StudyTime = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.Modality = "XA"
    dataset.SeriesInstanceUID = series.uid("series")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = series.description
    dataset.Manufacturer = "SparseAnatomy"
    dataset.ManufacturerModelName = "Simulated C-arm"


def _set_acquisition(dataset: FileDataset, view: XrayView, isocenter: np.ndarray) -> None:
    """General Image, X-Ray Image, X-Ray Acquisition and XA Positioner modules (PS3.3 C.7.6.1, C.8.7.1, C.8.7.2, C.8.7.5)."""
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = "00"
    dataset.KVP = None
    dataset.RadiationSetting = "GR"
    dataset.XRayTubeCurrent = None
    dataset.ExposureTime = None
    pitch_column, pitch_row = view.pixel_pitch_mm
    dataset.ImagerPixelSpacing = [f"{pitch_row:.9g}", f"{pitch_column:.9g}"]  # (0018,1164): between rows, then between columns
    dataset.DistanceSourceToDetector = f"{view.source_to_detector_mm:.9g}"  # (0018,1110)
    dataset.DistanceSourceToPatient = f"{np.linalg.norm(isocenter - view.source_lps_mm):.9g}"  # (0018,1111)
    primary_deg, secondary_deg = positioner_angles_deg(view)
    dataset.PositionerPrimaryAngle = f"{primary_deg:.6g}"  # (0018,1510)
    dataset.PositionerSecondaryAngle = f"{secondary_deg:.6g}"  # (0018,1511)


def _set_pixels(dataset: FileDataset, stored: StoredImage) -> None:
    """Image Pixel module (PS3.3 C.7.6.3), and how the values follow the intensity (C.8.7.1.1.1, C.7.6.16.2.13)."""
    allocated = 8 if stored.bits == 8 else 16
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if stored.monochrome1 else "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.pixels.shape
    dataset.BitsAllocated = allocated
    dataset.BitsStored = stored.bits
    dataset.HighBit = stored.bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship = stored.relation
    if stored.lut is not None:
        table = Dataset()
        table.LUTDescriptor = [len(stored.lut) % 2**16, 0, LUT_BITS]  # 65536 entries are written as 0
        table["LUTDescriptor"].VR = "US"
        table.LUTData = stored.lut.astype("<u2").tobytes()
        table["LUTData"].VR = "OW"
        if stored.relation == "LOG":
            table.ModalityLUTType = "US"
            dataset.ModalityLUTSequence = [table]
        else:
            table.LUTFunction = "TO_LINEAR"
            dataset.PixelIntensityRelationshipLUTSequence = [table]
    dataset.PixelData = np.ascontiguousarray(stored.pixels, dtype="<u1" if allocated == 8 else "<u2").tobytes()
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"


def positioner_angles_deg(view: XrayView) -> tuple[float, float]:
    """Return Positioner Primary and Secondary Angle of a C-arm that stands as a view, for a patient who lies on the back.

    They say where the image receptor stands about the patient, so they are those of the ray from the source to the middle of the image, not
    of the receptor's normal: the two differ where the receptor is shifted or tilted.

    Returns:
        Primary: 0 in front of the patient, +90 at the patient's left (LAO), ±180 behind. Secondary: +90 at the head (CRA). Degrees.

    Source: DICOM PS3.3 C.8.7.5.1.2.
    """
    middle = view.pixel_lps_mm((np.array(view.size_px) - 1) / 2)
    left, posterior, superior = (middle - view.source_lps_mm) / np.linalg.norm(middle - view.source_lps_mm)
    return math.degrees(math.atan2(left, -posterior)), math.degrees(math.asin(np.clip(superior, -1.0, 1.0)))
