"""The extension installed flat as Slicer does it, and both self-tests run from there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from Testing.panel.flat_install import MODULES, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("Slicer") / "qt-scripted-modules"
    folder.mkdir()
    install(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_self_test_in_a_flat_install(installed: Path, name: str):
    program = Path(__file__).with_name("flat_install.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, str(program), str(installed), name], cwd=installed, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    assert re.search(r"Ran [1-9]\d* tests? ", result.stderr)


def test_cmake_registers_every_self_test(repository: Path):
    cmake = (repository / "Testing" / "CMakeLists.txt").read_text()
    for name in MODULES:
        assert f"slicer_add_python_unittest(SCRIPT ${{SparseAnatomy_SOURCE_DIR}}/{name}/{name}.py)" in cmake
        assert f"class {name}Test(ScriptedLoadableModuleTest)" in (repository / name / f"{name}.py").read_text()
