"""Installs the extension flat, as Slicer does, and runs a module's self-test from there: `python flat_install.py FOLDER MODULE`."""

from __future__ import annotations

import re
import shutil
import sys
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("IntraopRecon", "ShapeCompletion")


def listed(cmake: str, variable: str) -> list[str]:
    """Return the files that a CMake list names."""
    return re.search(rf"set\({variable}\n(.*?)\n\s*\)", cmake, re.DOTALL).group(1).split()


def install(folder: Path) -> None:
    """Copy what both modules' CMake lists name, and the data of the extension, into one folder."""
    for name in MODULES:
        cmake = (REPOSITORY / name / "CMakeLists.txt").read_text()
        for path in listed(cmake, "MODULE_PYTHON_SCRIPTS") + listed(cmake, "MODULE_PYTHON_RESOURCES"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name / path, folder / path)
    for path in re.search(r"set\(_data (.*?)\)", (REPOSITORY / "CMakeLists.txt").read_text()).group(1).split():
        shutil.copytree(REPOSITORY / path, folder / "Resources" / Path(path).name)


def run_self_test(folder: Path, name: str) -> unittest.TestResult:
    """Load both modules from the folder and run a module's tests as slicer.testing does."""
    own = [str(REPOSITORY / module) for module in MODULES]
    sys.path[:] = [str(folder), str(REPOSITORY), *(path for path in sys.path if path not in own)]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
    from Testing.host.desktop import desktop

    with desktop() as running:
        running.app._testing = True
        running.load(*(folder / f"{module}.py" for module in MODULES))
        result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromName(name))
    for module in ("IntraopReconLib", "ShapeCompletionLib", "SparseAnatomyLib"):
        assert Path(sys.modules[module].__file__).is_relative_to(folder), sys.modules[module].__file__
    return result


if __name__ == "__main__":
    outcome = run_self_test(Path(sys.argv[1]), sys.argv[2])
    sys.exit(0 if outcome.wasSuccessful() and outcome.testsRun else 1)
