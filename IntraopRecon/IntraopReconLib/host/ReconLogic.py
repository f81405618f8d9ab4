"""What the module does with a scene: runs reconstructions in the worker and brings their results in."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from IntraopReconLib.core.config import ReconstructionConfig, Region
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.Signal import Signal
from SparseAnatomyLib.host.WorkerLogic import Adding, MakeWorker, WorkerLogic

from .ResultFolder import PreparedResult, readResult, readVolume
from .ResultNodes import ResultNodes, addingResult, addResult, showPreview


class ReconLogic(WorkerLogic):
    """Reconstructs and loads results into one scene; its signals are those of `WorkerLogic`, `finished` tells the ResultNodes.

    A failure leaves the scene as it is, previews included.

    Attributes:
        previewed: Signal(isFirst): an intermediate volume is in the scene.
    """

    def __init__(self, scene, makeWorker: MakeWorker | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            scene: vtkMRMLScene.
            makeWorker: Makes the worker, given the function that takes its events.
        """
        super().__init__(scene, "IntraopReconLib.worker", makeWorker)
        self.previewed = Signal()
        self._name = ""
        self._preview = None
        self._nextPreview: Path | None = None
        self._jobFolder: Path | None = None

    def warmUp(self) -> None:
        """Start the worker and let it import what it needs, so that the first preview comes soon after a start.

        Where it cannot be started, the first reconstruction says so.
        """
        with contextlib.suppress(ResourceError):
            self._readyWorker().request("warmup")

    def poll(self) -> None:
        """Take the worker's events, show the latest preview, go on bringing the result in; call it often from the main thread."""
        super().poll()
        path, self._nextPreview = self._nextPreview, None
        if path is not None and not self.isLoading:  # previews that came together: the last one counts
            self._bringPreview(path)

    # Results

    def loadResult(self, folder: Path) -> ResultNodes:
        """Load a result folder into the scene, in a subject hierarchy folder of its own.

        Raises:
            InputError: The folder is missing, incomplete or damaged; the scene is as before.
        """
        folder = Path(folder)
        return addResult(self._scene, readResult(folder), folder.resolve().name)

    # Reconstruction

    def start(
        self, caseFolder: Path, resultFolder: Path, config: ReconstructionConfig | None = None, skipped: Collection[str] = ()
    ) -> None:
        """Start to reconstruct a case; signals tell how it goes on.

        Args:
            caseFolder: Case folder.
            resultFolder: Where the result is written.
            config: Settings; the defaults if None.
            skipped: Names of X-rays that are left out.

        Raises:
            InputError: There is no such case folder, or a reconstruction is already running.
            ResourceError: The worker cannot be started.
        """
        if self.isRunning:
            raise InputError("A reconstruction is already running.", "Wait until it is done, or cancel it.")
        caseFolder = Path(caseFolder)
        if not os.path.isdir(caseFolder):  # of a path too long for a file system, Path.is_dir raises an OSError
            raise InputError(f"There is no case folder {caseFolder}.", "Choose the folder that holds xrays and poses.json.")
        worker = self._readyWorker()
        self._name, self._preview = caseFolder.resolve().name, None
        settings = (config or ReconstructionConfig()).to_json()
        folders = {"case": str(caseFolder), "out": str(resultFolder), "scene": str(self._makeJobFolder())}
        self._requestId = worker.request("reconstruct", **folders, config=settings, skipped=sorted(skipped))

    def _makeJobFolder(self) -> Path:
        """Return a new folder in which the worker lays the result ready for the scene."""
        try:
            self._jobFolder = Path(tempfile.mkdtemp(prefix="IntraopRecon-"))
        except OSError as error:
            raise ResourceError("The temporary folder cannot be written to.", "Free some space on its disk, then try again.") from error
        return self._jobFolder

    def reconstruct(
        self, caseFolder: Path, resultFolder: Path, config: ReconstructionConfig | None = None, idle: Callable[[], None] | None = None
    ) -> ResultNodes:
        """Reconstruct a case and wait for the result, for scripts and the Python console.

        Args:
            caseFolder: Case folder.
            resultFolder: Where the result is written.
            config: Settings; the defaults if None.
            idle: Called while waiting, to keep the application responsive; a short sleep if None.

        Returns:
            The nodes that are now in the scene.

        Raises:
            SparseAnatomyError: What a failure says: InputError, ResourceError, Cancelled.
        """
        return self._wait(lambda: self.start(caseFolder, resultFolder, config), idle)

    def _addResult(self, paths: dict[str, str]) -> Adding:
        prepared = "scene" in paths
        source = PreparedResult(Path(paths["scene"]), Path(paths["views"])) if prepared else readResult(Path(paths["volume"]).parent)
        yield
        return (yield from addingResult(self._scene, source, self._name, self._preview))

    def _showPreview(self, path: Path) -> None:
        self._nextPreview = path

    def _bringPreview(self, path: Path) -> None:
        try:
            array, grid = readVolume(path)
        except InputError:
            return  # the job has ended meanwhile and taken its previews along
        before = self._preview
        self._preview = showPreview(self._scene, array, grid, self._name, before)
        self.previewed.emit(self._preview is not before)

    def _forgetJob(self) -> None:
        super()._forgetJob()
        self._preview = self._nextPreview = None
        if self._jobFolder is not None:
            shutil.rmtree(self._jobFolder, ignore_errors=True)
            self._jobFolder = None


def regionFromRoiNode(node) -> Region:
    """Return the region that a markups ROI node marks.

    Raises:
        InputError: The ROI has not been placed, or is sheared.
    """
    box = Nodes.boxFromRoiNode(node)
    direction = tuple(tuple(row) for row in box.direction.tolist())
    return Region(tuple(box.center_lps_mm.tolist()), tuple(box.extent_mm.tolist()), direction)
