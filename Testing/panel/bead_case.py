"""A small case whose X-rays show metal balls, for the tests of the panel's first steps."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "Testing" / "core"))  # its calibrate_scenes

from calibrate_scenes import ANGLES, make_bead_case  # noqa: E402

VIEWS = len(ANGLES)
READ_S = 60


def bead_case(folder: Path) -> Path:
    """Write five X-rays of ten balls, and where the balls are, into a case folder."""
    make_bead_case(folder)
    return folder


def open_step(button) -> None:
    """Open a step of the panel, which closes the others."""
    from Testing.host.hands import click

    if button.collapsed:
        click(button)


def read_case(panel, folder: Path) -> None:
    """Type the path of a case and wait until its X-rays are in the table."""
    from Testing.host.hands import wait_until, write

    open_step(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(folder))
    wait_until(lambda: panel.panel.prepared is not None and panel.ui.viewsTable.rowCount == VIEWS, READ_S)
