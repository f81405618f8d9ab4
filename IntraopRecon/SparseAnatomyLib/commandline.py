"""What every command shares: a progress bar, one sentence for an error, and the exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .failures import explain
from .threads import let_idle_threads_sleep

DONE = 0


def run_command(command: Callable[[], None]) -> int:
    """Run a command and return its exit code: 0 done, 2 bad input, 3 cancelled, 4 resources, 1 anything else.

    An error becomes its sentence and its remedy on stderr; a traceback goes to a log file that the remedy names.
    """
    let_idle_threads_sleep()
    try:
        command()
    except (Exception, KeyboardInterrupt) as error:
        known = explain(error)
        print(f"Error: {known.message}" if known.kind != "cancelled" else known.message, file=sys.stderr)
        if known.remedy:
            print(known.remedy, file=sys.stderr)
        return known.exit_code
    return DONE


@contextmanager
def progress_bar() -> Iterator[Callable[..., None]]:
    """Give a `report(fraction, message, preview=None)` that moves a bar on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def report(fraction: float, message: str, preview: Any = None) -> None:
            progress.update(task, completed=fraction, description=message)

        yield report
