"""What the worker does for a result that is in the scene: its bone at another threshold, pictures, files for other programs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from IntraopReconLib.core.scene_files import grid_values
from SparseAnatomyLib.errors import InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.WorkerLogic import Errand

from .ReconLogic import ReconLogic
from .ResultFolder import PreparedBone
from .ResultNodes import ResultNodes

_VOXELS = ".npy"
Fail = Callable[[SparseAnatomyError], None]


class ResultErrands:
    """Sends a logic's worker on errands; arrays go there and come back as files in a folder of their own.

    All methods raise a ResourceError where the worker cannot be started or the temporary folder cannot be written to.
    """

    def __init__(self, recon: ReconLogic) -> None:
        """Prepare; no folder is made yet."""
        self._recon, self._folder, self._count = recon, "", 0
        self._written: tuple[Any, int] | None = None  # the volume node whose voxels lie in the folder, and their time of change
        self._grid: VoxelGrid | None = None
        self._file: Path | None = None  # where they lie
        self._waiting: dict[str, Path] = {}  # the voxels that errands need, by the errand's id

    def bone(self, nodes: ResultNodes, thresholdPerMm: float, done: Callable[[PreparedBone, VoxelGrid], None], failed: Fail) -> None:
        """Compute the bone at another threshold."""
        out = self._newPath()
        errand = _answered(out, lambda: done(PreparedBone(out, grid.shape_kji, thresholdPerMm), grid), failed)
        grid = self._askOfVolume("bone", nodes, errand, threshold_per_mm=thresholdPerMm, out=str(out))

    def compare(self, nodes: ResultNodes, view: str, kind: str, done: Callable[[Path], None], failed: Fail) -> None:
        """Draw an X-ray: `kind` is measured, reprojected or difference; the picture is there until `done` returns."""
        out = self._newPath().with_suffix(".png")
        errand = _answered(out, lambda: done(out), failed)
        self._recon.ask("compare", errand, result=nodes.resultFolder, view=view, picture=kind, out=str(out))

    def export(self, nodes: ResultNodes, name: str, kind: str, out: str, case: str | None, errand: Errand) -> None:
        """Write files for other programs into the folder `out`: `kind` is nrrd, stl or dicom; `case` may say whose X-rays these are."""
        result = nodes.resultFolder if os.path.isfile(os.path.join(nodes.resultFolder, "report.json")) else None
        payload = {"threshold_per_mm": nodes.thresholdPerMm, "name": name, "format": kind, "out": out, "result": result, "case": case}
        self._askOfVolume("export", nodes, errand, **payload)

    def device(self, wanted: str, done: Callable[[str], None], failed: Fail) -> None:
        """Ask which device is used, and why, in one sentence."""
        out = self._newPath()
        self._recon.ask("device", _answered(out, lambda: done(_read(out)["sentence"]), failed), wanted=wanted, out=str(out))

    def cards(self, done: Callable[[dict[str, str]], None], failed: Fail) -> None:
        """Ask for the names of the graphics cards that there are, by device."""
        out = self._newPath()
        self._recon.ask("cards", _answered(out, lambda: done(_read(out)), failed), out=str(out))

    def region(self, case: str, done: Callable[[Nodes.Box], None], failed: Fail) -> None:
        """Ask for the box that is reconstructed where none is drawn."""
        out = self._newPath()

        def take() -> None:
            values = _read(out)
            done(Nodes.Box(*(np.array(values[key], float) for key in ("center_lps_mm", "extent_mm", "direction"))))

        self._recon.ask("region", _answered(out, take, failed), case=case, out=str(out))

    def forget(self) -> None:
        """Remove the volume that lies in the folder, as soon as no errand needs it: its scene is gone."""
        self._written = self._file = None
        self._tidy()

    def close(self) -> None:
        """Remove the folder."""
        self._written = self._file = None
        self._waiting.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = ""

    def _askOfVolume(self, kind: str, nodes: ResultNodes, errand: Errand, **payload: Any) -> VoxelGrid:
        """Send on an errand that needs the volume as it is now, whatever becomes of the scene meanwhile; return where its voxels lie."""

        def then(tell: Callable[[Any], None]) -> Callable[[Any], None]:
            def told(outcome: Any) -> None:
                self._waiting.pop(id, None)
                self._tidy()
                tell(outcome)

            return told

        asked = replace(errand, done=then(errand.done), failed=then(errand.failed))
        id = self._recon.ask(kind, asked, **self._volume(nodes), **payload)
        self._waiting[id] = self._file
        return self._grid

    def _volume(self, nodes: ResultNodes) -> dict[str, Any]:
        """Write the volume unless it lies there already, and return what a request says of it."""
        state = (nodes.volume, nodes.volume.GetImageData().GetMTime() if nodes.volume.GetImageData() else 0)
        if self._written != state or not self._file.is_file():
            array, grid = Nodes.arrayFromVolumeNode(nodes.volume)
            path = self._newPath().with_suffix(_VOXELS)
            try:
                np.save(path, array.astype(np.float32, copy=False))
            except OSError as error:
                raise ResourceError(f"{path} cannot be written.", "Free some space on its disk, then try again.") from error
            self._written, self._file, self._grid = state, path, grid
            self._tidy()
        return {"volume": str(self._file), "grid": grid_values(self._grid)}

    def _tidy(self) -> None:
        """Remove voxels that nobody waits for any more."""
        needed = {self._file, *self._waiting.values()}
        for path in Path(self._folder).glob(f"*{_VOXELS}") if self._folder else ():
            if path not in needed:
                path.unlink(missing_ok=True)

    def _base(self) -> Path:
        if not self._folder or not Path(self._folder).is_dir():
            try:
                self._folder = tempfile.mkdtemp(prefix="IntraopRecon-")
            except OSError as error:
                message = "The temporary folder cannot be written to."
                raise ResourceError(message, "Free some space on its disk, then try again.") from error
        return Path(self._folder)

    def _newPath(self) -> Path:
        self._count += 1
        return self._base() / f"errand_{self._count:05d}"


def _answered(out: Path, take: Callable[[], None], failed: Fail) -> Errand:
    """Return an errand whose answer, the file or folder `out`, is taken and then removed."""

    def done(_paths: dict[str, str]) -> None:
        try:
            take()
        finally:
            _remove(out)

    return Errand(done, failed)


def _remove(path: Path) -> None:
    """Remove a file or a folder; one that cannot be removed goes with the whole folder."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read.", "Try again.") from error
