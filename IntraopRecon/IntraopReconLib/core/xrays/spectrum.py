"""X-ray spectra: what a tube sends, what tissue lets through, what a detector counts of it.

The tables in Resources/XrayPhysics are made by `Testing.benchmarks.make_xray_tables`, which names their sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from SparseAnatomyLib.checks import check_positive
from SparseAnatomyLib.resources import resource

from .materials import MATERIALS

REFERENCE_KEV = 60.0  # line integrals of materials are told at this energy
INHERENT_ALUMINUM_MM = 2.5  # already in the tables
DENSITY = {"aluminum": 2.699, "copper": 8.96, "cesium_iodide": 4.51}  # g/cm³
SUBSTANCE = {"soft": "soft", "bone": "bone", "metal": "titanium"}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What a detector would count of a beam in air.

    Attributes:
        energy_kev: Middles of the bins, [E].
        counted: Share of the signal by energy, sum 1, [E].
    """

    energy_kev: np.ndarray
    counted: np.ndarray

    @property
    def mean_kev(self) -> float:
        """Mean energy of the signal."""
        return float(self.energy_kev @ self.counted)


def tube_spectrum(kilovolts: float, copper_mm: float = 0.0, aluminum_mm: float = 0.0, cesium_iodide_mm: float = 0.5) -> Spectrum:
    """Return the spectrum of a tungsten tube behind filters, as an energy-integrating detector of cesium iodide counts it.

    Args:
        kilovolts: Peak voltage, 50 to 120; between the steps of the tables linear.
        copper_mm: Added filter.
        aluminum_mm: Added filter, beyond the 2.5 mm that every tube has.
        cesium_iodide_mm: Thickness of the scintillator.

    Raises:
        ValueError: A voltage outside the tables.
    """
    check_positive("cesium_iodide_mm", cesium_iodide_mm)
    energy_kev, spectra, voltages = _spectra()
    if not voltages[0] <= kilovolts <= voltages[-1]:
        raise ValueError(f"kilovolts: expected {voltages[0]:g} to {voltages[-1]:g}, got {kilovolts:g}.")
    photons = np.array([np.interp(kilovolts, voltages, of_energy) for of_energy in spectra])
    filters = _per_mm("copper") * copper_mm + _per_mm("aluminum") * aluminum_mm
    signal = photons * np.exp(-filters) * energy_kev * -np.expm1(-_per_mm("cesium_iodide") * cesium_iodide_mm)
    return Spectrum(energy_kev, signal / signal.sum())


def transmission(integrals: np.ndarray, spectrum: Spectrum) -> np.ndarray:
    """Return the share of the signal in air that is left behind materials (Beer–Lambert by energy: beam hardening).

    Args:
        integrals: Line integrals at 60 keV, [material, ...].
        spectrum: What the detector counts in air.

    Returns:
        Share, float32 [...].
    """
    ratios = np.stack([relative_attenuation(SUBSTANCE[name]) for name in MATERIALS]).astype(np.float32)  # [material, E]
    exponents = integrals.reshape(len(MATERIALS), -1).T.astype(np.float32) @ -ratios
    return (np.exp(exponents, out=exponents) @ spectrum.counted.astype(np.float32)).reshape(integrals.shape[1:])


@cache
def relative_attenuation(substance: str) -> np.ndarray:
    """Return the attenuation of a substance of the tables relative to that at 60 keV, by energy, [E]."""
    energy_kev, curves = _curves()
    curve = curves[substance]
    return curve / np.exp(np.interp(np.log(REFERENCE_KEV), np.log(energy_kev), np.log(curve)))


def _per_mm(substance: str) -> np.ndarray:
    return _curves()[1][substance] * DENSITY[substance] / 10


@cache
def _spectra() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the energies [E], the photons [E, voltage], and the voltages."""
    titles, table = _read("spectra.csv")
    return table[:, 0], table[:, 1:], np.array([float(title.removeprefix("kv")) for title in titles[1:]])


@cache
def _curves() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the energies [E], and the mass attenuation in cm²/g by substance."""
    titles, table = _read("mass_attenuation.csv")
    return table[:, 0], dict(zip(titles[1:], table[:, 1:].T, strict=True))


def _read(name: str) -> tuple[list[str], np.ndarray]:
    path = resource("XrayPhysics") / name
    with path.open(encoding="utf-8") as lines:
        next(lines)
        titles = next(lines).removeprefix("#").strip().split(",")
    return titles, np.loadtxt(path, delimiter=",", ndmin=2)
