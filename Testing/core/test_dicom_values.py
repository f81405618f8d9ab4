"""What the attributes of an X-ray say: look-up tables, polarity, logarithms, geometry, shutters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.sequence import Sequence
from xray_datasets import COLUMNS, PATIENT, ROWS, dataset_of, functional_group, lut_item, read_one, stored_pixels, write, xray_dataset

from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import attenuation


def test_rescale_and_modality_lut(tmp_path: Path):
    pixels = stored_pixels()
    rescaled = read_one(tmp_path, xray_dataset(pixels, RescaleSlope="2.5", RescaleIntercept="10"))
    np.testing.assert_allclose(rescaled.intensity, pixels[0] * 2.5 + 10)
    table = np.arange(4000) ** 2 // 300
    looked_up = read_one(tmp_path, xray_dataset(pixels, ModalityLUTSequence=Sequence([lut_item(table, 50)])))
    np.testing.assert_allclose(looked_up.intensity, table[np.clip(pixels[0].astype(int) - 50, 0, 3999)])


def _line_integrals() -> np.ndarray:
    row, column = np.mgrid[:ROWS, :COLUMNS]
    return np.where(column < 12, 0.0, 0.05 * column + 0.01 * row)[None]


@pytest.mark.parametrize(
    ("modality", "sop_class", "photometric", "sign", "inverted", "warned"),
    [
        ("XA", uid.XRayAngiographicImageStorage, "MONOCHROME2", None, False, False),
        ("XA", uid.XRayAngiographicImageStorage, "MONOCHROME2", 1, False, False),
        ("XA", uid.XRayAngiographicImageStorage, "MONOCHROME1", None, True, True),
        ("XA", uid.EnhancedXAImageStorage, "MONOCHROME1", 1, False, False),
        ("RF", uid.XRayRadiofluoroscopicImageStorage, "MONOCHROME2", -1, True, False),
        ("DX", uid.DigitalXRayImageStorageForProcessing, "MONOCHROME1", 1, False, False),
        ("DX", uid.DigitalXRayImageStorageForProcessing, "MONOCHROME2", -1, True, False),
        ("CR", uid.ComputedRadiographyImageStorage, "MONOCHROME1", None, False, True),
        ("CR", uid.ComputedRadiographyImageStorage, "MONOCHROME2", None, True, True),
        ("DR", uid.SecondaryCaptureImageStorage, "MONOCHROME2", -1, True, False),
    ],
)
def test_polarity(tmp_path: Path, modality: str, sop_class: str, photometric: str, sign: int | None, inverted: bool, warned: bool):
    expected = _line_integrals()
    stored = np.round(60000 * np.exp(-expected))
    if inverted:
        stored = 65535 - stored
    attributes = {"Modality": modality, "SOPClassUID": sop_class, "PhotometricInterpretation": photometric}
    radiograph = read_one(tmp_path, xray_dataset(stored, 16, PixelIntensityRelationshipSign=sign, **attributes))
    assert radiograph.response.sign.origin == ("assumed" if sign is None else "tag")
    assert bool(radiograph.warnings) is warned
    for air in (None, 5535.0 if inverted else 60000.0):
        result = attenuation(radiograph, air)
        assert result.mask.all()
        np.testing.assert_allclose(result.attenuation, expected[0], atol=2e-4)


def test_unstated_relation_is_assumed_linear(tmp_path: Path):
    radiograph = read_one(tmp_path, xray_dataset(stored_pixels(), PixelIntensityRelationship=None))
    assert (radiograph.response.relation.value, radiograph.response.relation.origin) == ("LIN", "assumed")
    assert "Pixel Intensity Relationship" in radiograph.warnings[0]


def test_logarithm_that_fills_the_bits(tmp_path: Path):
    expected = _line_integrals()
    stored = np.round(np.log(60000 * np.exp(-expected)) / np.log(65536) * 65535)
    radiograph = read_one(tmp_path, xray_dataset(stored, 16, PixelIntensityRelationship="LOG"))
    assert any("scale" in warning for warning in radiograph.warnings)
    np.testing.assert_allclose(attenuation(radiograph).attenuation, expected[0], atol=5e-4)
    np.testing.assert_allclose(attenuation(radiograph, float(stored[0, 0, 0])).attenuation, expected[0], atol=5e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_rescaled_natural_logarithm(tmp_path: Path, sign: int):
    expected = _line_integrals()
    stored = 50000 - np.round(10000 * expected) if sign > 0 else 5000 + np.round(10000 * expected)
    attributes = {"RescaleSlope": "0.0001", "RescaleIntercept": "0", "PixelIntensityRelationshipSign": sign}
    radiograph = read_one(tmp_path, xray_dataset(stored, 16, PixelIntensityRelationship="LOG", **attributes))
    assert radiograph.warnings == ()
    np.testing.assert_allclose(attenuation(radiograph).attenuation, expected[0], atol=2e-4)


def test_logarithm_with_the_table_that_undoes_it(tmp_path: Path):
    expected = _line_integrals()
    stored = np.round(np.log(60000 * np.exp(-expected)) * 370)
    table = np.clip(np.round(np.exp(np.arange(4096) / 370)), 0, 65535)
    attributes = {"PixelIntensityRelationship": "LOG", "ModalityLUTSequence": Sequence([lut_item(table, 0)])}
    np.testing.assert_allclose(attenuation(read_one(tmp_path, xray_dataset(stored, **attributes))).attenuation, expected[0], atol=5e-3)


def test_enhanced_object_keeps_its_values_in_functional_groups(tmp_path: Path):
    expected = _line_integrals()
    stored = np.concatenate([np.sqrt(60000 * np.exp(-expected)) * 16] * 2)
    lut = lut_item(np.round((np.arange(4096) / 16) ** 2), 0)
    lut.LUTFunction = "TO_LINEAR"
    shared = functional_group(
        FramePixelDataPropertiesSequence=dataset_of(PixelIntensityRelationship="SQRT", ImagerPixelSpacing=[0.3, 0.2]),
        PixelIntensityRelationshipLUTSequence=lut,
        XRayGeometrySequence=dataset_of(DistanceSourceToDetector="1020"),
    )  # fmt: skip
    frames = [
        functional_group(
            PositionerPositionSequence=dataset_of(PositionerPrimaryAngle=str(angle)),
            FrameDisplayShutterSequence=dataset_of(
                ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=1, ShutterRightVerticalEdge=COLUMNS - angle,
                ShutterUpperHorizontalEdge=1, ShutterLowerHorizontalEdge=ROWS,
            ),
        )
        for angle in (5, 9)
    ]  # fmt: skip
    dataset = xray_dataset(np.round(stored), PixelIntensityRelationship=None, SOPClassUID=uid.EnhancedXAImageStorage)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    radiographs = read_radiographs(write(tmp_path / "a.dcm", dataset))
    for angle, radiograph in zip((5, 9), radiographs, strict=True):
        assert radiograph.pixel_spacing_mm.value == (0.3, 0.2)
        assert radiograph.source_to_detector_mm.value == 1020
        assert radiograph.positioner_primary_deg.value == angle
        np.testing.assert_array_equal(radiograph.mask, np.indices((ROWS, COLUMNS))[1] < COLUMNS - angle)
        result = attenuation(radiograph)
        np.testing.assert_allclose(result.attenuation[result.mask], expected[0][result.mask], atol=5e-3)


def test_geometric_values_say_where_they_come_from(tmp_path: Path):
    dataset = xray_dataset(
        stored_pixels(2),
        ImagerPixelSpacing=[0.3, 0.2],
        PixelSpacing=[0.1, 0.1],
        DistanceSourceToDetector="1020.5",
        DistanceSourceToPatient="600",
        PositionerPrimaryAngle="30",
        PositionerSecondaryAngle="-10",
        PositionerPrimaryAngleIncrement=["0", "2.5"],
    )
    first, second = read_radiographs(write(tmp_path / "a.dcm", dataset))
    assert first.pixel_spacing_mm.value == (0.3, 0.2)
    assert (first.pixel_spacing_mm.origin, first.pixel_spacing_mm.detail) == ("tag", "(0018,1164) Imager Pixel Spacing")
    assert (first.source_to_detector_mm.value, first.source_to_detector_mm.detail) == (1020.5, "(0018,1110) Distance Source to Detector")
    assert (first.source_to_patient_mm.value, first.source_to_patient_mm.detail[:11]) == (600, "(0018,1111)")
    assert (first.positioner_primary_deg.value, second.positioner_primary_deg.value) == (30, 32.5)
    assert first.positioner_secondary_deg.value == second.positioner_secondary_deg.value == -10


def test_pixel_spacing_stands_in_and_absence_is_none(tmp_path: Path):
    assert read_one(tmp_path, xray_dataset(stored_pixels(), PixelSpacing=[0.1, 0.2])).pixel_spacing_mm.detail == "(0028,0030) Pixel Spacing"
    bare = read_one(tmp_path, xray_dataset(stored_pixels()))
    assert bare.pixel_spacing_mm is bare.source_to_detector_mm is bare.positioner_primary_deg is None


@pytest.mark.parametrize("kind", ["GEOMETRY", "FIDUCIAL"])
def test_pixel_spacing_at_the_patient_is_no_pitch_of_the_detector(tmp_path: Path, kind: str):
    tags = {"PixelSpacing": [0.1, 0.2], "PixelSpacingCalibrationType": kind}
    radiograph = read_one(tmp_path, xray_dataset(stored_pixels(), **tags))
    assert radiograph.pixel_spacing_mm is None
    assert any("at the patient" in warning for warning in radiograph.warnings)
    at_detector = read_one(tmp_path, xray_dataset(stored_pixels(), ImagerPixelSpacing=[0.3, 0.4], **tags))
    assert at_detector.pixel_spacing_mm.value == (0.3, 0.4)
    assert not any("at the patient" in warning for warning in at_detector.warnings)


def test_zero_distance_is_ignored_with_a_warning(tmp_path: Path):
    radiograph = read_one(tmp_path, xray_dataset(stored_pixels(), DistanceSourceToDetector="0"))
    assert radiograph.source_to_detector_mm is None
    assert "(0018,1110)" in radiograph.warnings[0]


ROW, COLUMN = np.mgrid[1 : ROWS + 1, 1 : COLUMNS + 1]  # DICOM counts from 1
CIRCLE = (ROW - 10) ** 2 + (COLUMN - 20) ** 2 <= 64
RECTANGLE = (COLUMN >= 5) & (COLUMN <= 30) & (ROW >= 3) & (ROW <= 20)


@pytest.mark.parametrize("kind", ["Shutter", "Collimator"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("CIRCULAR", CIRCLE),
        ("RECTANGULAR", RECTANGLE),
        (["RECTANGULAR", "CIRCULAR"], RECTANGLE & CIRCLE),
        ("POLYGONAL", (ROW - 2) / 20 > (COLUMN - 2) / 36),
        ("BITMAP", np.ones((ROWS, COLUMNS), bool)),
    ],
)
def test_shutters(tmp_path: Path, kind: str, shape: str | list[str], expected: np.ndarray):
    attributes = {
        "Shape": shape,
        "LeftVerticalEdge": 5,
        "RightVerticalEdge": 30,
        "UpperHorizontalEdge": 3,
        "LowerHorizontalEdge": 20,
    }
    dataset = xray_dataset(stored_pixels(), **{kind + name: value for name, value in attributes.items()})
    setattr(dataset, f"CenterOfCircular{kind}", [10, 20])
    setattr(dataset, f"RadiusOfCircular{kind}", 8)
    setattr(dataset, f"VerticesOfThePolygonal{kind}", [2, 2, 22, 2, 22, 38])
    mask = read_one(tmp_path, dataset).mask
    if shape == "POLYGONAL":  # the polygon's rim may fall to either side
        expected = expected & (ROW <= 22) & (COLUMN >= 2)
        assert np.count_nonzero(mask != expected) <= ROWS + COLUMNS
        assert mask[15, 4]
        assert not mask[4, 15]
    else:
        np.testing.assert_array_equal(mask, expected)


def test_circle_on_oblong_pixels_is_round_in_space(tmp_path: Path):
    attributes = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [12, 20], "RadiusOfCircularShutter": 10}
    mask = read_one(tmp_path, xray_dataset(stored_pixels(), ImagerPixelSpacing=[0.4, 0.2], **attributes)).mask
    assert (mask.any(1).sum(), mask.any(0).sum()) == (11, 21)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ShutterShape": "CIRCULAR"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [500, 500], "RadiusOfCircularShutter": 3},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 5, 5]},
    ],
)
def test_useless_shutters_are_ignored_with_a_warning(tmp_path: Path, attributes: dict):
    radiograph = read_one(tmp_path, xray_dataset(stored_pixels(), **attributes))
    assert radiograph.mask.all()
    assert "ignored" in radiograph.warnings[0]


def test_padding_is_masked(tmp_path: Path):
    pixels = stored_pixels()
    pixels[0, :5] = 7
    np.testing.assert_array_equal(read_one(tmp_path, xray_dataset(pixels, PixelPaddingValue=7)).mask, ROW > 5)


def test_nothing_about_the_patient_is_kept(tmp_path: Path):
    assert PATIENT.split("^")[0] not in repr(vars(read_one(tmp_path, xray_dataset(stored_pixels()))))
