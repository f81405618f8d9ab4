"""What is not listed in CMakeLists.txt is not installed."""

from __future__ import annotations

import re
from pathlib import Path

INSTALLED = {".py", ".html", ".ui", ".png", ".json"}


def _listed(cmake: str, variable: str) -> list[str]:
    return re.search(rf"set\({variable}\n(.*?)\n\s*\)", cmake, re.DOTALL).group(1).split()


def test_cmake_lists_every_script_and_resource(repository: Path):
    module = repository / "IntraopRecon"
    cmake = (module / "CMakeLists.txt").read_text()
    scripts, resources = _listed(cmake, "MODULE_PYTHON_SCRIPTS"), _listed(cmake, "MODULE_PYTHON_RESOURCES")
    files = [path.relative_to(module) for path in module.rglob("*") if path.is_file() and path.suffix in INSTALLED]
    tree = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    listed = {*scripts, *resources}
    assert len(listed) == len(scripts) + len(resources), "listed twice"
    assert {path for path in scripts if not path.endswith(".py")} == set()
    assert sorted(tree - listed) == [], "add these to IntraopRecon/CMakeLists.txt"
    assert sorted(listed - tree) == [], "remove these from IntraopRecon/CMakeLists.txt"
