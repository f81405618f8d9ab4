"""What each X-ray of a case shows: its beads, found or placed by hand, and a rough pose if anything tells one.

Beads placed by hand: the file `calibration/beads_VIEW.mrk.json` of the case (Slicer point list; VIEW as in the name of the view's picture)
holds all beads of that X-ray, at (column, row, 0) in pixels, 0 = center of the first pixel. If it is there, it is taken instead of what was
detected: so a bead is added, moved or deleted by adding, moving or deleting a point. A label or description "large" gives the size class.
A list whose X-ray has been replaced is passed over (see `placed_beads`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from scipy import ndimage

from IntraopReconLib.core.calibration_config import BeadSettings
from IntraopReconLib.core.xrays.radiograph import AttenuationImage, Radiograph, attenuation
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.textfiles import writable

from .beads import Bead, find_beads
from .correspondence import BeadPoints
from .distortion import Distortion
from .fiducials import KIND_OF_SIZE, read_fiducials
from .jig_checks import Problem
from .poses import PosedImage

KEPT_PX = 0.05  # a point of a hand-made list this near to a detected bead is that bead
SMALLEST_HAND_RADIUS_PX = 3.0  # of a bead placed where none was detected to tell the size
BLACK_MARGIN = 0.1  # attenuation of pixels without counts above the darkest that was measured


@dataclass(frozen=True, eq=False)
class Shot:
    """One X-ray before its pose is known.

    Attributes:
        radiograph: The X-ray.
        key: What its files are called: `view_000` for xrays/view_000.dcm.
        image: Attenuation and mask; None where the X-ray is of no use.
        beads: In the image as it was measured.
        by_hand: Whether the beads were placed by hand.
        prior: Rough pose, camera from LPS [4, 4], of which the rotation counts; None if nothing is known.
        problem: Why there is no image.
    """

    radiograph: Radiograph
    key: str
    image: AttenuationImage | None
    beads: tuple[Bead, ...] = ()
    by_hand: bool = False
    prior: np.ndarray | None = None
    problem: Problem | None = None

    @property
    def pixel(self) -> np.ndarray:
        """Centers of the beads as they were measured, (column, row), [P, 2]."""
        return np.array([bead.center_px for bead in self.beads]).reshape(-1, 2)

    def points(self, distortion: Distortion | None) -> BeadPoints:
        """Return the beads for the search of the pose: corrected, with their size classes where the X-ray shows both."""
        pixel = self.pixel if distortion is None else distortion.corrected(self.pixel)
        sizes = [bead.size for bead in self.beads]
        kind = np.array([KIND_OF_SIZE[size] for size in sizes]) if len(set(sizes)) > 1 else None
        return BeadPoints(self.radiograph.name, pixel, kind, self.prior)


def view_keys(radiographs: Sequence[Radiograph]) -> list[str]:
    """Return a name for the files of each X-ray: its path within xrays/ without its ending, with the frame where there are several."""
    keys: list[str] = []
    frames = {radiograph.image for radiograph in radiographs if radiograph.frame > 0}
    for radiograph in radiographs:
        path = PurePosixPath(writable(radiograph.image))
        parts = path.parts[1:] if len(path.parts) > 1 else path.parts
        key = "_".join([*parts[:-1], path.stem if path.suffix.lower() == ".dcm" else path.name])
        key += f"_frame_{radiograph.frame}" if radiograph.image in frames else ""
        same = sum(other.casefold().partition("~")[0] == key.casefold() for other in keys)
        keys.append(f"{key}~{same + 1}" if same else key)
    return keys


def read_shot(radiograph: Radiograph, key: str, known: PosedImage | None, hand_list: Path | None, settings: BeadSettings) -> Shot:
    """Find the beads of an X-ray, or read those that were placed by hand.

    Args:
        radiograph: The X-ray.
        key: Its name for files.
        known: Its entry in an earlier `poses.json`: the intensity of air, and a rough pose.
        hand_list: Beads placed by hand, if there are any.
        settings: What counts as a bead.

    Raises:
        InputError: The hand-made list is damaged.
    """
    prior = np.linalg.inv(known.view.lps_from_camera) if known else positioner_prior(radiograph)
    try:
        image = attenuation(radiograph, known.air_intensity if known else None)
    except InputError as error:
        return Shot(radiograph, key, None, prior=prior, problem=Problem(error.message, error.remedy))
    beads = tuple(find_beads(*_with_black_beads(radiograph, image, settings), settings))
    shot = Shot(radiograph, key, image, beads, prior=prior)
    return shot if hand_list is None else _placed_by_hand(shot, hand_list)


def positioner_prior(radiograph: Radiograph) -> np.ndarray | None:
    """Return the pose that the positioner's angles tell for a patient on the back, head up in the image as seen from the source.

    Returns:
        Camera from LPS [4, 4], of which only the rotation is meant; None where an angle is missing.

    Source: DICOM PS3.3 C.8.7.5.1.2.
    """
    primary, secondary = radiograph.positioner_primary_deg, radiograph.positioner_secondary_deg
    if primary is None or secondary is None:
        return None
    orbit, tilt = np.deg2rad([primary.value, secondary.value])
    towards_detector = np.array([np.cos(tilt) * np.sin(orbit), -np.cos(tilt) * np.cos(orbit), np.sin(tilt)])
    columns = np.cross([0.0, 0.0, -1.0], towards_detector)
    length = np.linalg.norm(columns)
    if length < 1e-6:
        return None
    columns /= length
    return affine(np.stack([columns, np.cross(towards_detector, columns), towards_detector]), np.zeros(3))


def _with_black_beads(radiograph: Radiograph, image: AttenuationImage, settings: BeadSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return attenuation and mask in which beads that no photon passed are dark, not unknown."""
    unknown = radiograph.mask & ~image.mask & (radiograph.intensity < image.air_intensity.value / 2)
    if not unknown.any() or not image.mask.any():
        return image.attenuation, image.mask
    label, _ = ndimage.label(unknown, np.ones((3, 3)))
    largest = np.pi * (settings.largest_radius_share * min(image.mask.shape)) ** 2
    small = np.bincount(label.ravel()) <= largest
    small[0] = False
    black = small[label]
    level = image.attenuation[image.mask].max() + BLACK_MARGIN
    return np.where(black, np.float32(level), image.attenuation), image.mask | black


def _placed_by_hand(shot: Shot, path: Path) -> Shot:
    """Return the shot with the beads of a hand-made list; a detected bead that was left in its place keeps its measures."""
    placed = read_fiducials(path)
    columns, rows = shot.radiograph.size_px
    pixel = placed.position_lps_mm[:, :2]
    outside = np.flatnonzero(((pixel < -0.5) | (pixel > [columns - 0.5, rows - 0.5])).any(1))
    if len(outside):
        raise InputError(
            f"{path.name}: point {outside[0] + 1} lies outside {shot.radiograph.name}.", "Give column and row in pixels, counted from 0."
        )
    found = shot.pixel
    radius = float(np.median([bead.radius_px for bead in shot.beads])) if shot.beads else SMALLEST_HAND_RADIUS_PX
    beads = []
    for place, kind in zip(pixel, placed.kind, strict=True):
        distance = np.hypot(*(found - place).T) if len(found) else np.array([np.inf])
        nearest = int(distance.argmin())
        bead = Bead((float(place[0]), float(place[1])), radius, "small", 1.0, 0.0)
        if distance[nearest] <= KEPT_PX:
            bead = shot.beads[nearest]
        if kind:
            bead = replace(bead, size=next(size for size, number in KIND_OF_SIZE.items() if number == kind))
        beads.append(bead)
    return replace(shot, beads=tuple(beads), by_hand=True)


def poses_by_image(posed: Sequence[PosedImage]) -> Mapping[tuple[str, int], PosedImage]:
    """Return the entries of a pose file by image and frame."""
    return {(entry.image, entry.frame): entry for entry in posed}
