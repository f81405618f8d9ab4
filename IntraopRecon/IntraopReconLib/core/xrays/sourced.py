"""A value that remembers where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Value = TypeVar("Value")
Origin = Literal["tag", "file", "user", "assumed"]


@dataclass(frozen=True)
class Sourced(Generic[Value]):
    """A value and where it came from, such as `tag (0018,1164) Imager Pixel Spacing`."""

    value: Value
    origin: Origin
    detail: str = ""
