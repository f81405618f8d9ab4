"""CT files that simulate must refuse although ITK reads them."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from IntraopReconLib.core.xrays.simulate import read_ct
from SparseAnatomyLib.errors import InputError


def write_ct(path, spacing_mm=2.0):
    image = SimpleITK.GetImageFromArray(np.linspace(-1000, 1500, 24 * 30 * 28, dtype=np.float32).reshape(24, 30, 28))
    image.SetSpacing((spacing_mm,) * 3)
    SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_half_a_ct_is_no_ct(tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    write_ct(path)
    read_ct(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="half"):
        read_ct(path)


@pytest.mark.parametrize("spacing_mm", [0.001, 1000])
def test_a_ct_in_another_unit_is_told(tmp_path, spacing_mm):
    write_ct(tmp_path / "ct.nrrd", spacing_mm)
    with pytest.raises(InputError, match="no CT of a patient") as caught:
        read_ct(tmp_path / "ct.nrrd")
    assert "millimeters" in caught.value.remedy
