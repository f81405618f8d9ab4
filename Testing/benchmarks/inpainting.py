"""What is left where beads were taken out of real X-rays, beside X-rays at the same pose without the phantom.

    python -m Testing.benchmarks.inpainting [--data DIR] [--pictures FOLDER]

Writes Testing/benchmarks/results/inpainting.json and prints its table. The pictures stay with whoever has the X-rays: those do not ship.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter, shift

from IntraopReconLib.core.calibration.beads import Bead, find_beads
from IntraopReconLib.core.calibration.inpaint import Inpainted, inpaint
from IntraopReconLib.core.calibration_config import BeadSettings
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import AttenuationImage, attenuation

from .provenance import provenance, write_result
from .scenes import REPOSITORY
from .table import provenance_line, table

RESULT = REPOSITORY / "Testing" / "benchmarks" / "results" / "inpainting.json"
HEADER = ("pose", "beads", "RMS in the holes, beads in", "taken out", "noise of the untouched image")
NOISE_PX = 1.5  # what is finer counts as noise
CROP_PX = 420


@dataclass(frozen=True)
class Pair:
    """Two X-rays of a spine at one pose.

    Attributes:
        pose: As in the file names.
        with_beads, without: Names of the files in `carm`.
        moved_px: How far the second stands beside the first, (rows, columns); found by registration.
    """

    pose: str
    with_beads: str
    without: str
    moved_px: tuple[float, float] = (0.0, 0.0)


PAIRS = (
    Pair("Centered_0", "Fiducial_Centered_0_Spine_01.dcm", "NA_Centered_0_Spine_01.dcm"),
    Pair("Orbit_30", "Fiducial_Orbit_30_Spine_02.dcm", "NA_Orbit_30_Spine_01.dcm", (0.1, 1.15)),
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the holes hold, as attenuation; RMS over them.

    Attributes:
        beads: Detected.
        result: The image with its beads taken out.
        before, untouched: The image with beads, and the one without, [row, column].
        beaded_rms, filled_rms: From the untouched image, with the beads and without.
        noise_rms: Of the untouched image there.
    """

    beads: list[Bead]
    result: Inpainted
    before: np.ndarray
    untouched: np.ndarray
    beaded_rms: float
    filled_rms: float
    noise_rms: float


def compare(folder: Path, pair: Pair) -> Comparison:
    """Take the beads out and compare the holes with the untouched image, whose gain and offset are taken from around each bead.

    What is left includes the phantom's plastic, which the untouched image lacks.

    Args:
        folder: With the X-rays.
        pair: Which.
    """
    with_beads, without = _image(folder / pair.with_beads), _image(folder / pair.without)
    both = with_beads.mask & without.mask
    untouched = shift(without.attenuation, pair.moved_px, order=1) if any(pair.moved_px) else without.attenuation
    beads = find_beads(with_beads.attenuation, with_beads.mask, BeadSettings(polarity="bright"))
    result = inpaint(with_beads.attenuation, with_beads.mask, beads)
    row, column = np.indices(both.shape)
    squares = []
    for bead in beads:
        distance = np.hypot(column - bead.center_px[0], row - bead.center_px[1])
        inside = (distance < 2 * bead.radius_px) & result.hole & both
        around = (distance < 1.25 * bead.radius_px + 12) & result.mask & both
        gain, offset = np.polyfit(untouched[around], with_beads.attenuation[around], 1)
        expected = gain * untouched + offset
        fine = untouched - gaussian_filter(untouched, NOISE_PX)
        errors = (with_beads.attenuation - expected)[inside], (result.image - expected)[inside]
        squares.append([*(np.mean(error**2) for error in errors), fine[inside].var()])
    rms = (float(value) for value in np.sqrt(np.mean(squares, axis=0)))
    return Comparison(beads, result, with_beads.attenuation, untouched, *rms)


def _image(path: Path) -> AttenuationImage:
    (radiograph,) = read_radiographs(path)
    return attenuation(radiograph)


def draw(found: Comparison, path: Path) -> None:
    """Draw the part around the beads: with them, without them, and the untouched image."""
    column, row = np.median([bead.center_px for bead in found.beads], axis=0).astype(int)
    part = tuple(slice(max(place - CROP_PX // 2, 0), place + CROP_PX // 2) for place in (row, column))
    low, high = np.percentile(found.result.image[part], (1, 99.5))
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.4), layout="constrained")
    titles = ("with beads", "beads taken out", "another X-ray, without the phantom")
    for axis, image, title in zip(axes, (found.before, found.result.image, found.untouched), titles, strict=True):
        axis.imshow(image[part], cmap="gray", vmin=low, vmax=high)
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def markdown(result: dict[str, Any]) -> str:
    """Return the table."""
    keys = ("beaded_rms", "filled_rms", "noise_rms")
    lines = [[row["pose"], str(row["beads"]), *(f"{row[key]:.3f}" for key in keys)] for row in result["rows"]]
    return f"{table(HEADER, lines)}\n\n{provenance_line(result['provenance'])}"


def main() -> int:
    """Measure all pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder that holds carm/")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each pair")
    options = parser.parse_args()
    rows = []
    for pair in PAIRS:
        found = compare(options.data / "carm", pair)
        figures = {key: getattr(found, key) for key in ("beaded_rms", "filled_rms", "noise_rms")}
        rows.append({"pose": pair.pose, "beads": len(found.beads), **figures})
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            draw(found, options.pictures / f"{pair.pose}.png")
    result = {"provenance": provenance(1, sys.argv[1:], "inpainting"), "rows": rows}
    write_result(RESULT, result)
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
