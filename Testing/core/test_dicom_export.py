"""A result as DICOM: values and place come back, the segmentation lies on them, and nobody is named who is not in the X-rays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import UID
from small_result import oblique_grid, small_case, small_reconstruction
from tiny_case import make_tiny_case

from IntraopReconLib import cli
from IntraopReconLib.core.dicom_export import DicomSource, export_dicom, per_mm_from_stored, stored_from_per_mm
from IntraopReconLib.core.dicom_identity import anonymous, identity_of_result
from IntraopReconLib.core.result import write_result
from IntraopReconLib.core.xrays.simulate import WATER_PER_MM
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.mesh import voxels_above
from SparseAnatomyLib.provenance import sha256

highdicom = pytest.importorskip("highdicom")
THRESHOLD_PER_MM = 0.015
TYPE_1_AND_2 = (  # of the CT Image IOD
    "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName "
    "Modality SeriesInstanceUID SeriesNumber FrameOfReferenceUID PositionReferenceIndicator Manufacturer InstanceNumber PixelSpacing "
    "ImageOrientationPatient ImagePositionPatient SliceThickness ImageType SamplesPerPixel PhotometricInterpretation RescaleIntercept "
    "RescaleSlope KVP AcquisitionNumber SOPClassUID SOPInstanceUID RescaleType"
).split()


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    """Return a result folder that lies in the case folder it was made from, X-rays and all."""
    case = make_tiny_case(tmp_path_factory.mktemp("dicom"))
    reconstructed = small_case()
    write_result(case / "result", small_reconstruction(reconstructed), reconstructed)
    report = json.loads((case / "result" / "report.json").read_text())
    files = ["poses.json", *(f"xrays/{path.name}" for path in sorted((case / "xrays").iterdir()))]
    report["inputs_sha256"] = {name: sha256(case / name) for name in files}
    (case / "result" / "report.json").write_text(json.dumps(report))
    return case / "result"


def source(identity=None, threshold: float = THRESHOLD_PER_MM) -> DicomSource:
    made = small_reconstruction(small_case())
    return DicomSource(made.attenuation_per_mm, made.grid, threshold, identity or anonymous("one"))


def slices(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("CT_*.dcm"))]


def test_values_and_place_come_back_through_another_reader(tmp_path):
    export_dicom(tmp_path / "out", source())
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "out"), slices(tmp_path / "out")[0].SeriesInstanceUID))
    image, grid = reader.Execute(), oblique_grid()
    array = SimpleITK.GetArrayFromImage(image)
    assert image.GetSize() == grid.size_ijk
    np.testing.assert_allclose(image.GetSpacing(), grid.spacing_mm, atol=1e-4)
    np.testing.assert_allclose(image.GetOrigin(), grid.origin_lps_mm, atol=1e-4)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), grid.direction, atol=1e-5)
    np.testing.assert_allclose(WATER_PER_MM * (1 + array / 1000), source().attenuation_per_mm, atol=1.1e-5)  # half a stored value


def test_stored_values_are_hounsfield_like():
    stored = stored_from_per_mm(np.array([0.0, WATER_PER_MM, 2 * WATER_PER_MM, 9.0]))
    assert stored.tolist() == [0, 1000, 2000, 65535]
    assert (stored[:3] - 1000.0).tolist() == [-1000, 0, 1000]
    np.testing.assert_allclose(per_mm_from_stored(stored[:3]), [0, WATER_PER_MM, 2 * WATER_PER_MM], atol=1e-7)


def test_the_images_are_whole_and_agree(tmp_path):
    paths = export_dicom(tmp_path / "out", source())
    images = slices(tmp_path / "out")
    assert [image.InstanceNumber for image in images] == list(range(1, oblique_grid().size_ijk[2] + 1))
    for image in images:
        assert [name for name in TYPE_1_AND_2 if name not in image] == []
        assert "Hounsfield-like, not calibrated HU" in image.DerivationDescription
        assert "Research use only" in image.ImageComments
        assert len(image.ImageType) == 3
        assert image.RescaleType == "US"
        assert all(UID(image[name].value).is_valid for name in ("SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({image[name].value for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    steps = np.diff([np.array(image.ImagePositionPatient, float) for image in images], axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(oblique_grid().direction[:, 2] * 2.0, steps.shape), atol=1e-4)
    assert paths["dicom"] == tmp_path / "out"


def test_the_segmentation_lies_on_the_images(tmp_path):
    paths = export_dicom(tmp_path / "out", source())
    images = slices(tmp_path / "out")
    made = highdicom.seg.segread(paths["segmentation"])
    assert made.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    assert made.StudyInstanceUID == images[0].StudyInstanceUID
    assert made.SeriesInstanceUID != images[0].SeriesInstanceUID
    labels = made.get_pixels_by_source_instance([image.SOPInstanceUID for image in images], combine_segments=True)
    expected = voxels_above(source().attenuation_per_mm, oblique_grid(), THRESHOLD_PER_MM, 100.0)
    assert expected.any()
    np.testing.assert_array_equal(labels, expected)
    volume = made.get_volume(combine_segments=True)
    inside_lps = volume.map_indices_to_reference(np.argwhere(volume.array > 0))
    grid_lps = oblique_grid().points_lps_mm()[expected]
    np.testing.assert_allclose(sorted(inside_lps.round(3).tolist()), sorted(grid_lps.round(3).tolist()), atol=2e-3)
    (segment,) = made.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Bone"


def test_without_bone_there_is_no_segmentation(tmp_path):
    assert "segmentation" in export_dicom(tmp_path / "out", source())
    paths = export_dicom(tmp_path / "out", source(threshold=0.5))
    assert set(paths) == {"dicom"}
    assert not (tmp_path / "out" / "SEG.dcm").exists()  # that of the earlier export is gone


def test_the_same_export_is_the_same_and_another_is_another(tmp_path):
    for name, threshold in (("a", THRESHOLD_PER_MM), ("b", THRESHOLD_PER_MM), ("c", 0.02)):
        export_dicom(tmp_path / name, source(threshold=threshold))
    first, again, other = (pydicom.dcmread(tmp_path / name / "SEG.dcm").SOPInstanceUID for name in "abc")
    assert first == again != other
    assert (tmp_path / "a" / "CT_0003.dcm").read_bytes() == (tmp_path / "b" / "CT_0003.dcm").read_bytes()


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "CT_scan.dcm").write_text("of a patient")
    with pytest.raises(InputError, match=r"CT_scan\.dcm"):
        export_dicom(tmp_path / "out", source())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["CT_scan.dcm"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file"):
        export_dicom(tmp_path / "file", source())


def test_a_cancel_leaves_nothing(tmp_path):
    def stop(fraction: float, message: str) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_dicom(tmp_path / "out", source(), stop)
    assert list((tmp_path / "out").iterdir()) == []


# Whose it is


def _retag(case: Path, **tags: str) -> None:
    """Give every X-ray these tags, and the report their new hashes."""
    for path in (case / "xrays").iterdir():
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.save_as(path)
    report = json.loads((case / "result" / "report.json").read_text())
    report["inputs_sha256"] = {name: sha256(case / name) for name in report["inputs_sha256"]}
    (case / "result" / "report.json").write_text(json.dumps(report))


def test_patient_and_study_are_those_of_the_xrays(result, tmp_path):
    _retag(result.parent, PatientName="Müller^Änne", PatientID="4711", StudyInstanceUID="1.2.3.4", SpecificCharacterSet="ISO_IR 192")
    identity = identity_of_result(result)
    export_dicom(tmp_path / "out", source(identity))
    for image in (*slices(tmp_path / "out"), pydicom.dcmread(tmp_path / "out" / "SEG.dcm")):
        assert str(image.PatientName) == "Müller^Änne"
        assert (image.PatientID, image.StudyInstanceUID) == ("4711", "1.2.3.4")
        assert "PatientIdentityRemoved" not in image
    references = {item.ReferencedSOPInstanceUID for item in slices(tmp_path / "out")[0].SourceImageSequence}
    assert references == {pydicom.dcmread(path).SOPInstanceUID for path in (result.parent / "xrays").iterdir()}


def test_xrays_without_a_patient_or_that_have_changed_name_nobody(result, tmp_path):
    _retag(result.parent, PatientName="Somebody^Else", PatientID="0815")
    path = sorted((result.parent / "xrays").iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(content + b"\0\0")
    changed = identity_of_result(result)
    path.write_bytes(content)
    _retag(result.parent, PatientName="Anonymous", PatientID="ANONYMOUS")
    standardized = identity_of_result(result)
    assert standardized.patient["PatientID"].startswith("ANON-")  # not the one that all standardized X-rays share
    _retag(result.parent, PatientName="", PatientID="")
    empty = identity_of_result(result)
    for identity in (changed, standardized, empty, identity_of_result(None)):
        assert identity.is_anonymous
        export_dicom(tmp_path / "out", source(identity))
        image = slices(tmp_path / "out")[0]
        assert str(image.PatientName) == "Anonymous"
        assert image.PatientIdentityRemoved == "YES"
        assert "SourceImageSequence" not in image
        assert b"Somebody" not in (tmp_path / "out" / "CT_0001.dcm").read_bytes()
    _retag(result.parent, PatientName="A", PatientID="1")


def test_xrays_of_two_patients_are_refused(result):
    _retag(result.parent, PatientName="A", PatientID="1")
    first = sorted((result.parent / "xrays").iterdir())[0]
    dataset = pydicom.dcmread(first)
    dataset.PatientID = "2"
    dataset.save_as(first)
    _retag(result.parent)
    with pytest.raises(InputError, match="2 patients"):
        identity_of_result(result)
    _retag(result.parent, PatientID="1")


def test_results_of_the_same_poses_share_their_frame_of_reference(result, tmp_path):
    first = identity_of_result(result)
    report = json.loads((result / "report.json").read_text())
    other = dict(report, inputs_sha256={**report["inputs_sha256"], "poses.json": "f" * 64})
    (tmp_path / "report.json").write_text(json.dumps(other))
    assert identity_of_result(result).frame_of_reference_uid == first.frame_of_reference_uid
    assert identity_of_result(tmp_path).frame_of_reference_uid != first.frame_of_reference_uid


def test_a_case_of_another_result_is_refused(result, tmp_path):
    with pytest.raises(InputError, match="not those"):
        identity_of_result(result, tmp_path)


# The command


def test_the_command_exports(result, tmp_path, capsys):
    assert cli.main(["export", str(result), "--dicom", str(tmp_path / "out")]) == 0
    assert "not calibrated HU" in capsys.readouterr().out
    assert (tmp_path / "out" / "SEG.dcm").is_file()
    assert cli.main(["export", str(tmp_path), "--dicom", str(tmp_path / "other")]) == 2
    assert "report.json" in capsys.readouterr().err
    assert cli.main(["export", str(result), "--dicom", str(tmp_path / "out"), "--threshold", "-1"]) == 2
    assert not os.path.exists(tmp_path / "other")
