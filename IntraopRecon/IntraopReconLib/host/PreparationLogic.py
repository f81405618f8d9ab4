"""What is done with X-rays before a reconstruction, in a worker of its own, so that a running reconstruction does not keep it waiting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SparseAnatomyLib.errors import InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.host import Nodes
from SparseAnatomyLib.host.Signal import Signal
from SparseAnatomyLib.host.WorkerLogic import Adding, MakeWorker, WorkerLogic

from .CaseFrames import CaseFrames, addFrames
from .PreparedCase import PreparedCase, readPrepared
from .ResultFolder import XrayFile
from .StandardizedPreview import readPreview

DESCRIBE, CALIBRATE, IMPORT, STANDARDIZE = "describe", "calibrate", "import_poses", "preview_standardization"


@dataclass(frozen=True, eq=False)
class Prepared:
    """What `finished` tells.

    Attributes:
        what: The job that has ended: DESCRIBE, CALIBRATE or IMPORT.
        isDone: Whether it did what it should; if not, `failed` says why.
        case: How the case is now.
        frames: Its X-rays in the 3D view, hidden.
    """

    what: str
    isDone: bool
    case: PreparedCase
    frames: CaseFrames


class PreparationLogic(WorkerLogic):
    """Takes X-rays in, finds or reads their poses, and tells each time how the case is then.

    A calibration that fails leaves its findings in the case: `finished` tells of them first, then `failed` why.

    Attributes:
        job: What was asked for and runs: DESCRIBE, CALIBRATE, IMPORT, STANDARDIZE; empty for nothing.
        standardized: Signal(StandardizedPreview): what a standardization makes of the X-rays; `finished` says nothing then.
    """

    def __init__(self, scene, casesFolder: Path, makeWorker: MakeWorker | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            scene: vtkMRMLScene.
            casesFolder: Where cases are made of X-rays that are none yet.
            makeWorker: Makes the worker, given the function that takes its events.
        """
        super().__init__(scene, "IntraopReconLib.worker", makeWorker)
        self.job, self.standardized = "", Signal()
        self._cases, self._temporary, self._count = Path(casesFolder), "", 0
        self._stage, self._case, self._error = "", "", None  # the stage is DESCRIBE at the end of a calibration too

    def warmUp(self) -> None:
        """Start the worker, so that the first X-rays are not kept waiting; where it cannot be started, the first job says so."""
        try:
            self._readyWorker().request("ping")
        except ResourceError:
            return

    def describe(self, sources: Sequence[str]) -> None:
        """Look at X-rays: a case folder, or files and folders of which a case is made.

        Raises:
            InputError: Something runs already.
            ResourceError: The worker cannot be started.
        """
        self._start(DESCRIBE, sources=list(sources), cases=str(self._cases), out=self._newFolder())

    def calibrate(self, case: str, beads: dict[str, list | None], jig: Any = None, **more: Any) -> None:
        """Find the poses of a case's X-rays by the beads in them.

        Args:
            case: Case folder.
            beads: Those that were placed by hand, as `core.calibrate_edits.place_beads` takes them.
            jig: vtkMRMLMarkupsFiducialNode with a point at each bead, or None.
            more: `fiducials` (a file instead of the node), `known_distance_mm`.

        Raises:
            InputError: Something runs already.
            ResourceError: The worker cannot be started.
        """
        points = None if jig is None else _points(jig)
        self._case = case
        self._start(CALIBRATE, case=case, beads=beads, jig=points, **more)

    def importPoses(self, case: str, files: Sequence[str], **settings: Any) -> None:
        """Take the poses of another program's files; `settings` as `core.calibration_config.PoseFileSettings`; raises as `calibrate`."""
        self._case = case
        self._start(IMPORT, case=case, files=list(files), **settings)

    def standardize(self, case: str, asked: str, skipped: Sequence[str]) -> None:
        """See what a standardization makes of a case's X-rays; raises as `calibrate`.

        Args:
            case: Case folder.
            asked: `auto`, `on` or `off`.
            skipped: Names of X-rays that are left out.
        """
        self._start(STANDARDIZE, case=case, standardize=asked, skipped=list(skipped), out=self._newFolder())

    def close(self) -> None:
        """Stop the worker and remove what it has left."""
        super().close()
        self.job = ""
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary = ""

    def _start(self, kind: str, **payload: Any) -> None:
        if self.isRunning:
            raise InputError("Something is being done with the X-rays already.", "Wait until it is done, or cancel it.")
        self._requestId = self._readyWorker().request(kind, **payload)
        self.job = self._stage = kind

    def _newFolder(self) -> str:
        if not self._temporary:
            self._temporary = tempfile.mkdtemp(prefix="SparseAnatomy-")
        self._count += 1
        return str(Path(self._temporary) / f"xrays_{self._count:03d}")

    def _takeResult(self, paths: dict[str, str]) -> None:
        if self._stage in (DESCRIBE, STANDARDIZE):
            super()._takeResult(paths)
        else:
            self._describeAgain()

    def _endWith(self, error: SparseAnatomyError) -> None:
        if self._stage in (CALIBRATE, IMPORT) and error.kind != "cancelled":
            self._error = error
            self._describeAgain()
        else:
            super()._endWith(error)

    def _describeAgain(self) -> None:
        """Look at the case after a job, whatever came of it."""
        try:
            out = self._newFolder()
            self._requestId = self._readyWorker().request(DESCRIBE, sources=[self._case], cases=str(self._cases), out=out)
        except ResourceError as error:
            self._end(self.failed, error)
            return
        self._stage = DESCRIBE

    def _addResult(self, paths: dict[str, str]) -> Adding:
        if self.job == STANDARDIZE:
            yield
            return readPreview(Path(paths["standardization"]))
        case = readPrepared(Path(paths["case"]), Path(paths["description"]))
        yield
        frames = yield from addFrames(self._scene, XrayFile(Path(paths["frames"])))
        for folder in Path(self._temporary).iterdir():
            if folder != Path(paths["description"]).parent:
                shutil.rmtree(folder, ignore_errors=True)
        return Prepared(self.job, self._error is None, case, frames)

    def _end(self, signal: Signal, outcome: Any) -> None:
        error, self._error = self._error, None
        job, self.job = self.job, ""
        super()._end(self.standardized if job == STANDARDIZE and signal is self.finished else signal, outcome)
        if signal is self.finished and error is not None:
            self.failed.emit(error)


def _points(node) -> list[list[Any]]:
    """Return the placed points of a markups node as (x, y, z, label and description), LPS mm."""
    positions = Nodes.arrayFromPointsNode(node).tolist()
    placed = [n for n in range(len(positions)) if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
    return [[*positions[n], f"{node.GetNthControlPointLabel(n)} {node.GetNthControlPointDescription(n)}".strip()] for n in placed]
