"""One X-ray image on its way from stored intensities to attenuation line integrals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np

from SparseAnatomyLib.geometry import XrayView

Value = TypeVar("Value")
Origin = Literal["tag", "file", "user", "assumed"]


@dataclass(frozen=True)
class Sourced(Generic[Value]):
    """A value and where it came from, such as `tag (0018,1164) Imager Pixel Spacing`."""

    value: Value
    origin: Origin
    detail: str = ""


@dataclass(frozen=True, eq=False)
class MeasuredView:
    """A calibrated X-ray: what every later stage works on.

    Attributes:
        name: What the user calls the view: the image's path within the case, with its frame where it has several.
        attenuation: Line integrals, dimensionless, float32 [row, column].
        mask: False where a pixel says nothing (shutter, bead, saturation), bool [row, column].
        geometry: Source and detector.
    """

    name: str
    attenuation: np.ndarray
    mask: np.ndarray
    geometry: XrayView
