"""The house rules: who may import what, how long a file may be, what no file may contain."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("IntraopRecon", "ShapeCompletion")
LIBRARIES = [REPOSITORY / name for name in MODULES]
DESKTOP = ("slicer", "qt", "ctk", "PythonQt", "PySide6", "vtkSlicer", "trame")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 8

SOURCES = sorted(path for folder in LIBRARIES for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
TEST_SOURCES = sorted(path for path in (REPOSITORY / "Testing").rglob("*.py") if "__pycache__" not in path.parts)


def _name(path: Path) -> str:
    """Return the path within the repository, for test ids."""
    return path.relative_to(REPOSITORY).as_posix()


def _module(path: Path) -> str:
    """Return the dotted name that a file of the libraries is imported by."""
    folder = next(folder for folder in LIBRARIES if folder in path.parents)
    return ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


CORE = [path for path in SOURCES if "host" not in path.parts and path.parent not in LIBRARIES and path.name != "__main__.py"]
HOST = [path for path in SOURCES if "host" in path.parts]

IMPORTER = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED or name in BLOCKED:
            raise ImportError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Refuse())
failures = []
for module in MODULES:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failures.append(f"{module}: {error}")
print("\\n".join(failures))
"""


def _import_all(modules: list[str], blocked: tuple[str, ...]) -> str:
    """Import modules in a clean interpreter where `blocked` cannot be imported; return what failed, a line each."""
    program = f"MODULES = {modules!r}\nBLOCKED = {blocked!r}\n{IMPORTER}"
    paths = [str(folder) for folder in LIBRARIES]
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


LIGHT = {  # what the host may import of a core
    "IntraopReconLib": ("config", "calibration_config", "scene_files"),
    "ShapeCompletionLib": ("config", "config_check", "sampling", "planes", "completion", "prior_card", "result"),
}


def test_core_imports_without_slicer_qt_or_vtk_widgets():
    assert {path.parts[-3] for path in CORE if path.parent.name == "core"} == set(LIGHT)
    core = [path for path in CORE if importlib.util.find_spec("warp") or not re.search("_warp|_gsplat", path.stem)]  # Warp is an extra
    assert _import_all([_module(path) for path in core], (*DESKTOP, "vtkmodules.qt", "vtkmodules.tk")) == ""


def test_config_and_host_never_import_torch():
    light = [f"{library}.core.{name}" for library, names in LIGHT.items() for name in names]
    modules = [*light, *(_module(path) for path in HOST)]
    assert _import_all(modules, ("torch", "numba")) == ""


def test_importer_notices_a_forbidden_import():
    assert "torch is not to be imported here" in _import_all(["torch"], ("torch",))


def _imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere in it, relative imports resolved."""
    package = _module(path).split(".")[: None if path.name == "__init__.py" else -1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *(node.module.split(".") if node.module else [])])
            names.update(f"{prefix}.{alias.name}" for alias in node.names)
    return names


def _under(names: set[str], *packages: str) -> set[str]:
    """Return the names that are one of the packages or stand in it."""
    return {name for name in names if any(f"{name}.".startswith(f"{package}.") for package in packages)}


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_go_one_way(path: Path):
    names = _imports(path)
    others = {library for library in LIGHT if library not in path.parts}
    if path.parent not in LIBRARIES:  # SparseAnatomyLib neither
        assert not _under(names, *others)
    if "core" in path.parts:
        assert not _under(names, *DESKTOP, "SparseAnatomyLib.host", "SparseAnatomyLib.protocol", "SparseAnatomyLib.worker")
        assert not _under(names, *(f"{library}.{part}" for library in LIGHT for part in ("host", "worker", "cli")))
    if "host" in path.parts:
        assert not _under(names, "torch", "numba")


@pytest.mark.parametrize("path", HOST, ids=_name)
def test_host_imports_only_the_light_parts_of_core(path: Path):
    light = [f"{library}.core.{name}" for library, names in LIGHT.items() for name in names]
    names = _under(_imports(path), *(f"{library}.core" for library in LIGHT))
    assert names - _under(names, *light) == set()


def test_a_module_script_imports_no_other_modules_library():
    for folder in LIBRARIES:
        names = _imports(folder / f"{folder.name}.py")
        assert _under(names, f"{folder.name}Lib")
        assert not _under(names, *(f"{other}Lib" for other in MODULES if other != folder.name))


STAGES = ("xrays", "calibration", "standardization", "voxels", "splatting")


@pytest.mark.parametrize("path", [path for path in SOURCES if set(path.parts) & set(STAGES)], ids=_name)
def test_a_stage_imports_only_the_stages_before_it(path: Path):
    stage = next(index for index, name in enumerate(STAGES) if name in path.parts)
    later = [f"IntraopReconLib.core.{name}" for name in STAGES[stage + 1 :]]
    assert not _under(_imports(path), *later, "IntraopReconLib.core.reconstruct", "IntraopReconLib.core.report")


@pytest.mark.parametrize("path", [path for path in SOURCES if "core" in path.parts], ids=_name)
def test_core_prints_nothing(path: Path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=_name)
def test_package_init_is_a_docstring_only(path: Path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    assert isinstance(body[0].value.value, str)


def test_every_folder_of_python_files_is_a_package():
    folders = {path.parent for path in SOURCES} - set(LIBRARIES)
    assert [_name(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function's docstring takes."""
    text = ast.get_docstring(function, clean=False)
    return text.count("\n") + 1 if text else 0


def _excesses(path: Path) -> list[str]:
    """Return where a file passes the budgets."""
    text = path.read_text(encoding="utf-8")
    found = [f"{text.count(chr(10))} lines"] if text.count("\n") > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
        parameters = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if arg.arg not in ("self", "cls")]
        if lines > MAX_FUNCTION_LINES:
            found.append(f"{node.name}: {lines} lines")
        if len(parameters) > MAX_PARAMETERS:
            found.append(f"{node.name}: {len(parameters)} parameters")
    return found


@pytest.mark.parametrize("path", SOURCES + TEST_SOURCES, ids=_name)
def test_budgets(path: Path):
    assert _excesses(path) == []


def test_module_script_is_thin():
    scripts = [path for path in SOURCES if path.parent in LIBRARIES]
    assert [path.stem for path in scripts] == list(MODULES)  # any other file would be taken for a Slicer module
    assert all(path.read_text(encoding="utf-8").count("\n") <= 250 for path in scripts)


def _tracked_text() -> list[Path]:
    """Return the text files that belong to the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    suffixes = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".json", ".html", ".ui", ".cmake", ""}
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and path.suffix in suffixes]


BANNED = {
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:work|home|root|Users)/[\w.]"),
    "an import of libjpeg, which is GPL": re.compile(r"^\s*(?:import|from)\s+libjpeg\b", re.MULTILINE),
    "a leftover": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|breakpoint\(\)|^(?:<<<<<<<|>>>>>>>) ", re.MULTILINE),
}


@pytest.mark.parametrize("what", BANNED)
def test_no_file_contains(what: str):
    found = []
    for path in _tracked_text():
        if path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8")
            found += [f"{_name(path)}:{text.count(chr(10), 0, match.start()) + 1}" for match in BANNED[what].finditer(text)]
    assert found == []
