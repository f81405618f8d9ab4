"""The repository as it is handed out: pins, citation, licenses, what the extension's metadata points to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_FILE_BYTES = 16_000_000
TITLES = {"IntraopRecon": "Intraoperative Reconstruction", "ShapeCompletion": "Shape Completion"}
PRIORS = ("hippocampus", "pancreas", "vertebra")


def _text(name: str) -> str:
    """Return the text of a file of the repository."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def _tracked() -> list[Path]:
    """Return the files that belong to the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads(_text("pyproject.toml"))


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    lines = [line for line in _text("constraints.txt").splitlines() if line and not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    for requirement in requirements:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), f"{requirement} is not pinned to one version"
    names = Counter(canonicalize_name(requirement.name) for requirement in requirements)
    assert names.most_common(1)[0][1] == 1, "a package is pinned twice"
    return {canonicalize_name(r.name): Version(str(r.specifier)[2:]) for r in requirements}


def _requirements(project: dict) -> list[Requirement]:
    """Return everything that pyproject.toml may install, the build's own needs included."""
    groups = [project["build-system"]["requires"], project["project"]["dependencies"]]
    groups += project["project"]["optional-dependencies"].values()
    return [Requirement(text) for group in groups for text in group]


def test_every_dependency_is_pinned(project: dict, pins: dict[str, Version]):
    for requirement in _requirements(project):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} and constraints.txt disagree"


def test_extras_and_commands_are_the_promised_ones(project: dict):
    assert set(project["project"]["optional-dependencies"]) >= {"host", "test", "bench", "cuda"}
    assert project["project"]["scripts"] == {"intraop-recon": "IntraopReconLib.cli:main", "shape-completion": "ShapeCompletionLib.cli:main"}


def test_installing_takes_every_package(project: dict):
    find = project["tool"]["setuptools"]["packages"]["find"]
    tests = REPOSITORY / "Testing"  # never installed
    packages = {path.parent for path in _tracked() if path.name == "__init__.py" and tests not in path.parents}
    roots = {folder: REPOSITORY / folder for folder in find["where"]}
    for package in packages:
        root = next(root for root in roots.values() if root in package.parents)
        name = ".".join(package.relative_to(root).parts)
        assert any(fnmatchcase(name, pattern) for pattern in find["include"]), f"{name} would not be installed"
    assert {path.relative_to(root).parts[0] for path in packages for root in roots.values() if root in path.parents} == {
        "IntraopReconLib",
        "ShapeCompletionLib",
        "SparseAnatomyLib",
    }


def test_no_dependency_is_gpl(project: dict):
    assert "pylibjpeg-libjpeg" not in {canonicalize_name(requirement.name) for requirement in _requirements(project)}


def test_makefile_has_the_promised_targets():
    targets = set(re.findall(r"^([a-z]+):", _text("Makefile"), re.MULTILINE))
    assert targets >= {"demo", "test", "bench", "lint"}


def test_citation_is_complete_and_agrees(project: dict):
    citation = yaml.safe_load(_text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == project["project"]["license"] == "Apache-2.0"
    assert citation["version"] == project["project"]["version"]
    assert citation["message"]
    assert citation["authors"]
    identifiers = {identifier["value"] for paper in citation["references"] for identifier in paper.get("identifiers", [])}
    assert identifiers >= {"arXiv:2504.14699", "arXiv:2405.20693", "arXiv:2006.09661", "arXiv:1703.03400"}
    assert "De Paolis" in {paper["authors"][0]["family-names"] for paper in citation["references"]}
    for paper in citation["references"]:
        assert paper["title"]
        assert paper["year"]
        assert all(author["family-names"] for author in paper["authors"])


def test_license_is_apache():
    license_text = _text("LICENSE.txt")
    assert "Apache License" in license_text
    assert "END OF TERMS AND CONDITIONS" in license_text


@pytest.mark.parametrize("name", ["README.md", "CMakeLists.txt", "CITATION.cff", "pyproject.toml"])
def test_says_research_use_only(name: str):
    assert "research use only" in " ".join(_text(name).split()).lower()


def test_extension_metadata_points_to_files_that_exist():
    metadata = dict(re.findall(r'set\((EXTENSION_\w+) "([^"]*)"\)', _text("CMakeLists.txt")))
    assert metadata["EXTENSION_DEPENDS"] == "PyTorch"
    assert all(words in metadata["EXTENSION_DESCRIPTION"] for words in ("X-rays", "outlined slices"))  # both modules
    for key in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        for url in metadata[key].split():
            name = url.removeprefix("${_raw}/")
            assert name != url, f"{key} does not start at the repository's root"
            assert (REPOSITORY / name).is_file(), f"{key} names {name}, which is not there"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_within_the_repository_lead_somewhere(name: str):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", _text(name))
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_readme_headings_that_are_linked_exist():
    text = _text("README.md")
    anchors = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", text) if link not in anchors] == []


PROGRAMS = {"intraop-recon": "IntraopReconLib", "shape-completion": "ShapeCompletionLib"}
README_COMMANDS = re.findall(rf"^(?:\.venv/bin/)?({'|'.join(PROGRAMS)}) ([\w-]+)([^\n]*)", _text("README.md"), re.MULTILINE)


def _options_of(program: str, command: str) -> set[str]:
    """Return the options that a command's help names."""
    code = f"from {PROGRAMS[program]}.cli import main; import sys; sys.exit(main(['{command}', '--help']))"
    roots = os.pathsep.join(str(REPOSITORY / folder) for folder in ("IntraopRecon", "ShapeCompletion"))
    environment = {**os.environ, "PYTHONPATH": roots, "COLUMNS": "200"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr
    return set(re.findall(r"--[a-z]+(?:-[a-z]+)*", shown.stdout))


@pytest.mark.parametrize(
    ("program", "commands"),
    [
        ("intraop-recon", {"demo", "simulate", "reconstruct", "evaluate"}),
        ("shape-completion", {"demo", "complete", "train", "evaluate"}),
    ],
)
def test_readme_shows_every_command(program: str, commands: set[str]):
    assert {name for shown, name, _ in README_COMMANDS if shown == program} >= commands


@pytest.mark.parametrize(("program", "name"), sorted({(program, name) for program, name, _ in README_COMMANDS}))
def test_readme_names_only_options_that_the_command_has(program: str, name: str):
    lines = [rest for shown, command, rest in README_COMMANDS if (shown, command) == (program, name)]
    options = {option for line in lines for option in re.findall(r"--[a-z]+(?:-[a-z]+)*", line)}
    assert options - _options_of(program, name) == set()


def test_readme_explains_only_options_of_training_and_completion():
    text = _text("README.md").partition("## Train on your own segmentations")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`(--[a-z]+(?:-[a-z]+)*)", text))
    assert explained >= {"--patients", "--extent", "--trained-on", "--licence"}
    assert explained - _options_of("shape-completion", "train") == set()


@pytest.mark.parametrize(
    "marks", [("<!-- benchmark:start -->", "<!-- benchmark:end -->"), ("<!-- shapes:start -->", "<!-- shapes:end -->")]
)
def test_readme_has_the_marks_between_which_benchmarks_write(marks: tuple[str, str]):
    text = _text("README.md")
    assert [text.count(mark) for mark in marks] == [1, 1]
    assert text.index(marks[0]) < text.index(marks[1])


@pytest.mark.parametrize("ui", ["IntraopRecon/Resources/UI/IntraopRecon.ui", "ShapeCompletion/Resources/UI/ShapeCompletion.ui"])
def test_readme_names_the_panel_s_controls_in_their_own_words_and_order(ui: str):
    shown = {"QLabel", "QCheckBox", "QPushButton"}
    widgets = [widget for widget in ElementTree.parse(REPOSITORY / ui).iter("widget") if widget.get("class") in shown]
    texts = [widget.findtext("property[@name='text']/string") for widget in widgets if widget.get("name") != "noticeLabel"]
    section = _text("README.md").partition(f"\n### {TITLES[ui.partition('/')[0]]}\n")[2].partition("\n#")[0]
    places = {text: section.find(f"**{text.rstrip(':')}**") for text in texts if text}
    assert [text for text, place in places.items() if place < 0] == []
    assert list(places.values()) == sorted(places.values())


def test_contributing_fits_on_one_screen():
    assert _text("CONTRIBUTING.md").count("\n") <= 50


def test_installing_takes_every_file_of_the_packages(project: dict):
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    others = [path for path in _tracked() if any(part.endswith("Lib") for part in path.parts) and path.suffix != ".py"]
    assert [path.name for path in others if not any(path.match(pattern) for pattern in patterns)] == []


def test_no_file_is_too_large():
    assert [path.name for path in _tracked() if path.stat().st_size > MAX_FILE_BYTES] == []


def test_data_that_ship_say_whose_they_are():
    folders = {path.parent for path in _tracked() if path.suffix in {".dcm", ".nrrd", ".npz", ".pt"}}
    for folder in folders:
        upwards = [parent / "ATTRIBUTION.md" for parent in (folder, *folder.parents) if REPOSITORY in (parent, *parent.parents)]
        assert any(path.is_file() for path in upwards), f"{folder.relative_to(REPOSITORY)} has no ATTRIBUTION.md"


def test_priors_that_ship_are_attributed_with_the_license_of_their_card():
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", _text("Resources/Priors/ATTRIBUTION.md"), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(PRIORS)
    for path in (REPOSITORY / "Resources" / "Priors").glob("*.json"):
        assert dict(rows)[path.stem] in json.loads(path.read_text(encoding="utf-8"))["licence"], path.name


def test_no_two_test_files_share_a_name():
    names = Counter(path.name for path in (REPOSITORY / "Testing").rglob("*.py") if "__pycache__" not in path.parts)
    del names["conftest.py"]
    assert [name for name, count in names.items() if count > 1] == []
    assert not (REPOSITORY / "Testing" / "__init__.py").exists()
