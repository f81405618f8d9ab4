"""What the worker tells of a standardization, read as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.host import ResultFiles

_REMEDY = "Standardize the X-rays again."
BEFORE, SHOWN = "before", ("bone", "taken_away", "uncertainty")


@dataclass(frozen=True)
class StandardizedView:
    """An X-ray before and after.

    Attributes:
        name: As the case calls it.
        sizePx: (columns, rows).
        used: `network`, `classical`, or `original` where it was left as it is.
        findings: What is odd about it, sentences.
        pictures: PNG files by kind: `before`, and those of SHOWN.
    """

    name: str
    sizePx: tuple[int, int]
    used: str
    findings: tuple[str, ...]
    pictures: dict[str, Path]


@dataclass(frozen=True)
class StandardizedPreview:
    """What a standardization makes of a case.

    Attributes:
        applies: Whether the X-rays are standardized.
        reason: Why, in a sentence.
        warnings: Sentences.
        views: By name; none if they are not standardized.
    """

    applies: bool
    reason: str
    warnings: tuple[str, ...]
    views: dict[str, StandardizedView]


def readPreview(path: Path) -> StandardizedPreview:
    """Read what the worker's request `preview_standardization` has written.

    Raises:
        InputError: The file is missing or damaged.
    """
    data = ResultFiles.readReport(path, _REMEDY)
    try:
        views = [
            StandardizedView(
                name=view["name"],
                sizePx=tuple(view["size_px"]),
                used=view["used"],
                findings=tuple(finding["reason"] for finding in view["findings"]),
                pictures={kind: path.parent / view["pictures"][kind] for kind in (BEFORE, *SHOWN)},
            )
            for view in data["views"]
        ]
        return StandardizedPreview(data["applies"], data["reason"], tuple(data["warnings"]), {view.name: view for view in views})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged.", _REMEDY) from error
