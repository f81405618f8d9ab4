"""The module scripts in the test host, and what their panel files hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from Testing.host.desktop import Desktop

NAMES = ("IntraopRecon", "ShapeCompletion")


def load_modules(repository: Path, running: Desktop) -> None:
    """Load both module scripts as Slicer would."""
    running.load(*(repository / name / f"{name}.py" for name in NAMES))


def widgets(repository: Path, name: str) -> dict[str, ElementTree.Element]:
    """Return the widgets of a module's panel by name."""
    root = ElementTree.parse(repository / name / "Resources" / "UI" / f"{name}.ui").getroot()
    return {widget.get("name"): widget for widget in root.iter("widget")}


def used_widgets(repository: Path, name: str) -> set[str]:
    """Return the names of the widgets that a module script uses."""
    return set(re.findall(r"self\.ui\.(\w+)", (repository / name / f"{name}.py").read_text()))


def choices(widget: ElementTree.Element) -> tuple[str, ...]:
    """Return the items of a combo box."""
    return tuple(item.findtext("property/string") for item in widget.iter("item"))
