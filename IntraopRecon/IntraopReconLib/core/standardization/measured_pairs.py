"""Pairs that a hospital measured: X-rays, and the bone-only image of each, for instance projected from a registered CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.volume_files import SUFFIXES
from SparseAnatomyLib.volumes import read_image

from .pairs import TrainingView

XRAYS, BONES = "xray", "bone"
MOST = 20.0  # no line integral is larger


def measured_views(folder: Path) -> list[TrainingView]:
    """Read the pairs of a folder: `xray/NAME.nrrd` with `bone/NAME.nrrd`, line integrals (dimensionless) with the detector's pixel spacing.

    Raises:
        InputError: There are none, a file has no partner, cannot be read, is no image of line integrals, or has another size.
    """
    xrays, bones = folder / XRAYS, folder / BONES
    names = sorted(path.name for path in xrays.iterdir() if path.name.endswith(SUFFIXES)) if xrays.is_dir() else []
    if not names:
        message = f"{folder} holds no pairs."
        raise InputError(message, f"Put the X-rays into {XRAYS}/ and the bone-only images, of the same names, into {BONES}/.")
    return [_pair(xrays / name, bones / name) for name in names]


def _pair(xray_path: Path, bone_path: Path) -> TrainingView:
    if not bone_path.is_file():
        raise InputError(f"{xray_path.name} has no bone-only image.", f"Add {BONES}/{bone_path.name}, or remove the X-ray.")
    (xray, pixel_mm), (bone, _) = _read(xray_path), _read(bone_path)
    if xray.shape != bone.shape:
        sizes = " and ".join(f"{columns} × {rows}" for rows, columns in (xray.shape, bone.shape))
        raise InputError(f"{xray_path.name} and its bone-only image have {sizes} pixels.", "Export both on the same pixels.")
    integrals = np.stack([xray - bone, bone, np.zeros_like(bone)])
    return TrainingView(integrals.astype(np.float16), pixel_mm, measured=True)


def _read(path: Path) -> tuple[np.ndarray, float]:
    image = read_image(path)
    values = SimpleITK.GetArrayFromImage(image).astype(np.float32).squeeze()
    if values.ndim != 2 or not np.isfinite(values).all() or np.abs(values).max() > MOST:
        remedy = "Store the natural logarithm of air over intensity, which is below 20 everywhere."
        raise InputError(f"{path.name} is not an image of line integrals.", remedy)
    return values, float(image.GetSpacing()[0])
