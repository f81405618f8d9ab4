"""Pictures of every step of both panels at 100 % and 200 %: `python -m Testing.panel.screenshots`, into Resources/Screenshots.

The test host draws them: Slicer's own views and the panels as Slicer lays them out, in Qt's own style.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SCALES = (1, 2)
SIZE_PX = (1280, 920)  # the longest step fits
RUN_S = 900
_LAYOUT_PASSES = 5  # a text that needs another line is told from layout to layout, one a pass


def main() -> None:
    """Draw in a process for each scale, as Qt takes it from the environment when it starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Resources" / "Screenshots", help="where the pictures go")
    parser.add_argument("--scale", type=int, choices=SCALES, help="draw in this process, at this scale alone")
    parser.add_argument("--module", choices=("IntraopRecon", "ShapeCompletion"), help="one panel alone")
    arguments = parser.parse_args()
    if arguments.scale is not None:
        draw(arguments.out, arguments.scale, arguments.module)
        return
    for scale in SCALES:
        environment = {
            "QT_QPA_PLATFORM": "offscreen",
            "VTK_DEFAULT_OPENGL_WINDOW": "vtkOSOpenGLRenderWindow",
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "QT_SCALE_FACTOR": str(scale),
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / part) for part in (".", "IntraopRecon", "ShapeCompletion")),
        }
        command = [sys.executable, "-m", "Testing.panel.screenshots", "--scale", str(scale), "--out", str(arguments.out.resolve())]
        command += ["--module", arguments.module] if arguments.module else []
        subprocess.run(command, env=environment, cwd=REPOSITORY, check=True)


def draw(out: Path, scale: int, module: str | None = None) -> None:
    """Go through the panels and draw."""
    from Testing.host.desktop import desktop

    from SparseAnatomyLib.host import Environment

    out.mkdir(parents=True, exist_ok=True)
    Environment.pythonExecutable = lambda: "PythonSlicer"  # as it reads in Slicer
    with desktop() as running, tempfile.TemporaryDirectory() as folder:
        running.load(*(REPOSITORY / name / f"{name}.py" for name in ("IntraopRecon", "ShapeCompletion")))
        running.main_window.resize(*SIZE_PX)
        running.main_window.show()
        camera = Camera(running, out, scale)
        if module in (None, "ShapeCompletion"):
            shape_steps(running, camera)
        running.scene.Clear()
        if module in (None, "IntraopRecon"):
            preparation_steps(running, camera, Path(folder))
            running.scene.Clear()
            recon_steps(running, camera, Path(folder))


class Camera:
    """Takes pictures of the whole window."""

    def __init__(self, running, out: Path, scale: int) -> None:
        self._running, self._out, self._scale = running, out, scale

    def take(self, name: str) -> None:
        """Draw the views and write the window as a picture."""
        self._running.app.processEvents()
        self._running.draw()
        for _ in range(_LAYOUT_PASSES):
            self._running.app.processEvents()
        path = self._out / f"{name}{'@2x' if self._scale == 2 else ''}.png"
        if not self._running.main_window.grab().save(str(path)):
            raise OSError(f"{path} could not be written")
        with Image.open(path) as picture:
            opaque = picture.convert("RGB")
        opaque.save(path, optimize=True)
        print(path)


def recon_steps(running, camera: Camera, folder: Path) -> None:
    """Go through the last steps of IntraopRecon's panel."""
    import slicer
    from Testing.host.hands import choose, click, slide, wait_until, write

    name = "IntraopRecon"
    os.chdir(folder)  # the pictures then show short paths
    slicer.util.selectModule(name)
    panel = running.widget(name)
    ui, recon = panel.ui, panel.logic.recon
    click(ui.reconstructionButton)
    camera.take(f"{name}-4-reconstruction-empty")
    click(ui.xraysButton)
    case = shutil.copytree(REPOSITORY / "Resources" / "SampleCase" / "lumbar", folder / "lumbar")
    write(ui.caseFolderPath, case.name)
    wait_until(lambda: panel.panel.prepared is not None, RUN_S)
    click(ui.reconstructionButton)
    click(ui.drawRegionButton)
    wait_until(lambda: panel.parameters.regionNode is not None and ui.deviceLabel.text, RUN_S)
    camera.take(f"{name}-4-reconstruction-region")
    choose(ui.regionSelector, "Automatic")
    running.scene.RemoveNode(running.scene.GetFirstNodeByName("Region to reconstruct"))
    choose(ui.qualityComboBox, "preview")
    choose(ui.methodComboBox, "voxel")
    previews: list[bool] = []
    recon.previewed.connect(previews.append)
    click(ui.reconstructButton)
    wait_until(lambda: len(previews) > 1 or not recon.isRunning, RUN_S)
    camera.take(f"{name}-4-reconstruction-running")
    wait_until(lambda: not recon.isRunning, RUN_S)
    wait_until(lambda: not recon._errands, RUN_S)
    camera.take(f"{name}-5-result")
    before = panel.nodes.thresholdPerMm
    slide(ui.thresholdSlider, 60)
    choose(ui.comparisonKindComboBox, "Measured")
    wait_until(lambda: panel.nodes.thresholdPerMm != before and not recon._errands, RUN_S)
    camera.take(f"{name}-5-result-threshold")
    click(ui.xraysButton)
    click(ui.showXraysCheckBox)
    camera.take(f"{name}-5-result-xrays")
    click(ui.showXraysCheckBox)
    click(ui.resultButton)
    choose(ui.formatComboBox, "DICOM")
    write(ui.saveFolderPath, "somewhere")
    click(ui.saveButton)
    camera.take(f"{name}-5-result-not-saved")
    with saved_in("Lumbar spine") as saved:
        write(ui.saveFolderPath, str(saved))
        click(ui.saveButton)
        wait_until(lambda: not recon._errands, RUN_S)
        camera.take(f"{name}-5-result-saved")
    os.chdir(REPOSITORY)


def preparation_steps(running, camera: Camera, folder: Path) -> None:
    """Go through the first steps of IntraopRecon's panel, on X-rays that show the beads of a jig."""
    import slicer
    from Testing.host.hands import choose, click, click_at, drop, select_cell, slide, wait_until, write

    name = "IntraopRecon"
    os.chdir(folder)  # the pictures then show short paths
    slicer.util.selectModule(name)
    panel = running.widget(name)
    ui, preparation = panel.ui, panel.logic.preparation
    camera.take(f"{name}-1-xrays-empty")
    (folder / "letter.txt").write_text("no X-ray", encoding="utf-8")
    drop(ui.noticeLabel.parentWidget(), [folder / "letter.txt"])
    wait_until(lambda: panel.panel.error is not None, RUN_S)
    camera.take(f"{name}-1-xrays-wrong-file")
    case = folder / "lumbar spine"
    shutil.copytree(
        REPOSITORY / "Resources" / "SampleCase" / "lumbar-beads", case, ignore=shutil.ignore_patterns("poses.json", "calibration")
    )
    write(ui.caseFolderPath, case.name)
    wait_until(lambda: panel.panel.prepared is not None, RUN_S)
    wait_until(lambda: not ui.viewsTable.item(ui.viewsTable.rowCount - 1, 0).icon().isNull(), RUN_S)
    camera.take(f"{name}-1-xrays-read")
    click(ui.calibrationButton)
    camera.take(f"{name}-2-calibration-jig")
    click(ui.calibrateButton)
    wait_until(lambda: not preparation.isRunning, RUN_S)
    select_cell(ui.residualsTable, 3)
    camera.take(f"{name}-2-calibration-found")
    bead = panel.panel.current.beads[2]
    click_at(ui.beadsPicture, *panel.sections[1].placeOnPicture(bead.column, bead.row), right=True)
    camera.take(f"{name}-2-calibration-edited")
    click(ui.resetBeadsButton)
    click(ui.xraysButton)
    select_cell(ui.viewsTable, 1, on_check_box=True)
    camera.take(f"{name}-1-xrays-posed")
    click(ui.standardizationButton)
    choose(ui.standardizeComboBox, "on")
    click(ui.tryStandardizationButton)
    wait_until(lambda: not preparation.isRunning, RUN_S)
    camera.take(f"{name}-3-standardization-before-after")
    choose(ui.shownComboBox, "what was taken away")
    slide(ui.beforeAfterSlider, -20)
    camera.take(f"{name}-3-standardization-difference")
    click(ui.xraysButton)
    os.chdir(REPOSITORY)


def shape_steps(running, camera: Camera) -> None:
    """Go through ShapeCompletion's panel."""
    import SampleData
    import slicer
    from Testing.host.hands import click, wait_until, write

    name = "ShapeCompletion"
    slicer.util.selectModule(name)
    panel = running.widget(name)
    camera.take(f"{name}-1-empty")
    SampleData.downloadSample("ShapeCompletionVertebraSlices")
    camera.take(f"{name}-2-outlined")
    for section in (panel.ui.aboutButton, panel.ui.advancedButton):
        click(section)
    camera.take(f"{name}-3-prior")
    for section in (panel.ui.advancedButton, panel.ui.aboutButton):
        click(section)
    click(panel.ui.completeButton)
    camera.take(f"{name}-4-running")
    wait_until(lambda: not panel.logic.completion.isRunning, RUN_S)
    camera.take(f"{name}-5-result")
    click(panel.ui.goToButton)
    click(panel.ui.confidenceCheckBox)
    camera.take(f"{name}-6-next-slice")
    click(panel.ui.confidenceCheckBox)
    write(panel.ui.saveFolderPath, "vertebra")
    click(panel.ui.saveButton)
    camera.take(f"{name}-7-not-saved")
    with saved_in("Vertebra") as saved:
        write(panel.ui.saveFolderPath, str(saved))
        click(panel.ui.saveButton)
        camera.take(f"{name}-7-saved")
    click(panel.ui.liveCheckBox)
    wait_until(lambda: panel.ui.statusLabel.text.startswith("Done"), RUN_S)
    camera.take(f"{name}-8-live")
    click(panel.ui.liveCheckBox)


@contextmanager
def saved_in(name: str) -> Iterator[Path]:
    """Give a new folder whose path is the same each time, as the pictures show it, and remove it."""
    folder = Path(tempfile.gettempdir()) / name
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
