"""Ending a process together with all that it has started, on any system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

WATCH_SECONDS = 1.0


def own_group() -> dict[str, Any]:
    """Return the Popen arguments that give a child its own process group (and no console window on Windows)."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def kill_tree(process_id: int) -> None:
    """End a process that was started with `own_group`, and all that it has started."""
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/T", "/F", "/PID", str(process_id)], capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False
        )
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process_id, signal.SIGKILL)


def end_with_parent(parent_id: int) -> None:
    """Let this process, started with `own_group`, end with all that it has started as soon as its parent is gone.

    On Windows, there is nothing to do: whoever ends the parent there with `kill_tree` ends all below.
    """
    if sys.platform == "win32":
        return

    def watch() -> None:
        while os.getppid() == parent_id:
            time.sleep(WATCH_SECONDS)
        kill_tree(os.getpid())

    threading.Thread(target=watch, daemon=True, name="end with parent").start()
