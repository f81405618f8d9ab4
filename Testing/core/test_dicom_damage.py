"""What is no readable X-ray is an InputError that names the file; no byte of a file may cause anything else."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.sequence import Sequence
from xray_datasets import dataset_of, functional_group, lut_item, stored_pixels, write, xray_dataset

from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import attenuation
from SparseAnatomyLib.errors import InputError


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
    write(tmp_path / "slice.dcm", xray_dataset(stored_pixels(), SOPClassUID=uid.CTImageStorage, Modality="CT"))
    assert "slice.dcm" in _refused(tmp_path, "not an X-ray image but CT").message


def test_a_screenshot_is_refused(tmp_path: Path):
    write(tmp_path / "a.dcm", xray_dataset(stored_pixels(), SOPClassUID=uid.SecondaryCaptureImageStorage, Modality="OT"))
    _refused(tmp_path, "not an X-ray")
    write(tmp_path / "a.dcm", xray_dataset(stored_pixels(), PhotometricInterpretation="RGB", SamplesPerPixel=3))
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
    dataset = xray_dataset(stored_pixels())
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    assert "a.dcm" in _refused(write(tmp_path / "a.dcm", dataset), said).message


def test_spacing_of_nan(tmp_path: Path):
    path = write(tmp_path / "a.dcm", xray_dataset(stored_pixels(), ImagerPixelSpacing=[0.123, 0.123]))
    content = path.read_bytes()
    assert content.count(b"0.123") == 2
    path.write_bytes(content.replace(b"0.123", b"  NaN"))
    _refused(path, "Imager Pixel Spacing")
    path.write_bytes(content.replace(b"0.123", b"wide!"))
    _refused(path, "a.dcm")


@pytest.mark.parametrize("syntax", [uid.HTJ2K, uid.MPEG2MPML])
def test_unsupported_syntax(tmp_path: Path, syntax: uid.UID):
    dataset = xray_dataset(stored_pixels())
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    _refused(write(tmp_path / "a.dcm", dataset), r"a\.dcm: its transfer syntax")


@pytest.fixture(scope="module")
def encoded() -> dict[str, bytes]:
    """Files in memory: uncompressed, RLE and JPEG-LS."""
    result = {}
    attributes = {"ImagerPixelSpacing": [0.3, 0.2], "ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [12, 20]}
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless):
        dataset = xray_dataset(stored_pixels(2), RadiusOfCircularShutter=18, PositionerPrimaryAngle="20", RescaleSlope="1", **attributes)
        dataset.RescaleIntercept = "0"
        properties = dataset_of(ImagerPixelSpacing=[0.3, 0.2], PixelIntensityRelationshipSign=1)
        dataset.SharedFunctionalGroupsSequence = Sequence([functional_group(FramePixelDataPropertiesSequence=properties)])
        if syntax == uid.RLELossless:
            dataset.ModalityLUTSequence = Sequence([lut_item(np.arange(64) ** 2, 100)])
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
