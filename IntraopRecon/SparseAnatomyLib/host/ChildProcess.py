"""A Python child process that takes lines on stdin and gives lines on stdout (stderr merged), on any system, with its whole tree."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from SparseAnatomyLib.errors import ResourceError
from SparseAnatomyLib.process_tree import kill_tree, own_group
from SparseAnatomyLib.protocol import read_lines

_CHATTER_LINES = 200
_LAST_WORDS_S = 0.5  # a dead process's last lines may still be on their way through the pipe


class ChildProcess:
    """A running `python -m module`.

    Attributes:
        chatter: The last lines that were no events; whoever parses the lines puts them here.
    """

    def __init__(self, module: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            module: Name of the module.
            arguments: What follows it on the command line.
            environment: The child's; None for ours, with the libraries of the extension on its PYTHONPATH.

        Raises:
            ResourceError: The system refuses, or there is no Python to start it with.
        """
        self.chatter: deque[bytes] = deque(maxlen=_CHATTER_LINES)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [pythonExecutable(), "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(module) if environment is None else dict(environment),
                **own_group(),
            )
        except OSError as error:
            message = f"The computing process could not be started: {error.strerror or error}."
            raise ResourceError(message, "Close other programs or restart the application, then try again.") from error
        self._reader = threading.Thread(target=self._read, daemon=True, name=module)
        self._reader.start()

    @property
    def isAlive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def hasEnded(self) -> bool:
        """Whether the process has ended or closed its stdout, and every line of it has been taken."""
        if self.isAlive and self._reader.is_alive():
            return False
        self._reader.join(_LAST_WORDS_S)
        return self._lines.empty()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def exitCode(self) -> int | None:
        """As subprocess gives it: negative for a signal; None while it runs."""
        return self._process.poll()

    def newLines(self) -> Iterator[bytes]:
        """Yield the lines that have come so far; those that are not asked for come next time."""
        # Slicer's event loop keeps Python's lock while it runs C++: without this pause the reader thread would never have its turn
        time.sleep(0.001)
        for _ in range(self._lines.qsize()):
            yield self._lines.get()

    def send(self, line: bytes) -> None:
        """Write to its stdin; a process that has died is no error here."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def end(self, grace_s: float = 0.0) -> None:
        """Close its stdin, wait a little for it to leave, then kill it with all its children."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        if grace_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        kill_tree(self._process.pid)
        self._process.wait()
        self._reader.join(_LAST_WORDS_S)

    def lastWords(self) -> str:
        """Return the chatter as text."""
        return b"\n".join(self.chatter).decode("utf-8", errors="backslashreplace") + "\n"

    def _read(self) -> None:
        with self._process.stdout as stream:
            for line in read_lines(stream):
                if line:
                    self._lines.put(line)


def pythonExecutable() -> str:
    """Return the Python that workers run on: this one, or Slicer's where this is the Slicer application.

    Slicer starts its own scripts with python-real. PythonSlicer launches it: that hides how it ends, and may not pass its stdin on.

    Raises:
        ResourceError: There is none.
    """
    if Path(sys.executable or "").stem.lower().startswith("python"):
        return sys.executable
    found = shutil.which("python-real") or shutil.which("PythonSlicer")
    if found is None:
        raise ResourceError("Slicer's own Python (PythonSlicer) is missing.", "Install Slicer again.")
    return found


def _environment(module: str) -> dict[str, str]:
    """Return the child's environment: ours, with the folders of both libraries on PYTHONPATH (never on our own)."""
    roots = [Path(__file__).parents[2]]
    spec = importlib.util.find_spec(module.split(".")[0])
    if spec is not None:
        places = spec.submodule_search_locations or [spec.origin or ""]
        roots += [Path(place).parent for place in places]
    inherited = os.environ.get("PYTHONPATH")
    paths = list(dict.fromkeys(str(root) for root in roots)) + ([inherited] if inherited else [])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
