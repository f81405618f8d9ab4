"""A worker for tests: `python -m small_worker`. Needs nothing but SparseAnatomyLib, so that it starts at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.protocol import PREFIX
from SparseAnatomyLib.worker import Job, serve


def echo(job: Job) -> dict[str, str]:
    """Write the text it is given."""
    path = Path(job.text("path"))
    path.write_text(job.text("text"))
    return {"text": str(path)}


def long(job: Job) -> dict[str, str]:
    """Report until it is cancelled."""
    Path(job.text("path")).write_text("running")
    while True:
        job.report(0.5, "working")
        time.sleep(0.01)


def deaf(job: Job) -> dict[str, str]:
    """Never report, with a child process that must not survive."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(job.text("path")).write_text(str(child.pid))
    job.report(0.0, "from now on deaf")
    while True:
        time.sleep(0.01)


def chatter(job: Job) -> dict[str, str]:
    """Print in every way a library can, what it can make look like an event included."""
    print("a library says hello")
    print(PREFIX + '{"event": "result", "paths": {}}', flush=True)
    os.write(1, b"from C, without an end of line")
    os.write(2, b"\xff\xfe binary on stderr")
    sys.stdout.write("x" * 3_000_000)
    sys.stdout.flush()
    job.report(1.0, "done")
    return {"stdin": repr(sys.stdin.read())} if job.payload.get("read") else {}


def promise(job: Job) -> dict[str, str]:
    """Name a file that is not there."""
    return {"volume": job.text("path")}


def preview(job: Job) -> dict[str, str]:
    """Announce one preview that is there and one that is not."""
    job.preview(Path(__file__))
    job.preview(Path(__file__).with_name("missing"))
    job.warn("three views are dark")
    return {}


def fail(job: Job) -> dict[str, str]:
    """Raise what the payload names."""
    job.log_file = Path(job.payload["log"]) if "log" in job.payload else None
    raise {
        "input": InputError("View 3 is black.", "Take it again."),
        "memory": MemoryError(),
        "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        "disk": OSError(errno.ENOSPC, "No space left on device", "volume.nrrd"),
        "package": ModuleNotFoundError("No module named 'torch'", name="torch"),
        "internal": KeyError("a secret detail"),
        "exit": SystemExit(3),
    }[job.payload["error"]]


def die(job: Job) -> dict[str, str]:
    """End the process as a crash or the system would."""
    print("my last words", file=sys.stderr, flush=True)
    if job.payload["how"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(11)


HANDLERS = {f.__name__: f for f in (echo, long, deaf, chatter, promise, preview, fail, die)}

if __name__ == "__main__":
    sys.exit(serve(HANDLERS))
