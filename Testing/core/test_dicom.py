"""Any X-ray DICOM becomes radiographs with the same intensity, whatever its syntax and bits."""

from __future__ import annotations

from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom import uid
from xray_datasets import COLUMNS, ROWS, read_one, stored_pixels, write, xray_dataset

from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import attenuation
from SparseAnatomyLib.errors import InputError


@pytest.mark.parametrize("frames", [1, 3])
def test_intensity_of_every_frame(tmp_path: Path, frames: int):
    pixels = stored_pixels(frames)
    radiographs = read_radiographs(write(tmp_path / "a.dcm", xray_dataset(pixels)))
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
    pixels, dataset = stored_pixels(), xray_dataset(stored_pixels())
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(">u2").tobytes()
    np.testing.assert_array_equal(read_one(tmp_path, dataset).intensity, pixels[0])


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless])
def test_syntaxes_that_pydicom_encodes(tmp_path: Path, syntax: uid.UID, bits: int, frames: int):
    pixels = stored_pixels(frames, bits)
    dataset = xray_dataset(pixels, bits, BitsAllocated=8 if bits == 8 else 16)
    dataset.compress(syntax)
    for radiograph, expected in zip(read_radiographs(write(tmp_path / "a.dcm", dataset)), pixels, strict=True):
        np.testing.assert_array_equal(radiograph.intensity, expected)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless", "RLELossless"]
)
def test_syntaxes_that_gdcm_encodes(tmp_path: Path, syntax: str, bits: int, frames: int):
    pixels = stored_pixels(frames, bits)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(write(tmp_path / "plain.dcm", xray_dataset(pixels, bits))))
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
    pixels, dataset = stored_pixels(), xray_dataset(stored_pixels())
    dataset.compress(uid.JPEGLSNearLossless, jls_error=3)
    np.testing.assert_allclose(read_one(tmp_path, dataset).intensity, pixels[0], atol=3)


def test_overlay_bits_are_removed(tmp_path: Path):
    pixels = stored_pixels()
    stored = pixels.copy()
    stored[:, ::2] |= 0xA000
    np.testing.assert_array_equal(read_one(tmp_path, xray_dataset(stored)).intensity, pixels[0])


def test_high_bit_above_the_stored_bits(tmp_path: Path):
    pixels = stored_pixels()
    np.testing.assert_array_equal(read_one(tmp_path, xray_dataset((pixels << 3) | 5, HighBit=14)).intensity, pixels[0])


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_with_rescale(tmp_path: Path, bits: int):
    pixels = stored_pixels(bits=bits)
    signed = pixels.astype(np.int32) - 2 ** (bits - 1)
    dataset = xray_dataset(signed, bits, PixelRepresentation=1, RescaleSlope="1", RescaleIntercept=str(2 ** (bits - 1)))
    np.testing.assert_array_equal(read_one(tmp_path, dataset).intensity, pixels[0])


def test_signed_bits_above_the_stored_ones_do_not_count(tmp_path: Path):
    stored = stored_pixels().astype(np.int16) - 2048
    dataset = xray_dataset(stored & 0x0FFF, PixelRepresentation=1)  # 12 bits, not extended to 16
    np.testing.assert_array_equal(read_one(tmp_path, dataset).intensity, stored[0])


def test_folder_is_read_in_order_and_what_is_no_image_is_passed_over(tmp_path: Path):
    (tmp_path / "b").mkdir()
    for name in ("c.dcm", "b/1.dcm", "a", ".hidden.dcm", "DICOMDIR"):
        write(tmp_path / name, xray_dataset(stored_pixels()))
    (tmp_path / "notes.txt").write_text("not an image")
    assert [radiograph.name for radiograph in read_radiographs(tmp_path)] == ["a", "b/1.dcm", "c.dcm"]
    assert read_radiographs(tmp_path / "b" / "1.dcm", tmp_path)[0].name == "b/1.dcm"


def test_numbers_in_names_are_read_in_the_order_that_they_count(tmp_path: Path):
    names = ["1.dcm", "2.dcm", "IM2/1.dcm", "im10/1.dcm", "im10/2.dcm", "x1.dcm", "x01.dcm", "x" + "9" * 100 + ".dcm"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, xray_dataset(stored_pixels()))
    found = [radiograph.name for radiograph in read_radiographs(tmp_path)]
    assert found == [*names[:3], "im10/1.dcm", "im10/2.dcm", "x01.dcm", "x1.dcm", names[-1]]


def test_a_link_to_an_image_that_is_gone_is_said(tmp_path: Path):
    write(tmp_path / "a.dcm", xray_dataset(stored_pixels()))
    try:
        (tmp_path / "gone.dcm").symlink_to(tmp_path / "elsewhere.dcm")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(InputError, match=r"gone\.dcm cannot be read: No such file"):
        read_radiographs(tmp_path)


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
