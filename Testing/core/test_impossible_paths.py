"""Paths that no file system takes: links in a circle, names too long, a file where a folder should be: each is one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tiny_case import make_tiny_case

from IntraopReconLib import cli
from SparseAnatomyLib.failures import explain

LONG = "x" * 300


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    return make_tiny_case(tmp_path_factory.mktemp("paths"))


@pytest.fixture
def circle(tmp_path) -> Path:
    try:
        os.symlink("circle", tmp_path / "circle")
    except OSError:
        pytest.skip("links cannot be made here")
    return tmp_path / "circle"


def _refused(capsys, *arguments: object) -> str:
    """Run a command that must refuse; return what it says."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert "error of its own" not in said and "Traceback" not in said
    return said


def test_a_case_that_is_a_link_in_a_circle_does_not_exist(capsys, circle, tmp_path):
    assert "circle does not exist" in _refused(capsys, "reconstruct", circle, "--out", tmp_path / "result")


def test_xrays_that_are_a_link_in_a_circle_are_not_there(capsys, case, tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "poses.json").write_bytes((case / "poses.json").read_bytes())
    os.symlink("xrays", folder / "xrays")
    assert "no such image" in _refused(capsys, "reconstruct", folder, "--out", tmp_path / "result")


@pytest.mark.parametrize("below", ["", "deeper"])
@pytest.mark.parametrize("command", ["reconstruct", "standardize"])
def test_a_result_folder_that_is_a_link_in_a_circle_is_refused(capsys, case, circle, command, below):
    _refused(capsys, command, case, "--out", circle / below)
    assert circle.is_symlink()


@pytest.mark.parametrize("command", ["reconstruct", "standardize"])
def test_names_too_long_are_refused(capsys, case, tmp_path, command):
    _refused(capsys, command, tmp_path / LONG, "--out", tmp_path / "result")
    _refused(capsys, command, case, "--out", tmp_path / LONG)


def test_a_file_given_for_a_case_is_said_to_be_one(capsys, case, tmp_path):
    said = _refused(capsys, "reconstruct", case / "poses.json", "--out", tmp_path / "result")
    assert "poses.json is a file" in said and "xrays/" in said


@pytest.mark.parametrize("code", [errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_whatever_comes_of_a_path_is_for_the_user_to_mend(code):
    known = explain(OSError(code, os.strerror(code), "somewhere/poses.json"))
    assert (known.kind, known.exit_code) == ("input", 2)
    assert "somewhere/poses.json" in known.message and known.remedy
