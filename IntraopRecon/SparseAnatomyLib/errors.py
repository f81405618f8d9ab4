"""What can go wrong in a way that a user can act on.

Each error is one sentence for a clinician (what is wrong, with which file, view or field) and one for the remedy. The worker
sends both to the panel, the commands print both and end with `exit_code`.
"""

from __future__ import annotations


class SparseAnatomyError(Exception):
    """An error with a remedy; `kind` is the protocol's failure kind, `exit_code` the command's."""

    kind = "internal"
    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(SparseAnatomyError):
    """The user can mend it: the message names the file, view or field."""

    kind = "input"
    exit_code = 2


class Cancelled(SparseAnatomyError):
    """The user asked to stop; raised by `report` and passed through the core untouched."""

    kind = "cancelled"
    exit_code = 3

    def __init__(self, message: str = "Cancelled.", remedy: str = "") -> None:
        super().__init__(message, remedy)


class ResourceError(SparseAnatomyError):
    """The machine cannot: memory, disk or GPU."""

    kind = "resource"
    exit_code = 4
