"""Any X-ray DICOM becomes radiographs with the same intensity; anything else becomes an InputError that names the file."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import attenuation
from SparseAnatomyLib.errors import InputError

ROWS, COLUMNS = 24, 40
PATIENT = "Doe^Jane"


def _pixels(frames: int = 1, bits: int = 12) -> np.ndarray:
    """Return stored values [frame, row, column] that are nowhere the same in a mirrored or transposed image."""
    rng = np.random.default_rng(bits)
    ramp = np.linspace(0.1, 0.9, ROWS * COLUMNS).reshape(ROWS, COLUMNS) * (2**bits - 1)
    return np.clip(ramp + rng.normal(size=(frames, ROWS, COLUMNS)) * 2, 1, 2**bits - 2).astype(np.uint16)


def _dataset(pixels: np.ndarray, bits: int = 12, **attributes: object) -> Dataset:
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


def _write(path: Path, dataset: Dataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def _read_one(folder: Path, dataset: Dataset):
    (radiograph,) = read_radiographs(_write(folder / "a.dcm", dataset))
    return radiograph


@pytest.mark.parametrize("frames", [1, 3])
def test_intensity_of_every_frame(tmp_path: Path, frames: int):
    pixels = _pixels(frames)
    radiographs = read_radiographs(_write(tmp_path / "a.dcm", _dataset(pixels)))
    assert len(radiographs) == frames
    for number, radiograph in enumerate(radiographs):
        assert radiograph.intensity.dtype == np.float32
        np.testing.assert_array_equal(radiograph.intensity, pixels[number])
        assert radiograph.size_px == (COLUMNS, ROWS)
        assert (radiograph.image, radiograph.frame) == ("a.dcm", number)
        assert radiograph.mask.all()
        assert radiograph.bits_stored == 12
        assert radiograph.warnings == ()
    assert len({radiograph.name for radiograph in radiographs}) == frames


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(tmp_path: Path, syntax: uid.UID):
    pixels, dataset = _pixels(), _dataset(_pixels())
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(">u2").tobytes()
    np.testing.assert_array_equal(_read_one(tmp_path, dataset).intensity, pixels[0])


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless])
def test_syntaxes_that_pydicom_encodes(tmp_path: Path, syntax: uid.UID, bits: int, frames: int):
    pixels = _pixels(frames, bits)
    dataset = _dataset(pixels, bits, BitsAllocated=8 if bits == 8 else 16)
    dataset.compress(syntax)
    for radiograph, expected in zip(read_radiographs(_write(tmp_path / "a.dcm", dataset)), pixels, strict=True):
        np.testing.assert_array_equal(radiograph.intensity, expected)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless", "RLELossless"]
)
def test_syntaxes_that_gdcm_encodes(tmp_path: Path, syntax: str, bits: int, frames: int):
    pixels = _pixels(frames, bits)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(_write(tmp_path / "plain.dcm", _dataset(pixels, bits))))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID.is_compressed
    for radiograph, expected in zip(read_radiographs(tmp_path / "a.dcm"), pixels, strict=True):
        np.testing.assert_array_equal(radiograph.intensity, expected)


def test_lossy_jpeg_ls_comes_close(tmp_path: Path):
    pixels, dataset = _pixels(), _dataset(_pixels())
    dataset.compress(uid.JPEGLSNearLossless, jls_error=3)
    np.testing.assert_allclose(_read_one(tmp_path, dataset).intensity, pixels[0], atol=3)


def test_overlay_bits_are_removed(tmp_path: Path):
    pixels = _pixels()
    stored = pixels.copy()
    stored[:, ::2] |= 0xA000
    np.testing.assert_array_equal(_read_one(tmp_path, _dataset(stored)).intensity, pixels[0])


def test_high_bit_above_the_stored_bits(tmp_path: Path):
    pixels = _pixels()
    np.testing.assert_array_equal(_read_one(tmp_path, _dataset((pixels << 3) | 5, HighBit=14)).intensity, pixels[0])


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_with_rescale(tmp_path: Path, bits: int):
    pixels = _pixels(bits=bits)
    signed = pixels.astype(np.int32) - 2 ** (bits - 1)
    dataset = _dataset(signed, bits, PixelRepresentation=1, RescaleSlope="1", RescaleIntercept=str(2 ** (bits - 1)))
    np.testing.assert_array_equal(_read_one(tmp_path, dataset).intensity, pixels[0])


def test_signed_bits_above_the_stored_ones_do_not_count(tmp_path: Path):
    stored = _pixels().astype(np.int16) - 2048
    dataset = _dataset(stored & 0x0FFF, PixelRepresentation=1)  # 12 bits, not extended to 16
    np.testing.assert_array_equal(_read_one(tmp_path, dataset).intensity, stored[0])


def _lut(table: np.ndarray, first: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table) % 65536, first, 16])
    item.add_new("LUTData", "US", table.astype(int).tolist())
    item.ModalityLUTType = "US"
    return item


def test_rescale_and_modality_lut(tmp_path: Path):
    pixels = _pixels()
    rescaled = _read_one(tmp_path, _dataset(pixels, RescaleSlope="2.5", RescaleIntercept="10"))
    np.testing.assert_allclose(rescaled.intensity, pixels[0] * 2.5 + 10)
    table = np.arange(4000) ** 2 // 300
    looked_up = _read_one(tmp_path, _dataset(pixels, ModalityLUTSequence=Sequence([_lut(table, 50)])))
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
    radiograph = _read_one(tmp_path, _dataset(stored, 16, PixelIntensityRelationshipSign=sign, **attributes))
    assert radiograph.response.sign.origin == ("assumed" if sign is None else "tag")
    assert bool(radiograph.warnings) is warned
    for air in (None, 5535.0 if inverted else 60000.0):
        result = attenuation(radiograph, air)
        assert result.mask.all()
        np.testing.assert_allclose(result.attenuation, expected[0], atol=2e-4)


def test_unstated_relation_is_assumed_linear(tmp_path: Path):
    radiograph = _read_one(tmp_path, _dataset(_pixels(), PixelIntensityRelationship=None))
    assert (radiograph.response.relation.value, radiograph.response.relation.origin) == ("LIN", "assumed")
    assert "Pixel Intensity Relationship" in radiograph.warnings[0]


def test_logarithm_that_fills_the_bits(tmp_path: Path):
    expected = _line_integrals()
    stored = np.round(np.log(60000 * np.exp(-expected)) / np.log(65536) * 65535)
    radiograph = _read_one(tmp_path, _dataset(stored, 16, PixelIntensityRelationship="LOG"))
    assert any("scale" in warning for warning in radiograph.warnings)
    np.testing.assert_allclose(attenuation(radiograph).attenuation, expected[0], atol=5e-4)
    np.testing.assert_allclose(attenuation(radiograph, float(stored[0, 0, 0])).attenuation, expected[0], atol=5e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_rescaled_natural_logarithm(tmp_path: Path, sign: int):
    expected = _line_integrals()
    stored = 50000 - np.round(10000 * expected) if sign > 0 else 5000 + np.round(10000 * expected)
    attributes = {"RescaleSlope": "0.0001", "RescaleIntercept": "0", "PixelIntensityRelationshipSign": sign}
    radiograph = _read_one(tmp_path, _dataset(stored, 16, PixelIntensityRelationship="LOG", **attributes))
    assert radiograph.warnings == ()
    np.testing.assert_allclose(attenuation(radiograph).attenuation, expected[0], atol=2e-4)


def test_logarithm_with_the_table_that_undoes_it(tmp_path: Path):
    expected = _line_integrals()
    stored = np.round(np.log(60000 * np.exp(-expected)) * 370)
    table = np.clip(np.round(np.exp(np.arange(4096) / 370)), 0, 65535)
    attributes = {"PixelIntensityRelationship": "LOG", "ModalityLUTSequence": Sequence([_lut(table, 0)])}
    np.testing.assert_allclose(attenuation(_read_one(tmp_path, _dataset(stored, **attributes))).attenuation, expected[0], atol=5e-3)


def _group(**sequences: Dataset) -> Dataset:
    group = Dataset()
    for name, item in sequences.items():
        setattr(group, name, Sequence([item]))
    return group


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def test_enhanced_object_keeps_its_values_in_functional_groups(tmp_path: Path):
    expected = _line_integrals()
    stored = np.concatenate([np.sqrt(60000 * np.exp(-expected)) * 16] * 2)
    lut = _lut(np.round((np.arange(4096) / 16) ** 2), 0)
    lut.LUTFunction = "TO_LINEAR"
    shared = _group(
        FramePixelDataPropertiesSequence=_item(PixelIntensityRelationship="SQRT", ImagerPixelSpacing=[0.3, 0.2]),
        PixelIntensityRelationshipLUTSequence=lut,
        XRayGeometrySequence=_item(DistanceSourceToDetector="1020"),
    )  # fmt: skip
    frames = [
        _group(
            PositionerPositionSequence=_item(PositionerPrimaryAngle=str(angle)),
            FrameDisplayShutterSequence=_item(
                ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=1, ShutterRightVerticalEdge=COLUMNS - angle,
                ShutterUpperHorizontalEdge=1, ShutterLowerHorizontalEdge=ROWS,
            ),
        )
        for angle in (5, 9)
    ]  # fmt: skip
    dataset = _dataset(np.round(stored), PixelIntensityRelationship=None, SOPClassUID=uid.EnhancedXAImageStorage)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    radiographs = read_radiographs(_write(tmp_path / "a.dcm", dataset))
    for angle, radiograph in zip((5, 9), radiographs, strict=True):
        assert radiograph.pixel_spacing_mm.value == (0.3, 0.2)
        assert radiograph.source_to_detector_mm.value == 1020
        assert radiograph.positioner_primary_deg.value == angle
        np.testing.assert_array_equal(radiograph.mask, np.indices((ROWS, COLUMNS))[1] < COLUMNS - angle)
        result = attenuation(radiograph)
        np.testing.assert_allclose(result.attenuation[result.mask], expected[0][result.mask], atol=5e-3)


def test_geometric_values_say_where_they_come_from(tmp_path: Path):
    dataset = _dataset(
        _pixels(2),
        ImagerPixelSpacing=[0.3, 0.2],
        PixelSpacing=[0.1, 0.1],
        DistanceSourceToDetector="1020.5",
        DistanceSourceToPatient="600",
        PositionerPrimaryAngle="30",
        PositionerSecondaryAngle="-10",
        PositionerPrimaryAngleIncrement=["0", "2.5"],
    )
    first, second = read_radiographs(_write(tmp_path / "a.dcm", dataset))
    assert first.pixel_spacing_mm.value == (0.3, 0.2)
    assert (first.pixel_spacing_mm.origin, first.pixel_spacing_mm.detail) == ("tag", "(0018,1164) Imager Pixel Spacing")
    assert (first.source_to_detector_mm.value, first.source_to_detector_mm.detail) == (1020.5, "(0018,1110) Distance Source to Detector")
    assert (first.source_to_patient_mm.value, first.source_to_patient_mm.detail[:11]) == (600, "(0018,1111)")
    assert (first.positioner_primary_deg.value, second.positioner_primary_deg.value) == (30, 32.5)
    assert first.positioner_secondary_deg.value == second.positioner_secondary_deg.value == -10


def test_pixel_spacing_stands_in_and_absence_is_none(tmp_path: Path):
    assert _read_one(tmp_path, _dataset(_pixels(), PixelSpacing=[0.1, 0.2])).pixel_spacing_mm.detail == "(0028,0030) Pixel Spacing"
    bare = _read_one(tmp_path, _dataset(_pixels()))
    assert bare.pixel_spacing_mm is bare.source_to_detector_mm is bare.positioner_primary_deg is None


def test_zero_distance_is_ignored_with_a_warning(tmp_path: Path):
    radiograph = _read_one(tmp_path, _dataset(_pixels(), DistanceSourceToDetector="0"))
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
    dataset = _dataset(_pixels(), **{kind + name: value for name, value in attributes.items()})
    setattr(dataset, f"CenterOfCircular{kind}", [10, 20])
    setattr(dataset, f"RadiusOfCircular{kind}", 8)
    setattr(dataset, f"VerticesOfThePolygonal{kind}", [2, 2, 22, 2, 22, 38])
    mask = _read_one(tmp_path, dataset).mask
    if shape == "POLYGONAL":  # the polygon's rim may fall to either side
        expected = expected & (ROW <= 22) & (COLUMN >= 2)
        assert np.count_nonzero(mask != expected) <= ROWS + COLUMNS
        assert mask[15, 4]
        assert not mask[4, 15]
    else:
        np.testing.assert_array_equal(mask, expected)


def test_circle_on_oblong_pixels_is_round_in_space(tmp_path: Path):
    attributes = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [12, 20], "RadiusOfCircularShutter": 10}
    mask = _read_one(tmp_path, _dataset(_pixels(), ImagerPixelSpacing=[0.4, 0.2], **attributes)).mask
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
    radiograph = _read_one(tmp_path, _dataset(_pixels(), **attributes))
    assert radiograph.mask.all()
    assert "ignored" in radiograph.warnings[0]


def test_padding_is_masked(tmp_path: Path):
    pixels = _pixels()
    pixels[0, :5] = 7
    np.testing.assert_array_equal(_read_one(tmp_path, _dataset(pixels, PixelPaddingValue=7)).mask, ROW > 5)


def test_nothing_about_the_patient_is_kept(tmp_path: Path):
    assert PATIENT.split("^")[0] not in repr(vars(_read_one(tmp_path, _dataset(_pixels()))))


def test_folder_is_read_in_order_and_what_is_no_image_is_passed_over(tmp_path: Path):
    (tmp_path / "b").mkdir()
    for name in ("c.dcm", "b/1.dcm", "a", ".hidden.dcm", "DICOMDIR"):
        _write(tmp_path / name, _dataset(_pixels()))
    (tmp_path / "notes.txt").write_text("not an image")
    assert [radiograph.name for radiograph in read_radiographs(tmp_path)] == ["a", "b/1.dcm", "c.dcm"]
    assert read_radiographs(tmp_path / "b" / "1.dcm", tmp_path)[0].name == "b/1.dcm"


def _refused(path: Path, said: str) -> InputError:
    with pytest.raises(InputError, match=said) as caught:
        read_radiographs(path)
    assert caught.value.remedy
    assert "\n" not in caught.value.message
    return caught.value


def test_empty_and_missing_folders(tmp_path: Path):
    _refused(tmp_path, f"{tmp_path.name} holds no DICOM files")
    _refused(tmp_path / "absent", "absent does not exist")


@pytest.mark.parametrize("content", [b"", b"Patient was fine.\n" * 100, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 300])
def test_text_and_rubbish_named_dcm(tmp_path: Path, content: bytes):
    (tmp_path / "a.dcm").write_bytes(content)
    assert "a.dcm" in _refused(tmp_path, "DICOM|X-ray|damaged").message


def test_a_ct_slice_is_refused(tmp_path: Path):
    _write(tmp_path / "slice.dcm", _dataset(_pixels(), SOPClassUID=uid.CTImageStorage, Modality="CT"))
    assert "slice.dcm" in _refused(tmp_path, "not an X-ray image but CT").message


def test_a_screenshot_is_refused(tmp_path: Path):
    _write(tmp_path / "a.dcm", _dataset(_pixels(), SOPClassUID=uid.SecondaryCaptureImageStorage, Modality="OT"))
    _refused(tmp_path, "not an X-ray")
    _write(tmp_path / "a.dcm", _dataset(_pixels(), PhotometricInterpretation="RGB", SamplesPerPixel=3))
    _refused(tmp_path, "color")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"ImagerPixelSpacing": [0.0, 0.2]}, r"\(0018,1164\) Imager Pixel Spacing is 0\\0.2"),
        ({"PixelSpacing": [0.2, -0.2]}, r"\(0028,0030\) Pixel Spacing"),
        ({"Rows": 0}, "size"),
        ({"Rows": None}, "Rows"),
        ({"BitsStored": 20}, "bits"),
        ({"BitsAllocated": 32}, "bits"),
        ({"HighBit": 3}, "bits"),
        ({"PixelData": None}, "no pixels"),
        ({"NumberOfFrames": 5}, "truncated"),
        ({"NumberOfFrames": 2**30}, "Number of Frames"),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "same value"),
        ({"Columns": 1000}, "truncated"),
    ],
)
def test_damaged_attributes_are_named(tmp_path: Path, attributes: dict, said: str):
    dataset = _dataset(_pixels())
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    assert "a.dcm" in _refused(_write(tmp_path / "a.dcm", dataset), said).message


def test_spacing_of_nan(tmp_path: Path):
    path = _write(tmp_path / "a.dcm", _dataset(_pixels(), ImagerPixelSpacing=[0.123, 0.123]))
    content = path.read_bytes()
    assert content.count(b"0.123") == 2
    path.write_bytes(content.replace(b"0.123", b"  NaN"))
    _refused(path, "Imager Pixel Spacing")
    path.write_bytes(content.replace(b"0.123", b"wide!"))
    _refused(path, "a.dcm")


@pytest.mark.parametrize("syntax", [uid.HTJ2K, uid.MPEG2MPML])
def test_unsupported_syntax(tmp_path: Path, syntax: uid.UID):
    dataset = _dataset(_pixels())
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    _refused(_write(tmp_path / "a.dcm", dataset), r"a\.dcm: its transfer syntax")


@pytest.fixture(scope="module")
def encoded() -> dict[str, bytes]:
    """Files in memory: uncompressed, RLE and JPEG-LS."""
    result = {}
    attributes = {"ImagerPixelSpacing": [0.3, 0.2], "ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [12, 20]}
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless):
        dataset = _dataset(_pixels(2), RadiusOfCircularShutter=18, PositionerPrimaryAngle="20", RescaleSlope="1", **attributes)
        dataset.RescaleIntercept = "0"
        if syntax.is_compressed:
            dataset.compress(syntax)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        result[syntax.name] = buffer.getvalue()
    return result


def _valid_or_input_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        path.write_bytes(content)
        try:
            for radiograph in read_radiographs(path):
                assert np.isfinite(radiograph.intensity).all()
                attenuation(radiograph)
        except InputError as error:
            assert "a.dcm" in error.message


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_truncated_files(encoded: dict[str, bytes], data: st.DataObject):
    content = encoded[data.draw(st.sampled_from(sorted(encoded)))]
    length = data.draw(st.integers(0, len(content) - 1))
    _valid_or_input_error(content[:length])


def test_a_file_cut_in_its_pixels_is_refused(tmp_path: Path, encoded: dict[str, bytes]):
    for content in encoded.values():
        (tmp_path / "a.dcm").write_bytes(content[: len(content) - 700])
        _refused(tmp_path, "a.dcm")


@given(data=st.data())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_flipped_bytes(encoded: dict[str, bytes], data: st.DataObject):
    content = bytearray(encoded[data.draw(st.sampled_from(sorted(encoded)))])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(128, min(len(content), 1400) - 1))
        content[position] = data.draw(st.integers(0, 255))
    _valid_or_input_error(bytes(content))


def test_real_c_arm_images(shared_data: Path):
    radiographs = read_radiographs(shared_data / "carm")
    assert len(radiographs) == 15
    row, column = np.mgrid[:1024, :1024]
    radius = np.hypot(row - 512, column - 512)
    for radiograph in radiographs:
        assert radiograph.size_px == (1024, 1024)
        assert radiograph.bits_stored == 12
        assert (radiograph.response.relation.value, radiograph.response.sign.value) == ("LIN", 1)
        assert radiograph.source_to_detector_mm is None
        assert not radiograph.mask[radius > 509].any()
        assert radiograph.mask[radius < 507].all()


def test_real_spine_is_brighter_than_the_air_beside_it(shared_data: Path):
    (radiograph,) = read_radiographs(shared_data / "carm" / "NA_Centered_0_Spine_01.dcm")
    result = attenuation(radiograph)
    assert result.warnings == ()
    air, bone = result.attenuation[100:150, 550:590], result.attenuation[400:600, 250:300]
    assert abs(np.median(air)) < 0.1
    assert 0.6 < np.median(bone) < 2.5
    assert np.median(result.attenuation[result.mask]) < 1.5
