"""Both panels used at random, seeded, for two minutes in all: nothing is ever raised, and every run ends.

`SPARSEANATOMY_RANDOM_S=1200` goes on for longer. What is done, and how it is found out, is in `monkey.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import slicer
from bead_case import bead_case, open_step
from monkey import Found, Monkey
from small_case import make_small_case
from Testing.host.hands import choose, click, wait_until, write

from IntraopReconLib.host import XRaysSection
from ShapeCompletionLib.host.CompletionLogic import CompletionLogic

ALL_S = 120.0
RUN_S = 100
PLANTED_S, TIMES = 15.0, 12
STARTS = [  # module, what is there to begin with, seed, share of the time
    ("IntraopRecon", "nothing", 1, 0.1),
    ("IntraopRecon", "X-rays", 2, 0.15),
    ("IntraopRecon", "beads", 3, 0.15),
    ("IntraopRecon", "a result", 4, 0.15),
    ("ShapeCompletion", "nothing", 5, 0.1),
    ("ShapeCompletion", "outlines", 6, 0.15),
    ("ShapeCompletion", "a result", 7, 0.2),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Path]:
    """Return a folder with a case, one with beads, and what is neither, within the current folder: a warm worker stays in that, too."""
    here = tmp_path_factory.mktemp("random")
    folder = here / "data"
    folder.mkdir()
    make_small_case(folder)
    bead_case(folder / "beads")
    (folder / "empty").mkdir()
    (folder / "a file").write_text("no folder")
    (folder / "torn" / "xrays").mkdir(parents=True)
    (folder / "torn" / "poses.json").write_text('{"views": [')
    with chdir(here):
        yield folder


@pytest.fixture
def monkey(running, data, sample_case, monkeypatch):
    """Return what makes a monkey in a folder of its own."""
    made: list[Monkey] = []

    def copied(name: str) -> Path:  # what ships is not written to
        return shutil.copytree(sample_case / name, data.parent / "samples" / name, dirs_exist_ok=True)

    monkeypatch.setattr(sys.modules["IntraopRecon"], "sample_case", copied)

    def make(name: str, seed: int) -> Monkey:
        folder = data.parent / str(seed)
        shutil.copytree(data, folder)
        slicer.util.selectModule(name)
        made.append(Monkey(running, name, folder.name, seed))
        return made[-1]

    yield make
    for each in made:
        each.stop()
    running.scene.Clear()


def prepare(running, name: str, start: str, folder: Path) -> None:
    """Bring a panel to where the monkey begins."""
    widget = running.widget(name)
    ui = widget.ui
    if name == "ShapeCompletion" and start != "nothing":
        import SampleData

        SampleData.downloadSample("ShapeCompletionVertebraSlices")
        if start == "a result":
            click(ui.completeButton)
            wait_until(lambda: widget.nodes is not None, RUN_S)
    elif start != "nothing":
        open_step(ui.xraysButton)
        write(ui.caseFolderPath, f"{folder.name}/{'beads' if start == 'beads' else 'ball'}")
        wait_until(lambda: widget.panel.prepared is not None, RUN_S)
        if start == "a result":
            open_step(ui.reconstructionButton)
            choose(ui.qualityComboBox, "preview")
            choose(ui.methodComboBox, "voxel")
            click(ui.reconstructButton)
            wait_until(lambda: widget.nodes is not None or widget.panel.error, RUN_S)
    if start == "a result":
        assert widget.nodes is not None, ui.statusLabel.text


def test_the_shares_are_the_whole():
    assert sum(share for *_, share in STARTS) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start", "seed", "share"), STARTS)
def test_nothing_is_raised_whatever_is_pressed(running, data, monkey, name: str, start: str, seed: int, share: float):
    player = monkey(name, seed)
    prepare(running, name, start, data.parent / str(seed))
    player.act_for(share * float(os.environ.get("SPARSEANATOMY_RANDOM_S", ALL_S)))
    player.stop()
    print(f"{len(player.done)} acts, {len(player.uses)} widgets, {len(running.answers.shown)} windows")
    assert len(player.done) > 20
    assert len(player.uses) > 10
    running.scene.Clear()
    button = running.widget(name).ui.reconstructButton if name == "IntraopRecon" else running.widget(name).ui.completeButton
    assert button.text in ("Reconstruct", "Complete")
    assert not button.enabled


def planted(*_values) -> None:
    raise LookupError("planted")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["slider", "path", "result"])
def test_a_planted_bug_is_found(running, data, monkey, monkeypatch, place: str):
    name, seed = "IntraopRecon" if place == "path" else "ShapeCompletion", ["slider", "path", "result"].index(place) + 100
    player, ui = monkey(name, seed), running.widget("ShapeCompletion").ui
    match place:
        case "slider":  # within a section that is closed to begin with
            ui.stepsSlider.connect("valueChanged(double)", planted)
        case "path":  # text that no other slot minds
            monkeypatch.setattr(XRaysSection, "_isCase", lambda path: planted() if not Path(path).parent.name else False)
        case "result":  # an error of ours while a job's files are read is told, not raised
            monkeypatch.setattr(CompletionLogic, "_addResult", planted)
    try:
        with pytest.raises(Found, match=r"planted|error of its own"):
            for _ in range(TIMES):  # once is not enough where the first thing done is to cancel
                if place == "result":
                    player.stop()
                    running.scene.Clear()
                    slicer.util.selectModule(name)
                    prepare(running, name, "outlines", data.parent / str(seed))
                    click(ui.completeButton)
                player.act_for(PLANTED_S)
    finally:
        ui.stepsSlider.disconnect("valueChanged(double)", planted)
        running.errors.clear()
