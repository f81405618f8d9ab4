"""A result as DICOM: a series that CT viewers read, and a segmentation of the bone on it.

Stored values times Rescale Slope plus Rescale Intercept are Hounsfield-like: 1000 * (attenuation / WATER_PER_MM - 1), so that no
attenuation is -1000 and water's at 60 keV is 0. They are no calibrated HU (Rescale Type is US, unspecified): a volume of bone alone has
nothing where soft tissue was. Attenuation per mm = WATER_PER_MM * (1 + value / 1000), exact to 1e-5 per mm.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.mesh import voxels_above
from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY
from SparseAnatomyLib.staging import check_result_folder, write_together

from .config import SMALLEST_ISLAND_MM3
from .dicom_identity import Identity, identity_of_result
from .xrays.simulate import WATER_PER_MM

__all__ = ["DicomSource", "export_dicom", "identity_of_result", "per_mm_from_stored", "stored_from_per_mm"]

MANUFACTURER, MODEL = "SparseAnatomy", "IntraopRecon"
RESCALE_SLOPE, RESCALE_INTERCEPT = 1, -1000
SEGMENTATION_FILE = "SEG.dcm"
_LARGEST_STORED = 65535
_SLICE = "CT_{:04d}.dcm"
_DERIVATION = (
    "Reconstructed from C-arm X-rays. Value = 1000 * (attenuation per mm / {water:g} - 1): Hounsfield-like, not calibrated HU. {notice}"
)
Report = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class DicomSource:
    """What is exported.

    Attributes:
        attenuation_per_mm: float32 [k, j, i], zero or more.
        grid: Where the voxels lie.
        threshold_per_mm: Bone is what exceeds it.
        identity: Whose it is.
    """

    attenuation_per_mm: np.ndarray
    grid: VoxelGrid
    threshold_per_mm: float
    identity: Identity

    def uid(self, *parts: str) -> str:
        """Return the UID of a part: the same content gives the same UIDs, so that an export may be repeated."""
        digest = hashlib.sha256(np.ascontiguousarray(self.attenuation_per_mm, np.float32).tobytes()).hexdigest()
        place = repr(self.grid.lps_from_ijk.round(6).tolist())
        return generate_uid(entropy_srcs=[digest, place, self.identity.patient["StudyInstanceUID"], _version(), *parts])


def stored_from_per_mm(attenuation_per_mm: np.ndarray) -> np.ndarray:
    """Return attenuation per mm as stored values, uint16 of the same shape; what is denser than 1.35 per mm is cut."""
    return np.clip(np.round(np.asarray(attenuation_per_mm, float) * (1000 / WATER_PER_MM)), 0, _LARGEST_STORED).astype(np.uint16)


def per_mm_from_stored(stored: np.ndarray) -> np.ndarray:
    """Return stored values as attenuation per mm, float32 of the same shape."""
    hounsfield_like = np.asarray(stored, float) * RESCALE_SLOPE + RESCALE_INTERCEPT
    return (WATER_PER_MM * (1 + hounsfield_like / 1000)).astype(np.float32)


def export_dicom(out: Path, source: DicomSource, report: Report = lambda fraction, message: None) -> dict[str, Path]:
    """Write a series and its segmentation into a folder, all of it or nothing.

    Args:
        out: The folder; it is made. One that holds anything but an earlier export is refused.
        source: What is exported.
        report: Told about the progress; may raise Cancelled.

    Returns:
        `dicom`: the folder; `segmentation`: the file of the segmentation, absent where nothing exceeds the threshold.

    Raises:
        InputError: The folder holds something else, or cannot be written to.
        ResourceError: The disk is full or fails, or highdicom is not installed.

    Source: DICOM PS3.3 A.3 (CT Image IOD), A.51 (Segmentation IOD).
    """
    out = Path(os.path.abspath(out))
    _check_out(out, 3.0 * source.attenuation_per_mm.size)
    report(0.0, "Making the slices")
    slices = _slices(source)
    labels = voxels_above(source.attenuation_per_mm, source.grid, source.threshold_per_mm, SMALLEST_ISLAND_MM3)
    report(0.3, "Making the segmentation")
    segmentation = _segmentation(source, slices, labels) if labels.any() else None
    files: dict[str, Dataset] = {_SLICE.format(number): dataset for number, dataset in enumerate(slices, 1)}
    if segmentation is not None:
        files[SEGMENTATION_FILE] = segmentation

    def write(folder: Path) -> None:
        for number, (name, dataset) in enumerate(files.items()):
            dataset.save_as(folder / name, enforce_file_format=True)
            report(0.5 + 0.5 * number / len(files), "Writing the DICOM files")

    obsolete = [path.name for path in out.glob("*.dcm") if path.name not in files] if out.is_dir() else []
    write_together(out, list(files), write, obsolete)
    return {"dicom": out, **({"segmentation": out / SEGMENTATION_FILE} if segmentation is not None else {})}


def _check_out(out: Path, needed_bytes: float) -> None:
    check_result_folder(out, needed_bytes)
    others = [path.name for path in out.iterdir() if not _is_ours(path.name)] if out.is_dir() else []
    if others:
        raise InputError(f"The folder {out} holds {sorted(others)[0]}, which is not of an earlier export.", "Choose an empty folder.")


def _is_ours(name: str) -> bool:
    number = name.removeprefix("CT_").removesuffix(".dcm")
    return name in (SEGMENTATION_FILE, f"CT_{number}.dcm") and (number.isdigit() or name == SEGMENTATION_FILE)


def _slices(source: DicomSource) -> list[FileDataset]:
    """Return one CT image for each k, in that order."""
    stored, grid = stored_from_per_mm(source.attenuation_per_mm), source.grid
    series_uid, highest = source.uid("CT series"), int(stored.max(initial=0))
    made = []
    for index in range(len(stored)):
        dataset = _empty(CTImageStorage, source.uid("CT", str(index)))
        _set_patient_and_study(dataset, source.identity)
        _set_series(dataset, source, series_uid)
        dataset.InstanceNumber = index + 1
        _set_place(dataset, grid, index)
        _set_pixels(dataset, stored[index], highest)
        made.append(dataset)
    return made


def _empty(sop_class_uid: str, instance_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, instance_uid
    return dataset


def _set_patient_and_study(dataset: Dataset, identity: Identity) -> None:
    """Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1)."""
    optional = ("IssuerOfPatientID", "StudyDescription")
    for name, value in identity.patient.items():
        if value or name not in optional:
            setattr(dataset, name, value)
    if identity.is_anonymous:
        dataset.PatientIdentityRemoved = "YES"  # (0012,0062)
        dataset.DeidentificationMethod = "Nothing was taken from the X-rays' tags"  # (0012,0063)


def _set_series(dataset: Dataset, source: DicomSource, series_uid: str) -> None:
    """General Series, Equipment, Frame of Reference and General Image modules (PS3.3 C.7.3.1, C.7.5.1, C.7.4.1, C.7.6.1)."""
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = 9001
    dataset.SeriesDescription = "Bone attenuation from X-rays (SparseAnatomy)"
    dataset.PatientPosition = ""  # (0018,5100): unknown; the geometry is that of the poses
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = MANUFACTURER, MODEL, _version()
    dataset.DeviceSerialNumber = "0"
    dataset.FrameOfReferenceUID = source.identity.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.DerivationDescription = _DERIVATION.format(water=WATER_PER_MM, notice=RESEARCH_USE_ONLY)
    dataset.ImageComments = RESEARCH_USE_ONLY
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.AcquisitionNumber = None
    dataset.KVP = None
    if source.identity.sources:
        dataset.SourceImageSequence = [_reference(*uids) for uids in source.identity.sources]


def _reference(sop_class_uid: str, instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, instance_uid
    return item


def _set_place(dataset: Dataset, grid: VoxelGrid, index: int) -> None:
    """Image Plane module (PS3.3 C.7.6.2): position in LPS mm, spacing between rows first."""
    position = (grid.lps_from_ijk @ [0, 0, index, 1])[:3]
    dataset.ImagePositionPatient = _numbers(position)
    dataset.ImageOrientationPatient = _numbers([*grid.direction[:, 0], *grid.direction[:, 1]])
    dataset.PixelSpacing = _numbers([grid.spacing_mm[1], grid.spacing_mm[0]])
    (dataset.SliceThickness,) = (dataset.SpacingBetweenSlices,) = _numbers([grid.spacing_mm[2]])


def _set_pixels(dataset: Dataset, stored: np.ndarray, highest: int) -> None:
    """Image Pixel, CT Image and VOI LUT modules (PS3.3 C.7.6.3, C.8.2.1, C.11.2)."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = RESCALE_SLOPE, RESCALE_INTERCEPT, "US"
    width = max(highest, 2)
    dataset.WindowCenter, dataset.WindowWidth = RESCALE_INTERCEPT + width / 2, width
    dataset.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def _segmentation(source: DicomSource, slices: list[FileDataset], labels: np.ndarray) -> Dataset:
    """Return the bone as a DICOM segmentation on the slices."""
    try:
        import highdicom  # where it is not wanted, as in Slicer's own process, it need not be there
        from pydicom.sr.codedict import codes
        from pydicom.sr.coding import Code
    except ImportError as error:
        remedy = "Install it: in Slicer at the top of the module's panel, elsewhere with pip."
        raise ResourceError("The Python package highdicom is missing.", remedy) from error
    histogram = Code("123105", "DCM", "Histogram Analysis")  # PS3.16 CID 7162
    parameters = {"threshold per mm": f"{source.threshold_per_mm:.6g}", "smallest piece mm3": f"{SMALLEST_ISLAND_MM3:g}"}
    algorithm = highdicom.AlgorithmIdentificationSequence("Bone threshold", histogram, _version(), MANUFACTURER, parameters)
    bone = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Bone",
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Bone,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    key = f"{hashlib.sha256(np.packbits(labels).tobytes()).hexdigest()} {source.threshold_per_mm!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a patient's name has one part only
        made = highdicom.seg.Segmentation(
            source_images=slices,
            pixel_array=labels.astype(np.uint8),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[bone],
            series_instance_uid=source.uid("SEG series", key),
            series_number=9002,
            sop_instance_uid=source.uid("SEG", key),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=_version(),
            device_serial_number="0",
            content_description="Voxels above the bone threshold. Research use only.",
            content_label="BONE",
        )
    made.SeriesDescription = "Bone (SparseAnatomy)"
    return made


def _numbers(values) -> list[str]:
    """Return numbers as Decimal Strings of 16 characters at most (PS3.5 6.2)."""
    return [f"{float(value) + 0.0:.9g}" for value in values]


def _version() -> str:
    try:
        return metadata.version("sparse-anatomy")
    except metadata.PackageNotFoundError:  # flat, in Slicer
        return "unknown"
