"""Make the tables of the realistic X-ray simulator: `python -m Testing.benchmarks.make_xray_tables`.

Needs `pip install spekpy==2.5.4 xraydb==4.5.8`, which nothing else does. Spectra: a tungsten anode of 12°, SpekPy's model "casim", behind
2.5 mm of aluminum, as photons per bin, scaled to a sum of 1. Mass attenuation: XrayDB's tables (Elam, Ravel and Sieber); compositions of
soft tissue and cortical bone: ICRU Report 44, as NIST tells them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "Resources" / "XrayPhysics"
BIN_KEV = 2.0
ENERGIES_KEV = np.arange(15.0, 126.0, BIN_KEV)  # middles of the bins
KILOVOLTS = range(50, 125, 5)
ANODE_DEG, INHERENT_ALUMINUM_MM = 12.0, 2.5
SOFT_TISSUE = {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003}
CORTICAL_BONE = {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225}
CESIUM_IODIDE = {"Cs": 0.511549, "I": 0.488451}
SUBSTANCES = {
    "soft": SOFT_TISSUE,
    "bone": CORTICAL_BONE,
    "titanium": {"Ti": 1.0},
    "iron": {"Fe": 1.0},
    "aluminum": {"Al": 1.0},
    "copper": {"Cu": 1.0},
    "cesium_iodide": CESIUM_IODIDE,
}


def main() -> None:
    """Write `spectra.csv` and `mass_attenuation.csv`."""
    import spekpy
    import xraydb

    columns = []
    for kilovolts in KILOVOLTS:
        spectrum = spekpy.Spek(kvp=kilovolts, th=ANODE_DEG, physics="casim", dk=0.5)
        spectrum.filter("Al", INHERENT_ALUMINUM_MM)
        energy_kev, photons = spectrum.get_spectrum(edges=False)
        edges = np.append(ENERGIES_KEV - BIN_KEV / 2, ENERGIES_KEV[-1] + BIN_KEV / 2)
        counts = np.histogram(energy_kev, edges, weights=photons)[0]
        columns.append(counts / counts.sum())
    _write("spectra.csv", [f"kv{kilovolts}" for kilovolts in KILOVOLTS], columns, "photons per bin, sum 1")
    per_gram = [
        sum(share * xraydb.mu_elam(element, 1000 * ENERGIES_KEV) for element, share in parts.items()) / sum(parts.values())
        for parts in SUBSTANCES.values()
    ]
    _write("mass_attenuation.csv", list(SUBSTANCES), per_gram, "square centimeters per gram")


def _write(name: str, titles: list[str], columns: list[np.ndarray], what: str) -> None:
    header = f"{what}; energy in kiloelectronvolts, middle of the bin\n" + ",".join(["energy_kev", *titles])
    np.savetxt(FOLDER / name, np.column_stack([ENERGIES_KEV, *columns]), "%.5g", ",", header=header, comments="# ", encoding="utf-8")


if __name__ == "__main__":
    main()
