"""A pose as a file states it, short of what that file leaves to the image: size, pixel pitch, source-detector distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from IntraopReconLib.core.calibration.poses import PosedImage
from SparseAnatomyLib.checks import check_array
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView

LARGEST_PITCH_DIFFERENCE = 0.05  # between the ratio of the pitches that a matrix implies and that of the image
LEAST_CROSSING = 1e-3  # axes of views that are more parallel meet nowhere
LEAST_SINGULAR_VALUE = 1e-9  # beside the largest
LARGEST_ENTRY = 1e50  # of a projection matrix; beyond, its products overflow
NOTICED_PX = 0.05  # an error at the image's corner that a format may add


@dataclass(frozen=True)
class Detector:
    """What is known of an image and its camera before its pose.

    Attributes:
        size_px: (columns, rows).
        pixel_pitch_mm: Between columns and between rows, at the detector; None if unknown.
        source_to_detector_mm: SDD; None if unknown.
        principal_point_px: (column, row); None for the middle of the image.
    """

    size_px: tuple[int, int]
    pixel_pitch_mm: tuple[float, float] | None = None
    source_to_detector_mm: float | None = None
    principal_point_px: tuple[float, float] | None = None


class FilePose(Protocol):
    """One pose of a file.

    Attributes:
        where: What messages call it: the file and the view.
        image: Path of its image, if the file names it.
        frame: Frame within the image.
    """

    where: str
    image: str | None
    frame: int

    def view(self, detector: Detector, lps_from_file: np.ndarray) -> XrayView:
        """Return the view.

        Args:
            detector: What the file may lack.
            lps_from_file: [4, 4] similarity, from the file's coordinates (and unit of length) to LPS mm.

        Raises:
            InputError: The file and the image do not fit, or something is still lacking.
        """


@dataclass(frozen=True, eq=False)
class MatrixPose:
    """A 3×4 projection matrix.

    Attributes:
        where: What messages call it.
        matrix: [3, 4], from the file's coordinates to homogeneous pixels (column, row), 0 = center of the first pixel; positive depth
            before the source.
        size_px: (columns, rows), if the file states them.
        source_to_detector_mm: SDD, if the file states it.
        image: Path of the image, if the file names it.
        frame: Frame within the image.
    """

    where: str
    matrix: np.ndarray
    size_px: tuple[int, int] | None = None
    source_to_detector_mm: float | None = None
    image: str | None = None
    frame: int = 0

    def view(self, detector: Detector, lps_from_file: np.ndarray) -> XrayView:
        """Return the view; see `FilePose`."""
        if self.size_px is not None and tuple(self.size_px) != tuple(detector.size_px):
            stated, own = (f"{size[0]} × {size[1]}" for size in (self.size_px, detector.size_px))
            raise InputError(f"{self.where} is for {stated} pixels, but its image has {own}.", "Restore the original image, or its pose.")
        matrix = self.matrix @ np.linalg.inv(lps_from_file)
        in_front = matrix[2, :3] - np.linalg.solve(matrix[:, :3], matrix[:, 3])
        try:
            unit = XrayView.from_projection_matrix(matrix, detector.size_px, 1.0, in_front)
            return XrayView.from_projection_matrix(matrix, detector.size_px, self._distance_mm(unit, detector), in_front)
        except ValueError as error:
            raise InputError(f"{self.where} is no projection: {error}", "Check the program that wrote the file.") from error

    def _distance_mm(self, unit: XrayView, detector: Detector) -> float:
        """Return the SDD: as the file states it, or at which the pixels are as large as the image's, or as the image states it."""
        if self.source_to_detector_mm is not None:
            return self.source_to_detector_mm
        if detector.pixel_pitch_mm is not None:
            distances = np.asarray(detector.pixel_pitch_mm) / unit.pixel_pitch_mm
            if abs(distances[0] / distances[1] - 1) > LARGEST_PITCH_DIFFERENCE:
                message = f"{self.where}: the pixels are {unit.pixel_pitch_mm[0] / unit.pixel_pitch_mm[1]:.3g} times as wide as high"
                raise InputError(f"{message}, unlike those of its image.", "Check that the file belongs to these images.")
            return float(np.sqrt(distances.prod()))
        if detector.source_to_detector_mm is not None:
            return detector.source_to_detector_mm
        raise InputError(
            f"{self.where}: neither the file nor its image tells the pixel pitch or the source-detector distance.",
            'Name a file such as {"source_to_detector_mm": 1000, "pixel_pitch_mm": 0.2} with --intrinsics.',
        )


def oriented(matrices: np.ndarray) -> np.ndarray:
    """Return projection matrices with the signs that give points before the source a positive depth.

    A projection matrix and its negative show the same picture. What the views look at, the point closest to all their axes, lies before
    every source. Views with parallel axes are taken to look at the origin of the coordinates.

    Args:
        matrices: [view, 3, 4], each with an invertible left block.

    Returns:
        [view, 3, 4], the third row's first three numbers of unit length, so that the depth is in the unit of the coordinates.

    Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 6.2.3, "Depth of points".
    """
    matrices = matrices / np.linalg.norm(matrices[:, 2, :3], axis=1)[:, None, None]
    sources = -np.linalg.solve(matrices[:, :, :3], matrices[:, :, 3:])[..., 0]
    point = meeting_point(sources, matrices[:, 2, :3])
    if point is None:
        point = np.zeros(3)
    depths = np.einsum("nk,nk->n", matrices[:, 2, :3], point - sources)
    return matrices * np.where(depths < 0, -1.0, 1.0)[:, None, None]


def meeting_point(sources: np.ndarray, axes: np.ndarray, least_crossing: float = LEAST_CROSSING) -> np.ndarray | None:
    """Return the point [3] closest to the lines from sources [view, 3] along unit axes [view, 3].

    None if they are too parallel: if the least eigenvalue of the mean projection across them, (1 - cos(angle)) / 2 for two lines, is below
    `least_crossing`.
    """
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = across.sum(0)
    if len(axes) < 2 or np.linalg.eigvalsh(system)[0] < least_crossing * len(axes):
        return None
    return np.linalg.solve(system, np.einsum("nij,nj->i", across, sources))


def check_matrix(where: str, matrix: np.ndarray) -> None:
    """Raise an InputError unless a [3, 4] matrix projects from a point."""
    size = np.abs(matrix).max()
    if not 1 / LARGEST_ENTRY < size < LARGEST_ENTRY:
        raise InputError(f"{where} is no projection: its largest number is {size:.3g}.", "Check the program that wrote the file.")
    values = np.linalg.svd(matrix[:, :3] / size, compute_uv=False)
    if not values[-1] > LEAST_SINGULAR_VALUE * values[0]:
        raise InputError(f"{where} is no projection: its left 3×3 block is singular.", "Check the program that wrote the file.")


def numbers(what: str, value: Any, shape: tuple[int, ...], remedy: str) -> np.ndarray:
    """Return finite numbers out of JSON or out of split text.

    Raises:
        InputError: Another shape, words, truth values, NaN or infinity.
    """
    flat: list[Any] = [value]
    while any(isinstance(one, list) for one in flat):
        flat = [inner for one in flat for inner in (one if isinstance(one, list) else [one])]
    try:
        if any(not isinstance(one, int | float) or isinstance(one, bool) for one in flat):
            raise ValueError
        return check_array(what, value, shape)
    except (ValueError, OverflowError) as error:
        count = " × ".join(map(str, shape)) or "one"
        raise InputError(f"{what}: expected {count} finite numbers.", remedy) from error


def check_rectangular(what: str, posed: PosedImage) -> None:
    """Raise an InputError if a view has slanted pixels, which a format cannot state."""
    intrinsics = posed.view.intrinsics_px
    if abs(intrinsics[0, 1] / intrinsics[1, 1]) * posed.size_px[1] > NOTICED_PX:
        raise InputError(f"{posed.image}: its columns and rows are not perpendicular, which {what} cannot state.", "Choose matrices.")


def file_stem(image: str, frame: int, frames: Sequence[int]) -> str:
    """Return what a file for one frame of an image is named; `frames` are all frames of that image.

    An ending goes, but not a number: of images named by their identifiers (1.2.840.1, 1.2.840.2) it is what tells them apart.
    """
    name = image.rsplit("/", 1)[-1]
    stem, _, ending = name.rpartition(".")
    stem = stem if stem and not ending.isdigit() else name
    return stem if len(frames) == 1 else f"{stem}_frame{frame:03d}"
