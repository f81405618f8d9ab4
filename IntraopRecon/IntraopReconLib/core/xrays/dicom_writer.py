"""Simulated X-rays as X-Ray Angiographic Image objects (DICOM PS3.3 A.14), losslessly compressed with JPEG-LS."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, XRayAngiographicImageStorage, generate_uid

from SparseAnatomyLib.geometry import XrayView


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
    instance_uid = series.uid("instance", str(number))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.SOPInstanceUID = instance_uid
    dataset.InstanceNumber = number
    _set_series(dataset, series)
    _set_acquisition(dataset, view, series.isocenter_lps_mm)
    _set_pixels(dataset, intensity)
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
    dataset.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE"]
    dataset.DerivationDescription = "Simulated from CT; not an X-ray of a patient"
    dataset.PatientOrientation = ""
    dataset.PixelIntensityRelationship = "LIN"
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


def _set_pixels(dataset: FileDataset, intensity: np.ndarray) -> None:
    """Image Pixel module (PS3.3 C.7.6.3)."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = intensity.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.ascontiguousarray(intensity, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def positioner_angles_deg(view: XrayView) -> tuple[float, float]:
    """Return Positioner Primary and Secondary Angle, which say where the detector stands seen from the patient.

    Returns:
        Primary: 0 in front of the patient, +90 at the patient's left (LAO), ±180 behind. Secondary: +90 at the head (CRA).

    Source: DICOM PS3.3 C.8.7.5.1.2, for a patient who lies on the back.
    """
    left, posterior, superior = view.lps_from_camera[:3, 2]
    return math.degrees(math.atan2(left, -posterior)), math.degrees(math.asin(np.clip(superior, -1.0, 1.0)))
