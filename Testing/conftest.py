"""What every test shares: thread counts, off-screen drawing, and where the data that do not ship are found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Before numba, torch, VTK or Qt are imported, here and in the worker processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small steps on a loaded machine run many times slower with more
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands and the worker set it
os.environ.setdefault("NUMBA_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("MPLBACKEND", "Agg")
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkOSOpenGLRenderWindow")

# pytest puts this folder on sys.path, where slicer-core would take Testing/slicer for a part of its package `slicer`.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose tests wait for workers and desktops: worker, slicer, panel, then core, whose files are short."""
    items.sort(key=lambda item: item.path.parent.name, reverse=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of data that do not ship; skip where it is absent."""
    folder = Path(os.environ.get("SPARSEANATOMY_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs the data folder {folder} (say where it is with SPARSEANATOMY_DATA)")
    return folder


@pytest.fixture(scope="session")
def sample_case() -> Path:
    """Return the sample case that ships."""
    return REPOSITORY / "Resources" / "SampleCase"
