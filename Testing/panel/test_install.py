"""Packages that are missing are installed on a click: by a real pip, from wheels of the test's own, into a folder of the test's own."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import replace
from importlib import metadata

import pytest
import slicer
from fake_worker import FakeWorker
from PySide6.QtWidgets import QApplication
from Testing.host.hands import OutOfReach, click, wait_until, watch_blocks
from Testing.host.pytorch_extension import pytorch_extension
from tiny_wheels import EXTRA, TINY, TORCH, make_wheel, set_pip

from SparseAnatomyLib.host import Requirements, WorkerLogic
from SparseAnatomyLib.host.Environment import environmentSentence, isReady, reasonWithout
from SparseAnatomyLib.host.Installation import sharedInstallation

MODULES = ("IntraopRecon", "ShapeCompletion")
START_BUTTONS = {"IntraopRecon": "reconstructButton", "ShapeCompletion": "completeButton"}
PIP_S = 120


@pytest.fixture
def workers(monkeypatch):
    """Return what the panels ask of their workers, none of which is started."""
    made: list[FakeWorker] = []

    def make(module: str, on_event) -> FakeWorker:
        made.append(FakeWorker([])(on_event))
        return made[-1]

    monkeypatch.setattr(WorkerLogic, "WorkerProcess", make)
    return made


@pytest.fixture
def needs(running, workers, monkeypatch):
    """Return a function that says what the worker needs, after which nothing else counts."""

    def need(required=(), optional=(), torch=Requirements.TORCH, warp=None) -> None:
        monkeypatch.setattr(Requirements, "hasNvidiaDriver", lambda: warp is not None)
        monkeypatch.setattr(Requirements, "WARP", warp or Requirements.WARP)
        monkeypatch.setattr(Requirements, "REQUIRED", tuple(required))
        monkeypatch.setattr(Requirements, "OPTIONAL", tuple(optional))
        monkeypatch.setattr(Requirements, "TORCH", torch)

    monkeypatch.setitem(Requirements.PINS, TINY.name, "1.0")
    yield need
    sharedInstallation().close()
    sharedInstallation().error = None
    for package in (TINY, EXTRA, TORCH):
        Requirements._found.discard(package.module)


def enter(running, name: str):
    """Open a module, anew if it is open, and return its panel."""
    other = next(module for module in MODULES if module != name)
    slicer.util.selectModule(other)
    slicer.util.selectModule(name)
    widget = running.widget(name)
    for logic in ("recon", "preparation", "completion"):
        if hasattr(widget.logic, logic):
            getattr(widget.logic, logic).close()  # of an earlier test
    return widget


def install(line) -> None:
    """Click, read, and click again."""
    click(line.installButton)
    click(line.installButton)


def wait_for_end() -> None:
    wait_until(lambda: not sharedInstallation().isRunning, PIP_S)


@pytest.mark.parametrize("name", MODULES)
def test_where_nothing_is_missing_there_is_no_line(running, needs, name):
    needs()
    panel = enter(running, name)
    assert not panel.installLine.box.isVisible()
    assert "Ready" in environmentSentence()


@pytest.mark.parametrize("name", MODULES)
def test_a_click_says_what_will_be_done_and_another_does_it(running, needs, workers, monkeypatch, tmp_path, name):
    wheels, target = set_pip(monkeypatch, tmp_path)
    for version in ("1.0", "2.0"):
        make_wheel(wheels, TINY.name, version)
    needs([TINY])
    panel = enter(running, name)
    line, start = panel.installLine, getattr(panel.ui, START_BUTTONS[name])
    assert line.label.text == "Python packages are missing: sparse-anatomy-tiny (about 5 MB)."
    assert not start.enabled
    assert "sparse-anatomy-tiny" in start.toolTip
    assert "at the top of this panel" in start.toolTip
    assert not line.progressBar.isVisible()
    click(line.installButton)
    for words in ("pypi.org", "about 5 MB", "connection to the internet", "No patient data are sent", "stays as it is"):
        assert words in line.label.text
    assert not target.exists()
    click(line.cancelButton)
    assert line.label.text.startswith("Python packages are missing")
    with watch_blocks() as blocks:
        install(line)
        assert line.progressBar.isVisible()
        assert line.label.text.startswith("Installing:")
        assert not line.installButton.isVisible()
        assert not isReady()
        wait_for_end()
    assert blocks.cpu_ms < 100
    assert sharedInstallation().error is None, sharedInstallation().output
    assert (target / TINY.module / "__init__.py").read_text() == "VERSION = '1.0'\n"
    assert not line.box.isVisible()
    assert panel.ui.statusLabel.text.startswith("Ready")
    assert workers
    assert workers[-1].requests  # it gets ready without a restart
    assert "sparse-anatomy-tiny" not in start.toolTip
    assert running.answers.shown == []
    others = [path for path in sys.path if path != str(target)]  # where all is as before
    assert list(metadata.distributions(name=TINY.name, path=others)) == []


def test_the_other_panel_hears_of_it(running, needs, monkeypatch, tmp_path):
    wheels, _target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, TINY.name)
    needs([TINY])
    shape, recon = enter(running, "ShapeCompletion"), enter(running, "IntraopRecon")
    install(recon.installLine)
    assert shape.installLine.label.text.startswith("Installing:")
    wait_for_end()
    assert not shape.installLine.box.visible
    assert shape.ui.statusLabel.text.startswith("Ready")


def test_what_is_installed_is_never_changed(running, needs, monkeypatch, tmp_path):
    wheels, target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, TINY.name, requires=("numpy>=99",))
    make_wheel(wheels, "numpy", "99.0")
    needs([TINY])
    line = enter(running, "IntraopRecon").installLine
    install(line)
    wait_for_end()
    assert line.label.text.startswith("Another version of numpy is needed than Slicer or another extension has installed")
    assert "Update Slicer" in line.label.text
    assert not target.exists()
    click(line.copyButton)
    copied = QApplication.clipboard().text()
    assert "Remedy: Update Slicer" in copied
    assert "Module: IntraopRecon" in copied
    assert "numpy 99.0" in copied or "numpy>=99" in copied
    make_wheel(wheels, TINY.name)  # mended at the index: the same button tries again
    install(line)
    wait_for_end()
    assert not line.box.isVisible()


def test_cancel_midway(running, needs, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        _wheels, target = set_pip(monkeypatch, tmp_path, index_url=f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        needs([TINY])
        panel = enter(running, "IntraopRecon")
        line = panel.installLine
        install(line)
        wait_until(lambda: "Looking" in line.label.text, PIP_S)
        child = sharedInstallation()._child
        start = time.perf_counter()
        click(line.cancelButton)
        assert time.perf_counter() - start < 1
        assert not child.isAlive
    assert line.label.text.startswith("Cancelled: what was not installed before is not installed now. Python packages are missing")
    assert not line.copyButton.isVisible()
    assert line.installButton.isVisible()
    assert not target.exists()
    assert "missing" in panel.ui.statusLabel.text


def test_unpacking_cannot_be_stopped(running, needs, monkeypatch, tmp_path):
    wheels, _target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, TINY.name)
    needs([TINY])
    line, installation = enter(running, "IntraopRecon").installLine, sharedInstallation()
    install(line)
    wait_until(lambda: "pip install" in installation.output, PIP_S)
    installation._take("Installing collected packages: sparse-anatomy-tiny")
    with pytest.raises(OutOfReach, match="half of one"):
        click(line.cancelButton)
    installation.cancel()
    assert installation.isRunning
    wait_for_end()
    assert installation.error is None


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_without_a_network(running, needs, monkeypatch, tmp_path):
    set_pip(monkeypatch, tmp_path, index_url=f"http://127.0.0.1:{_closed_port()}/simple")
    needs([TINY])
    line = enter(running, "ShapeCompletion").installLine
    install(line)
    wait_for_end()
    assert line.label.text.startswith("The Python Package Index could not be reached. Check that this computer has a connection")
    click(line.copyButton)
    assert "Connection refused" in QApplication.clipboard().text()


def test_with_a_proxy_that_is_not_there(running, needs, monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "")
    set_pip(monkeypatch, tmp_path, index_url="https://index.invalid/simple", proxy=f"http://127.0.0.1:{_closed_port()}")
    needs([TINY])
    line = enter(running, "ShapeCompletion").installLine
    install(line)
    wait_for_end()
    assert line.label.text.startswith("The network's proxy lets nothing through")
    assert "HTTPS_PROXY" in line.label.text


def test_what_is_not_there_for_this_computer(running, needs, monkeypatch, tmp_path):
    set_pip(monkeypatch, tmp_path)
    needs([TINY])
    line = enter(running, "ShapeCompletion").installLine
    install(line)
    wait_for_end()
    assert line.label.text.startswith("There is no ready-made sparse-anatomy-tiny for this computer")


def test_what_slicer_does_not_see_needs_a_restart(running, needs, monkeypatch, tmp_path):
    wheels, target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, TINY.name)
    sys.path.remove(str(target))
    needs([TINY])
    line = enter(running, "IntraopRecon").installLine
    install(line)
    wait_for_end()
    assert "does not see them yet. Restart Slicer." in line.label.text


def test_what_only_some_things_need_does_not_hold_up_the_rest(running, needs, monkeypatch, tmp_path):
    wheels, target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, EXTRA.name)
    needs(optional=[EXTRA])
    panel = enter(running, "IntraopRecon")
    line = panel.installLine
    assert isReady()
    assert line.label.text == "Missing for some things (saving as DICOM): sparse-anatomy-extra (about 2 MB)."
    assert reasonWithout(EXTRA.module).startswith("The Python package sparse-anatomy-extra is missing (saving as DICOM): install it")
    install(line)
    wait_for_end()
    assert (target / EXTRA.module).is_dir()
    assert not line.box.isVisible()
    assert reasonWithout(EXTRA.module) == ""


@pytest.mark.parametrize("name", MODULES)
def test_the_package_for_cards_is_useful_and_never_needed(running, needs, monkeypatch, tmp_path, name):
    wheels, target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, EXTRA.name)
    needs(warp=replace(Requirements.WARP, module=EXTRA.module, name=EXTRA.name))
    panel = enter(running, name)
    line = panel.installLine
    assert isReady()
    assert "Ready" in panel.ui.statusLabel.text
    words = "Missing for some things (computing on the NVIDIA graphics card): sparse-anatomy-extra (about 150 MB)."
    assert line.label.text == words
    install(line)
    wait_for_end()
    assert (target / EXTRA.module).is_dir()
    assert not line.box.isVisible()


def test_without_a_card_s_driver_its_package_is_not_missing(running, needs, monkeypatch):
    needs()
    monkeypatch.setattr(Requirements, "WARP", replace(Requirements.WARP, module=EXTRA.module, name=EXTRA.name))
    assert not enter(running, "IntraopRecon").installLine.box.isVisible()


# PyTorch


def test_pytorch_comes_by_its_extension_alone(running, needs, monkeypatch, tmp_path):
    wheels, target = set_pip(monkeypatch, tmp_path)
    for package in (TINY, EXTRA):
        make_wheel(wheels, package.name)
    needs([TINY], [EXTRA], TORCH)

    def install_torch() -> str:
        assert (target / TINY.module).is_dir()
        assert not line.cancelButton.enabled
        assert "does not answer" in line.label.text
        (target / TORCH.module).mkdir()
        (target / TORCH.module / "__init__.py").touch()
        return "the module torch"

    with pytorch_extension(install_torch) as calls:
        line = enter(running, "IntraopRecon").installLine
        assert "PyTorch (about 200 MB, with an NVIDIA graphics card up to 3 GB); sparse-anatomy-tiny (about 5 MB)" in line.label.text
        assert not line.extensionsButton.isVisible()
        click(line.installButton)
        assert "by Slicer's PyTorch extension, in its own way: Slicer does not answer for some minutes" in line.label.text
        click(line.installButton)
        wait_for_end()
    assert sharedInstallation().error is None, sharedInstallation().error
    assert calls.arguments == [{"forceComputationBackend": None, "torchVersionRequirement": ">=2.3"}]
    held = Requirements.installedVersions(calls.constraints[0])
    assert held["numpy"] == metadata.version("numpy")
    assert not {"pip", "setuptools", "wheel"} & set(held)
    assert (target / EXTRA.module).is_dir()
    assert not line.box.isVisible()
    assert "PyTorch" not in sharedInstallation().output


@pytest.mark.parametrize(
    ("outcome", "says"), [(None, "PyTorch was not installed"), (OSError("no space"), "could not be installed (no space)")]
)
def test_pytorch_that_is_not_installed(running, needs, monkeypatch, tmp_path, outcome, says):
    set_pip(monkeypatch, tmp_path)
    needs(torch=TORCH)

    def fail() -> None:
        if outcome is not None:
            raise outcome

    with pytorch_extension(fail):
        line = enter(running, "IntraopRecon").installLine
        install(line)
        wait_for_end()
        assert says in line.label.text
        assert line.installButton.isVisible()


def test_without_the_extension_pip_never_installs_pytorch(running, needs, monkeypatch, tmp_path):
    wheels, target = set_pip(monkeypatch, tmp_path)
    make_wheel(wheels, TINY.name)
    needs([TINY], torch=TORCH)
    panel = enter(running, "IntraopRecon")
    line = panel.installLine
    assert "install that one in the Extensions Manager, restart Slicer" in line.label.text
    click(line.extensionsButton)
    assert running.answers.opened.pop() == "Extensions Manager"
    click(line.installButton)
    assert "PyTorch" not in line.label.text
    click(line.installButton)
    wait_for_end()
    assert [path.name for path in target.iterdir() if path.suffix != ".dist-info"] == [TINY.module]
    assert line.label.text.startswith("Python packages are missing: PyTorch")
    assert not line.installButton.isVisible()
    assert not isReady()


# The panel goes away


def test_a_panel_that_goes_takes_its_installation_along(running, needs, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        set_pip(monkeypatch, tmp_path, index_url=f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        needs([TINY])
        shape, recon = enter(running, "ShapeCompletion"), enter(running, "IntraopRecon")
        install(recon.installLine)
        wait_until(lambda: "Looking" in recon.installLine.label.text, PIP_S)
        child = sharedInstallation()._child
        recon.installLine.close()
        assert not child.isAlive
        assert not sharedInstallation().isRunning
        assert shape.installLine.label.text.startswith("Cancelled.")
    for signal, function in (
        (sharedInstallation().changed, recon.installLine.update),
        (sharedInstallation().ended, recon.installLine._onInstalled),
    ):
        signal.connect(function)  # the panel stays for the tests that follow


def test_nothing_is_left_in_the_temporary_folder(running, needs, monkeypatch, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    set_pip(monkeypatch, tmp_path)
    needs([TINY])
    install(enter(running, "IntraopRecon").installLine)
    wait_until(lambda: list(temporary.glob("SparseAnatomy-constraints-*")), PIP_S)
    wait_for_end()
    assert list(temporary.glob("SparseAnatomy-constraints-*")) == []
