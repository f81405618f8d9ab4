"""The HTML pages of the reports: templates beside this file, filled by Jinja2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from SparseAnatomyLib.textfiles import writable

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> Template:
    """Return the template of that file name; what it shows is escaped, and a name that it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": _number, "writable": writable}
    return environment.get_template(name)


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
