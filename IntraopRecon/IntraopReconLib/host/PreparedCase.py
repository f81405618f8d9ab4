"""What the worker tells of a case's X-rays, read as values. Imports nothing that a desktop Slicer lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host import ResultFiles

_REMEDY = "Choose the X-rays again."


@dataclass(frozen=True)
class Bead:
    """A bead in an X-ray.

    Attributes:
        column, row: Center in pixels of the stored image; 0 is the center of the first pixel.
        radiusPx: Radius.
        size: `small` or `large`.
        origin: `detected`, `by hand`, or `expected`: where the pose puts one that was not found.
        number: Of the jig's bead that it is, counted from 1; None where the pose explains it by none.
        residualPx: From the bead to where the pose has it, (columns, rows); None where it is not explained.
    """

    column: float
    row: float
    radiusPx: float
    size: str
    origin: str
    number: int | None = None
    residualPx: tuple[float, float] | None = None


@dataclass(frozen=True)
class XrayCard:
    """An X-ray of a case.

    Attributes:
        name: What messages call it.
        key: What its files are called.
        sizePx: (columns, rows) of the stored image.
        thumbnail, picture: PNG files.
        anglesDeg: Primary (LAO positive) and secondary (CRA positive) angle of the C-arm, if they are known.
        grade: Of the calibration: `green`, `amber`, `red`, or empty.
        rmsPx: Residual of the calibration, if it is known.
        hasPose: Whether poses.json has a pose for it.
        isCalibrated: Whether the calibration has looked at it.
        isByHand: Whether its beads were placed by hand.
        beads: As the calibration left them.
        problems: Sentences.
    """

    name: str
    key: str
    sizePx: tuple[int, int]
    thumbnail: Path
    picture: Path
    anglesDeg: tuple[float, float] | None
    grade: str
    rmsPx: float | None
    hasPose: bool
    isCalibrated: bool
    isByHand: bool
    beads: tuple[Bead, ...]
    problems: tuple[str, ...]

    @property
    def isUsable(self) -> bool:
        """Whether a reconstruction takes it, unless the user skips it."""
        return self.hasPose and self.grade != "red"


@dataclass(frozen=True)
class PreparedCase:
    """A case as the panel shows it.

    Attributes:
        folder: The case folder.
        views: In the order of their files.
        notes: What is wrong with files beside the X-rays, sentences.
    """

    folder: Path
    views: tuple[XrayCard, ...]
    notes: tuple[str, ...]

    def view(self, name: str) -> XrayCard | None:
        """Return the view of this name, the first one if there is none."""
        return next((view for view in self.views if view.name == name), self.views[0] if self.views else None)


def readPrepared(folder: Path, description: Path) -> PreparedCase:
    """Read what the worker's request `describe` has written.

    Args:
        folder: The case folder.
        description: Its file xrays.json.

    Raises:
        InputError: The file is missing or damaged.
    """
    data = ResultFiles.readReport(description, _REMEDY)
    try:
        views = tuple(_card(view, description.parent) for view in data["views"])
        return PreparedCase(Path(folder), views, tuple(data["notes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{description} is damaged.", _REMEDY) from error


def _card(view: dict[str, Any], folder: Path) -> XrayCard:
    angles = view["angles_deg"]
    return XrayCard(
        name=view["name"],
        key=view["key"],
        sizePx=tuple(view["size_px"]),
        thumbnail=folder / view["thumbnail"],
        picture=folder / view["picture"],
        anglesDeg=None if angles is None else tuple(angles),
        grade=view["grade"],
        rmsPx=view["reprojection_rms_px"],
        hasPose=view["has_pose"],
        isCalibrated=view["is_calibrated"],
        isByHand=view["placed_by_hand"],
        beads=tuple(_bead(bead) for bead in view["beads"]),
        problems=tuple(view["problems"]),
    )


def _bead(bead: dict[str, Any]) -> Bead:
    residual = bead["residual_px"]
    return Bead(
        *bead["center_px"],
        radiusPx=bead["radius_px"],
        size=bead["size"] or "",
        origin=bead["origin"],
        number=bead["number"],
        residualPx=None if residual is None else tuple(residual),
    )
