"""How realistic X-rays are drawn: every range and its default; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExposureRanges:
    """Ranges that exposures are drawn from; the names are those of `xrays.exposure.Exposure`.

    C-arms in the operating room run at 60 to 110 kV, with up to 0.3 mm of copper. With a grid, a detector counts .2 to 1 scattered photon
    per primary one behind a trunk of attenuation 3 to 6. A fluoroscopy frame counts hundreds, a single shot thousands of photons a pixel.
    """

    kilovolts: tuple[float, float] = (60.0, 110.0)
    copper_mm: tuple[float, float] = (0.0, 0.3)
    photons: tuple[float, float] = (400.0, 8000.0)
    scatter: tuple[float, float] = (0.02, 0.2)
    scatter_mm: tuple[float, float] = (25.0, 60.0)
    glare: tuple[float, float] = (0.0, 0.12)
    focal_blur_mm: tuple[float, float] = (0.05, 0.5)
    detector_blur_mm: tuple[float, float] = (0.1, 0.5)
    electronic_photons: tuple[float, float] = (0.0, 3.0)
