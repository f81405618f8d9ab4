"""What a user writes into a ctkPathLineEdit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def followPath(edit: Any, told: Callable[[str], None]) -> None:
    """Tell the path of a ctkPathLineEdit whenever it changes, also when it is cleared: its currentPathChanged keeps silent about that."""
    edit.connect("currentPathChanged(QString)", told)
    edit.connect("validInputChanged(bool)", lambda isValid: None if isValid else told(""))
