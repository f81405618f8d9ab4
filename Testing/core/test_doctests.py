"""The examples in docstrings, which pin the signs of the geometry, are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

LIBRARIES = Path(__file__).resolve().parents[2] / "IntraopRecon"
WITH_EXAMPLES = [
    ".".join(path.relative_to(LIBRARIES).with_suffix("").parts)
    for path in sorted(LIBRARIES.glob("*Lib/**/*.py"))
    if "host" not in path.parts and ">>>" in path.read_text(encoding="utf-8")
]


def test_geometry_has_examples():
    assert "SparseAnatomyLib.geometry" in WITH_EXAMPLES


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
