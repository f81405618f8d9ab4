"""A case folder: X-ray images and their poses, joined into the views that a reconstruction works on."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.provenance import sha256

from .calibration.calibration_file import FILE, FOLDER, CalibrationRecord, read_record
from .calibration.distortion import Distortion
from .calibration.inpaint import inpaint
from .calibration.poses import PosedImage, read_poses
from .xrays.dicom import read_radiographs
from .xrays.radiograph import AttenuationImage, MeasuredView, Radiograph, attenuation
from .xrays.stored import StoredFacts, stored_facts

if TYPE_CHECKING:
    from .standardized_case import Standardization

LEAST_VIEWS = 2
POSES_FILE = "poses.json"
XRAYS_FOLDER = "xrays"
_AGAIN = "Calibrate the case again."
_OR_WITHOUT = "Calibrate the case again, or remove its folder calibration if the poses are for the images as they are."


@dataclass(frozen=True, eq=False)
class Case:
    """What a case folder holds, ready for reconstruction.

    Attributes:
        folder: The case folder.
        views: Calibrated views, in the order of `poses.json`.
        warnings: What was left out or had to be assumed, a sentence each.
        input_hashes: SHA-256 of every file that was used, by its path within the case folder.
        standardization: What was done to the views before they are reconstructed; None if nobody looked yet.
    """

    folder: Path
    views: list[MeasuredView]
    warnings: list[str]
    input_hashes: dict[str, str]
    standardization: Standardization | None = None


def load_case(folder: Path, skipped: Collection[str] = ()) -> Case:
    """Read the images and poses of a case.

    Images without a pose and views that the calibration graded red are left out with a warning. Where `calibration/calibration.json` tells
    which beads an image shows, they are taken out of it and out of its mask; distortion that the calibration corrected is corrected where
    the pose is the one that it found.

    Args:
        folder: Holds `xrays/` and `poses.json`, as INTERFACES states.
        skipped: Names of X-rays that the user leaves out.

    Returns:
        The views with their attenuation and geometry.

    Raises:
        InputError: A file is missing or damaged, a pose does not fit its image, or fewer than two views remain; names the file or view.
        ResourceError: The images do not fit into memory.
    """
    folder = Path(folder)
    check_case_folder(folder)
    if not any(folder.iterdir()):
        raise InputError(f"The case folder {folder.name or folder} is empty.", f"It needs {XRAYS_FOLDER}/ with X-rays and {POSES_FILE}.")
    poses = read_poses(folder / POSES_FILE)
    radiographs = _radiographs(folder, poses)
    record = read_record(folder)
    warnings = _unposed(radiographs, poses)
    views, used, done = [], {POSES_FILE}, _Done()
    for posed in poses:
        radiograph = radiographs[posed.image, posed.frame]
        if radiograph.name in skipped:
            warnings.append(f"{radiograph.name} was left out, as you chose.")
            continue
        if posed.grade == "red":
            warnings.append(f"{radiograph.name} was left out: its calibration is graded red.")
            continue
        _check_size(radiograph, posed)
        image = attenuation(radiograph, posed.air_intensity)
        facts = stored_facts(radiograph, image)
        warnings += [*radiograph.warnings, *image.warnings]
        if record is not None:
            image, facts = _as_calibrated(posed, radiograph, (image, facts), record, done)
            used.add(f"{FOLDER}/{FILE}")
        views.append(MeasuredView(radiograph.name, image.attenuation, image.mask, posed.view, _pose_sigma_mm(posed), facts))
        used.add(posed.image)
    warnings += done.sentences()
    if len(views) < LEAST_VIEWS:
        count = "no usable view" if not views else "one usable view"
        raise InputError(f"The case {folder.name} has {count}, but at least two are needed.", "Add X-rays, or calibrate the case again.")
    return Case(folder, views, warnings, {name: sha256(folder / name) for name in sorted(used)})


def check_case_folder(folder: Path) -> None:
    """Check that a case folder is there.

    Raises:
        InputError: It is not, or is a file.
    """
    if os.path.isdir(folder):  # of a path too long for a file system, Path.is_dir raises an OSError
        return
    is_file = os.path.isfile(folder)
    remedy = f"Give the folder that holds {XRAYS_FOLDER}/." if is_file else "Check the name of the folder."
    raise InputError(f"The case folder {folder.name or folder} {'is a file' if is_file else 'does not exist'}.", remedy)


@dataclass
class _Done:
    """What was done to the images with the help of a calibration, by their names."""

    cleaned: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unsolved: list[str] = field(default_factory=list)
    distorted: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Return it in words."""
        found = [f"{name} has changed since it was calibrated: its beads were not taken out. {_AGAIN}" for name in self.changed]
        if self.unsolved:
            said = f"The last calibration found no pose for {_several(self.unsolved)}: beads and distortion were left as they are."
            found.append(f"{said} {_OR_WITHOUT}")
        if self.distorted:
            said = f"Distortion was not corrected in {_several(self.distorted)}: the pose is not the one that the calibration found."
            found.append(f"{said} {_OR_WITHOUT}")
        if self.cleaned:
            count = f"{len(self.cleaned)} X-ray{'s' if len(self.cleaned) > 1 else ''}"
            found.append(f"Beads were taken out of {count}: what lay behind them does not count.")
        return found


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more X-ray{'s' if len(names) > 2 else ''}"


def _as_calibrated(
    posed: PosedImage, radiograph: Radiograph, seen: tuple[AttenuationImage, StoredFacts], record: CalibrationRecord, done: _Done
) -> tuple[AttenuationImage, StoredFacts]:
    """Return image and facts without beads and distortion, as far as the calibration saw this very image and its pose is that one."""
    recorded = record.views.get((radiograph.image, radiograph.frame))
    image, facts = seen
    if recorded is None:
        return seen
    if recorded.sha256 != sha256(radiograph.path):
        done.changed.append(radiograph.name)
        return seen
    if not recorded.has_pose:  # of a run that failed: its beads may be none, and the pose is another run's
        done.unsolved.append(radiograph.name)
        return seen
    if recorded.beads:
        without = inpaint(image.attenuation, image.mask, recorded.beads)
        image = replace(image, attenuation=without.image, mask=without.mask)
        done.cleaned.append(radiograph.name)
    if record.distortion is None:
        return image, facts
    if not recorded.is_posed_as(posed.view):
        done.distorted.append(radiograph.name)
        return image, facts
    line_integrals, mask = record.distortion.corrected_image(image.attenuation, image.mask)
    return replace(image, attenuation=line_integrals, mask=mask), _corrected(facts, record.distortion)


def _corrected(facts: StoredFacts, distortion: Distortion) -> StoredFacts:
    """Return the facts of an image after its distortion was corrected: what is drawn on it has moved."""
    if facts.graphics is None:
        return facts
    moved, _ = distortion.corrected_image(facts.graphics.astype(np.float32), np.ones(facts.graphics.shape, bool))
    return replace(facts, graphics=moved > 0)


def _pose_sigma_mm(posed: PosedImage) -> float | None:
    """Return how far the pose may be off at the isocenter: the calibration's residual on the detector, which is as much again or more."""
    return None if posed.reprojection_rms_px is None else posed.reprojection_rms_px * float(posed.view.pixel_pitch_mm.mean())


def _radiographs(folder: Path, poses: list[PosedImage]) -> dict[tuple[str, int], Radiograph]:
    """Return the images of the case by path and frame: all of `xrays/`, and posed images that lie elsewhere in the folder."""
    xrays = folder / XRAYS_FOLDER
    found = read_radiographs(xrays, folder) if xrays.is_dir() else []
    radiographs = {(radiograph.image, radiograph.frame): radiograph for radiograph in found}
    for image in dict.fromkeys(posed.image for posed in poses):
        _check_file(folder, image)
        if (image, 0) not in radiographs:
            radiographs |= {(image, radiograph.frame): radiograph for radiograph in read_radiographs(folder / image, folder)}
    for posed in poses:
        if (posed.image, posed.frame) not in radiographs:
            raise InputError(
                f"{POSES_FILE} has a pose for frame {posed.frame} of {posed.image}, but the file has no such frame.",
                "Frames count from 0; correct the frame or remove the pose.",
            )
    return radiographs


def _check_file(folder: Path, image: str) -> None:
    """Raise an InputError unless the posed image is a file inside the case folder, links followed."""
    try:
        exists = (folder / image).is_file()
    except OSError:  # such as a name that is too long
        exists = False
    if not exists:
        raise InputError(f"{POSES_FILE} has a pose for {image}, but there is no such image.", "Add the image, or remove its pose.")
    if not (folder / image).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{POSES_FILE}: {image} leads outside the case folder.", "Keep the images inside the case folder.")


def _unposed(radiographs: dict[tuple[str, int], Radiograph], poses: list[PosedImage]) -> list[str]:
    """Return a warning for each image that no pose belongs to."""
    posed = {(image.image, image.frame) for image in poses}
    return [
        f"{radiograph.name} was left out: {POSES_FILE} has no pose for it." for key, radiograph in radiographs.items() if key not in posed
    ]


def _check_size(radiograph: Radiograph, posed: PosedImage) -> None:
    if radiograph.size_px != posed.size_px:
        columns, rows = radiograph.size_px
        raise InputError(
            f"{radiograph.name} has {columns} × {rows} pixels, but its pose is for {posed.size_px[0]} × {posed.size_px[1]}.",
            "Restore the original image, or calibrate the case again.",
        )
