"""X-ray datasets in memory, for the tests of everything that reads DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import Radiograph

ROWS, COLUMNS = 24, 40
PATIENT = "Doe^Jane"


def stored_pixels(frames: int = 1, bits: int = 12) -> np.ndarray:
    """Return stored values [frame, row, column] that are nowhere the same in a mirrored or transposed image."""
    rng = np.random.default_rng(bits)
    ramp = np.linspace(0.1, 0.9, ROWS * COLUMNS).reshape(ROWS, COLUMNS) * (2**bits - 1)
    return np.clip(ramp + rng.normal(size=(frames, ROWS, COLUMNS)) * 2, 1, 2**bits - 2).astype(np.uint16)


def xray_dataset(pixels: np.ndarray, bits: int = 12, **attributes: object) -> Dataset:
    """Return an XA dataset with these stored values; attributes of None are removed."""
    frames, rows, columns = pixels.shape
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    values = {
        "SOPClassUID": uid.XRayAngiographicImageStorage,
        "SOPInstanceUID": uid.generate_uid(),
        "Modality": "XA",
        "PatientName": PATIENT,
        "PatientID": "12345",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "NumberOfFrames": frames if frames > 1 else None,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelIntensityRelationship": "LIN",
        **attributes,
    }
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    size = 1 if dataset.BitsAllocated == 8 else 2
    kind = "i" if dataset.PixelRepresentation else "u"
    dataset.PixelData = pixels.astype(f"<{kind}{size}").tobytes()
    dataset["PixelData"].VR = "OB" if size == 1 else "OW"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def write(path: Path, dataset: Dataset) -> Path:
    """Write the dataset as a file and return its path."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def read_one(folder: Path, dataset: Dataset) -> Radiograph:
    """Write the dataset and read its only frame."""
    (radiograph,) = read_radiographs(write(folder / "a.dcm", dataset))
    return radiograph


def lut_item(table: np.ndarray, first: int) -> Dataset:
    """Return an item of a look-up table sequence, for stored values from `first` on."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table) % 65536, first, 16])
    item.add_new("LUTData", "US", table.astype(int).tolist())
    item.ModalityLUTType = "US"
    return item


def functional_group(**sequences: Dataset) -> Dataset:
    """Return one item of functional groups: sequences of one item each."""
    group = Dataset()
    for name, item in sequences.items():
        setattr(group, name, Sequence([item]))
    return group


def dataset_of(**attributes: object) -> Dataset:
    """Return a dataset of these attributes."""
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item
