"""Simulated X-rays on disk: valid XA objects whose tags say what the view says."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, XRayAngiographicImageStorage

from IntraopReconLib.core.xrays.dicom_writer import XraySeries, positioner_angles_deg, write_xray
from SparseAnatomyLib.geometry import XrayView

# PS3.3 A.14: attributes of type 1 and 2 of the mandatory modules, for a single frame without contrast.
TYPE_1 = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "PixelIntensityRelationship",
    "RadiationSetting",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
]
TYPE_2 = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "Manufacturer",
    "InstanceNumber",
    "PatientOrientation",
    "KVP",
    "XRayTubeCurrent",
    "ExposureTime",
    "PositionerPrimaryAngle",
    "PositionerSecondaryAngle",
]

SERIES = XraySeries("a key", "Three X-rays", np.zeros(3))


def front_view(size_px=(24, 16)) -> XrayView:
    """Return a view with unequal pitches whose source stands in front of the patient."""
    return XrayView([0, -600, 0], [-20, 420, 15], [1.4, 0, 0], [0, 0, -1.1], size_px)


@pytest.fixture
def intensity() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (16, 24)).astype(np.uint16)


def test_pixels_survive(tmp_path, intensity):
    write_xray(tmp_path / "a.dcm", intensity, front_view(), SERIES, 1)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, intensity)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dcm"]


def test_is_a_valid_xa_object(tmp_path, intensity, monkeypatch):
    write_xray(tmp_path / "a.dcm", intensity, front_view(), SERIES, 3)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.walk(lambda _, element: element.value)  # every value obeys its representation
    for name in TYPE_1:
        assert name in dataset and dataset[name].value not in (None, "", b""), name
    for name in TYPE_2:
        assert name in dataset, name
    assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID == XRayAngiographicImageStorage
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert dataset.file_meta.TransferSyntaxUID.is_compressed and dataset.LossyImageCompression == "00"
    assert (dataset.Modality, dataset.PixelIntensityRelationship, dataset.PhotometricInterpretation) == ("XA", "LIN", "MONOCHROME2")
    assert len(dataset.ImageType) == 3 and dataset.ImageType[2] in ("SINGLE PLANE", "BIPLANE A", "BIPLANE B")
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert UID(dataset[name].value).is_valid


def test_geometry_is_in_the_tags(tmp_path, intensity):
    view = front_view()
    write_xray(tmp_path / "a.dcm", intensity, view, XraySeries("k", "d", np.array([0.0, 10.0, 0.0])), 1)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert dataset.ImagerPixelSpacing == [1.1, 1.4]  # rows first
    assert dataset.DistanceSourceToDetector == 1020
    assert dataset.DistanceSourceToPatient == 610
    assert "PixelSpacing" not in dataset  # nothing is calibrated in the patient


@pytest.mark.parametrize(
    ("source", "angles"),
    [
        ([0, 600, 0], (0, 0)),  # tube behind the patient, detector in front
        ([-600, 0, 0], (90, 0)),  # detector at the patient's left: LAO
        ([600, 0, 0], (-90, 0)),  # RAO
        ([0, 424.26, -424.26], (0, 45)),  # detector towards the head: CRA
        ([0, 424.26, 424.26], (0, -45)),
    ],
)
def test_positioner_angles(source, angles):
    forward = -np.array(source) / np.linalg.norm(source)
    down = np.array([0, 0, -1.0]) + forward[2] * forward
    down /= np.linalg.norm(down)
    columns = np.cross(down, forward)
    view = XrayView(source, source + 1000 * forward - 1.5 * (columns + down), columns, down, (4, 4))
    assert not view.is_mirrored
    np.testing.assert_allclose(positioner_angles_deg(view), angles, atol=1e-3)


def test_positioner_angles_are_those_of_the_receptors_place_not_of_its_normal():
    view = XrayView([0, 600, 0], [98.5, -400, 1.5], [1, 0, 0], [0, 0, -1], (4, 4))  # shifted by 100 mm to the patient's left
    np.testing.assert_allclose(positioner_angles_deg(view), (np.degrees(np.arctan(0.1)), 0), atol=1e-6)


def test_same_key_same_file(tmp_path, intensity):
    for name, key, number in (("a", "x", 1), ("b", "x", 1), ("c", "y", 1), ("d", "x", 2)):
        write_xray(tmp_path / name, intensity, front_view(), XraySeries(key, "d", np.zeros(3)), number)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert a.read_bytes() == b.read_bytes()
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (a, c, d)]
    assert len(set(uids)) == 3
    assert pydicom.dcmread(a).SeriesInstanceUID == pydicom.dcmread(d).SeriesInstanceUID != pydicom.dcmread(c).SeriesInstanceUID


def test_wrong_arrays_are_refused(tmp_path, intensity):
    for wrong in (intensity.T, intensity.astype(np.float32)):
        with pytest.raises(ValueError, match="intensity: expected uint16"):
            write_xray(tmp_path / "a.dcm", wrong, front_view(), SERIES, 1)
    assert not any(tmp_path.iterdir())
