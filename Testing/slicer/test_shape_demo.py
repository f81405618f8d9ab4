"""The demo of ShapeCompletion, with the prior and the sample that ship."""

from __future__ import annotations

import json

import pytest

from ShapeCompletionLib.cli import main


@pytest.mark.slow
def test_the_demo_completes_the_sample_vertebra_and_says_where_everything_is(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    for name in ("shape.nrrd", "shape.vtp", "report.json", "scene.mrb"):
        assert (tmp_path / "demo" / name).is_file()
        assert name in said
    report = json.loads((tmp_path / "demo" / "report.json").read_text(encoding="utf-8"))
    assert report["method"] == "inr"
    assert report["prior"] == "vertebra"
    dice, interpolation = (float(word.strip(")")) for word in said.split("Dice")[1].split("\n")[0].replace("(interpolation", "").split())
    assert dice > interpolation > 0.8
