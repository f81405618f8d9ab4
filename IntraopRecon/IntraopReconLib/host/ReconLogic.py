"""What the module does with a scene: runs reconstructions in the worker and brings their results in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from IntraopReconLib.core.config import ReconstructionConfig, Region
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.failures import explain
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.Signal import Signal
from SparseAnatomyLib.host.WorkerProcess import WorkerProcess

from .ResultFolder import readResult, readVolume
from .ResultNodes import ResultNodes, addResult, showPreview

_ERRORS = {cls.kind: cls for cls in (InputError, ResourceError, Cancelled)}
_POLL_INTERVAL_S = 0.05


class Worker(Protocol):
    """What `ReconLogic` needs of a worker process: see `SparseAnatomyLib.host.WorkerProcess`."""

    def request(self, kind: str, **payload: Any) -> str:
        """Send a request and return its id."""

    def cancel(self, id: str) -> None:
        """Ask a job to stop."""

    def poll(self) -> None:
        """Deliver the events that have come."""

    def stop(self) -> None:
        """End the process."""


class ReconLogic:
    """Reconstructs and loads results into one scene. Whoever owns it calls `poll` from a timer while `isRunning`.

    A failure is a message with a remedy and leaves the scene as it is, previews included.

    Attributes:
        progressed: Signal(fraction, message).
        warned: Signal(message).
        finished: Signal(ResultNodes): a reconstruction is in the scene.
        failed: Signal(SparseAnatomyError): it is not; kind `cancelled` when the user has asked for that.
    """

    def __init__(self, scene, makeWorker: Callable[[Callable[[dict[str, Any]], None]], Worker] | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            scene: vtkMRMLScene.
            makeWorker: Makes the worker, given the function that takes its events.
        """
        self.progressed, self.warned, self.finished, self.failed = Signal(), Signal(), Signal(), Signal()
        self._scene = scene
        self._makeWorker = makeWorker or (lambda onEvent: WorkerProcess("IntraopReconLib.worker", onEvent))
        self._worker: Worker | None = None
        self._requestId = ""
        self._name = ""
        self._preview = None

    @property
    def isRunning(self) -> bool:
        """Whether a reconstruction is on its way."""
        return bool(self._requestId)

    # Results

    def loadResult(self, folder: Path) -> ResultNodes:
        """Load a result folder into the scene, in a subject hierarchy folder of its own.

        Raises:
            InputError: The folder is missing, incomplete or damaged; the scene is as before.
        """
        folder = Path(folder)
        return addResult(self._scene, readResult(folder), folder.resolve().name)

    # Reconstruction

    def start(self, caseFolder: Path, resultFolder: Path, config: ReconstructionConfig | None = None) -> None:
        """Start to reconstruct a case; signals tell how it goes on.

        Args:
            caseFolder: Case folder.
            resultFolder: Where the result is written.
            config: Settings; the defaults if None.

        Raises:
            InputError: There is no such case folder, or a reconstruction is already running.
            ResourceError: The worker cannot be started.
        """
        if self.isRunning:
            raise InputError("A reconstruction is already running.", "Wait until it is done, or cancel it.")
        caseFolder = Path(caseFolder)
        if not caseFolder.is_dir():
            raise InputError(f"There is no case folder {caseFolder}.", "Choose the folder that holds xrays and poses.json.")
        if self._worker is None:
            self._worker = self._makeWorker(self._take)
        self._name, self._preview = caseFolder.resolve().name, None
        settings = (config or ReconstructionConfig()).to_json()
        self._requestId = self._worker.request("reconstruct", case=str(caseFolder), out=str(resultFolder), config=settings)

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
        outcome: list[Any] = []
        signals = (self.finished, self.failed)
        try:
            for signal in signals:
                signal.connect(outcome.append)
            self.start(caseFolder, resultFolder, config)
            while not outcome:
                self.poll()
                (idle or _sleep)()
        finally:
            for signal in signals:
                signal.disconnect(outcome.append)
            self.cancel()  # only if the waiting was interrupted
        if isinstance(outcome[0], SparseAnatomyError):
            raise outcome[0]
        return outcome[0]

    def cancel(self) -> None:
        """Ask the running reconstruction to stop; `failed` comes within a second."""
        if self.isRunning:
            self._worker.cancel(self._requestId)

    def poll(self) -> None:
        """Take the worker's events; call it often from the main thread."""
        if self._worker is not None:
            self._worker.poll()

    def close(self) -> None:
        """Stop the worker, without a word about what it was doing."""
        self._requestId = ""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _take(self, event: dict[str, Any]) -> None:
        if not self.isRunning or event.get("id") != self._requestId:
            return  # of a request that is none of ours any more
        match event["event"]:
            case "progress":
                self.progressed.emit(event["fraction"], event["message"])
            case "warning":
                self.warned.emit(event["message"])
            case "preview":
                self._showPreview(Path(event["path"]))
            case "result":
                self._addResult(Path(event["paths"]["volume"]).parent)
            case "failure":
                self._end(self.failed, _ERRORS.get(event["kind"], SparseAnatomyError)(event["message"], event["remedy"]))

    def _addResult(self, folder: Path) -> None:
        try:
            nodes = addResult(self._scene, readResult(folder), self._name, self._preview)
        except Exception as error:  # a panel shows no traceback: it goes to a log file
            self._end(self.failed, explain(error))
        else:
            self._end(self.finished, nodes)

    def _showPreview(self, path: Path) -> None:
        try:
            array, grid = readVolume(path)
        except InputError:
            return  # the job has ended meanwhile and taken its previews along
        self._preview = showPreview(self._scene, array, grid, self._name, self._preview)

    def _end(self, signal: Signal, outcome: Any) -> None:
        self._requestId, self._preview = "", None
        signal.emit(outcome)


def regionFromRoiNode(node) -> Region:
    """Return the region that a markups ROI node marks.

    Raises:
        InputError: The ROI has not been placed, or is sheared.
    """
    box = Nodes.boxFromRoiNode(node)
    direction = tuple(tuple(row) for row in box.direction.tolist())
    return Region(tuple(box.center_lps_mm.tolist()), tuple(box.extent_mm.tolist()), direction)


def _sleep() -> None:
    time.sleep(_POLL_INTERVAL_S)
