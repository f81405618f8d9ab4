"""The device in step 4 of IntraopRecon's panel: the cards that the worker counts, by name, and a scene that asks for one it cannot find."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import slicer
from fake_worker import FakeWorker
from small_case import make_small_case
from Testing.host.hands import choose, click, wait_until, write
from Testing.host.values import unwrap

from IntraopReconLib.host import DeviceBox
from SparseAnatomyLib.devices import cards
from SparseAnatomyLib.host.SceneFiles import loadScene, saveScene

NAME = "IntraopRecon"
RUN_S = 200
TWO = {"cuda:0": "NVIDIA A1000", "cuda:1": "NVIDIA RTX 4090"}
NAMED = ["cuda:0 - NVIDIA A1000", "cuda:1 - NVIDIA RTX 4090"]


class CardWorker(FakeWorker):
    """Answers what is asked of the devices, in its turn, as the worker of a machine with such cards; None for one that fails."""

    def __init__(self, there: dict[str, str] | None) -> None:
        super().__init__([])
        self.there, self.waiting = there, []
        self.tell: Callable[[dict], None] | None = None

    def __call__(self, deliver: Callable[[dict], None]) -> CardWorker:
        self.tell = deliver
        return self

    def request(self, kind: str, **payload: Any) -> str:
        id = super().request(kind, **payload)
        if kind in ("cards", "device"):
            self.waiting.append((id, kind, payload))
        return id

    def poll(self) -> None:
        if self.waiting:
            id, kind, payload = self.waiting.pop(0)
            if self.there is None and kind == "cards":
                self.tell({"id": id, "event": "failure", "kind": "internal", "message": "No.", "remedy": ""})
                return
            answer = self.there if kind == "cards" else {"sentence": f"Runs on {payload['wanted']}."}
            Path(payload["out"]).write_text(json.dumps(answer))
            self.tell({"id": id, "event": "result", "paths": {kind: payload["out"]}})

    def asked(self, kind: str) -> list[dict[str, Any]]:
        return [payload for asked, payload in self.requests if asked == kind]


@pytest.fixture
def machine(running, monkeypatch):
    """Return a function that opens the panel on a machine with such cards, as new."""
    slicer.util.selectModule(NAME)
    widget = running.widget(NAME)
    recon, box = widget.logic.recon, widget.sections[3]._device

    def begin(there: dict[str, str] | None, device: str = "auto"):
        worker = CardWorker(there)
        monkeypatch.setattr(recon, "_makeWorker", worker)
        renew()
        widget.panel.keep(device=device)
        if widget.ui.reconstructionButton.collapsed:
            click(widget.ui.reconstructionButton)
        widget.onSceneChanged()
        return widget, worker

    def renew() -> None:
        """Close the worker, and let the box be as when the panel was made."""
        recon.close()
        box._cards, box._asked, box._isAsking = None, None, False

    yield begin
    monkeypatch.undo()
    renew()
    widget.panel.keep(device="auto")
    widget.onSceneChanged()
    if widget.ui.xraysButton.collapsed:
        click(widget.ui.xraysButton)


def items(widget) -> list[str]:
    box = widget.ui.deviceComboBox
    return [box.itemText(index) for index in range(box.count)]


def test_each_card_is_offered_by_its_name(machine):
    panel, worker = machine(TWO)
    assert items(panel) == ["auto", "cpu"]  # until it is known
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on auto.", 5)
    assert items(panel) == ["auto", "cpu", "cuda", *NAMED]
    assert panel.ui.deviceComboBox.currentText == "auto"
    choose(panel.ui.deviceComboBox, NAMED[1])
    assert panel.parameters.settings.device == "cuda:1"
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on cuda:1.", 5)
    choose(panel.ui.deviceComboBox, "cuda")
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on cuda.", 5)
    assert [payload["wanted"] for payload in worker.asked("device")][-1] == "cuda"
    panel.onSceneChanged()
    assert len(worker.asked("cards")) == 1


def test_where_there_is_no_card_none_is_offered(machine):
    panel, _worker = machine({})
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on auto.", 5)
    assert items(panel) == ["auto", "cpu"]


@pytest.mark.parametrize("there", [{}, {"cuda:0": "NVIDIA A1000"}], ids=["no card", "one card"])
def test_a_scene_from_a_machine_with_more_cards(machine, running, tmp_path, there):
    panel, worker = machine(TWO)
    wait_until(lambda: len(items(panel)) == 5, 5)
    choose(panel.ui.deviceComboBox, NAMED[1])
    saveScene(running.scene, tmp_path / "scene.mrb")
    running.scene.Clear()
    assert panel.ui.deviceComboBox.currentText == "auto"
    panel, worker = machine(there)
    loadScene(running.scene, tmp_path / "scene.mrb")
    wait_until(lambda: "Runs on auto." in panel.ui.deviceLabel.text, 5)
    gone = "There is no graphics card cuda:1, which this scene asks for, on this computer: auto is used."
    wait_until(lambda: panel.ui.deviceLabel.text == f"{gone} Runs on auto.", 5)
    assert panel.ui.deviceComboBox.currentText == "auto"
    assert "cuda:1" not in [payload["wanted"] for payload in worker.asked("device")]
    assert panel.parameters.settings.device == "cuda:1"  # for the machine that it came from
    choose(panel.ui.deviceComboBox, "cpu")
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on cpu.", 5)
    assert panel.parameters.settings.device == "cpu"


@pytest.mark.parametrize(("there", "used"), [(TWO, "cuda:1"), ({}, "auto")], ids=["there", "gone"])
def test_what_is_used_is_what_the_run_is_told(machine, tmp_path, there, used):
    case = make_small_case(tmp_path)
    panel, worker = machine(there, "cuda:1")
    click(panel.ui.xraysButton)
    write(panel.ui.caseFolderPath, str(case))
    wait_until(lambda: panel.panel.prepared is not None, RUN_S)
    click(panel.ui.reconstructionButton)
    wait_until(lambda: f"Runs on {used}." in panel.ui.deviceLabel.text, 5)
    assert unwrap(panel.ui.reconstructButton).isEnabled()
    click(panel.ui.reconstructButton)
    assert [payload["config"]["device"] for payload in worker.asked("reconstruct")] == [used]


def test_a_worker_that_cannot_count_leaves_what_the_scene_says(machine):
    panel, worker = machine(None, "cuda:1")
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on cuda:1.", 5)
    assert items(panel) == ["auto", "cpu", "cuda:1"]
    worker.there = TWO
    panel.onSceneChanged()
    wait_until(lambda: len(items(panel)) == 5, 5)
    assert panel.ui.deviceComboBox.currentText == NAMED[1]


def test_it_is_asked_again_once_the_package_for_cards_is_installed(machine, monkeypatch):
    monkeypatch.setattr(DeviceBox, "missing", lambda packages: list(packages))
    panel, worker = machine(TWO)
    wait_until(lambda: panel.ui.deviceLabel.text == "Runs on auto.", 5)
    panel.onReadiness()
    assert len(worker.asked("device")) == 1
    monkeypatch.setattr(DeviceBox, "missing", lambda packages: [])
    panel.onReadiness()
    assert [payload["wanted"] for payload in worker.asked("device")] == ["auto", "auto"]


def test_the_worker_of_this_machine_counts_its_cards(panel):
    there = cards()
    expected = ["auto", "cpu", *(["cuda"] if there else []), *(f"{device} - {name}" for device, name in there.items())]
    wait_until(lambda: panel.ui.deviceLabel.text, RUN_S)
    assert items(panel) == expected
