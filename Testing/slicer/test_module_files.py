"""What is not listed in CMakeLists.txt is not installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

MODULES = ("IntraopRecon", "ShapeCompletion")
INSTALLED = {".py", ".html", ".ui", ".png", ".json"}


def _listed(cmake: str, variable: str) -> list[str]:
    return re.search(rf"set\({variable}\n(.*?)\n\s*\)", cmake, re.DOTALL).group(1).split()


@pytest.mark.parametrize("name", MODULES)
def test_cmake_lists_every_script_and_resource(repository: Path, name: str):
    module = repository / name
    cmake = (module / "CMakeLists.txt").read_text()
    scripts, resources = _listed(cmake, "MODULE_PYTHON_SCRIPTS"), _listed(cmake, "MODULE_PYTHON_RESOURCES")
    files = [path.relative_to(module) for path in module.rglob("*") if path.is_file() and path.suffix in INSTALLED]
    tree = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    listed = {*scripts, *resources}
    assert len(listed) == len(scripts) + len(resources), "listed twice"
    assert {path for path in scripts if not path.endswith(".py")} == set()
    assert sorted(tree - listed) == [], f"add these to {name}/CMakeLists.txt"
    assert sorted(listed - tree) == [], f"remove these from {name}/CMakeLists.txt"


def test_no_two_modules_install_a_file_at_the_same_place(repository: Path):
    listed: list[str] = []
    for name in MODULES:
        cmake = (repository / name / "CMakeLists.txt").read_text()
        listed += _listed(cmake, "MODULE_PYTHON_SCRIPTS") + _listed(cmake, "MODULE_PYTHON_RESOURCES")
    assert len(listed) == len(set(listed))


def test_the_extension_builds_every_module_and_installs_its_data(repository: Path):
    cmake = (repository / "CMakeLists.txt").read_text()
    assert [name for name in MODULES if f"add_subdirectory({name})" not in cmake] == []
    installed = re.search(r"set\(_data (.*?)\)", cmake).group(1).split()
    assert "install(DIRECTORY ${_data}" in cmake
    folders = {path.name for path in (repository / "Resources").iterdir() if path.is_dir()} - {"Screenshots"}
    assert folders <= {Path(path).name for path in installed}


def test_the_entry_for_the_extensions_index_says_what_cmake_says(repository: Path):
    cmake = (repository / "CMakeLists.txt").read_text()
    stated = dict(re.findall(r'set\((\w+) "(.*?)"\)', cmake))
    name = re.search(r"project\((\w+)\)", cmake).group(1)
    entry = json.loads((repository / f"{name}.json").read_text())
    assert entry["category"] == stated["EXTENSION_CATEGORY"]
    assert entry["build_dependencies"] == stated["EXTENSION_DEPENDS"].split()
    assert entry["scm_url"] == f"https://github.com/{stated['_repository']}.git"
    assert f"/{entry['scm_revision']}" in stated["_raw"]
    for url in (stated["EXTENSION_ICONURL"], stated["EXTENSION_SCREENSHOTURLS"]):
        assert (repository / url.removeprefix("${_raw}/")).is_file()
