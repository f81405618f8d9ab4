"""What the module does with a scene: completes outlined segments in the worker, on request or at every edit, and shows what comes out."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import slicer
import vtk

from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.config_check import config_to_json
from ShapeCompletionLib.core.planes import Plane
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError, SparseAnatomyError
from SparseAnatomyLib.host import Folders
from SparseAnatomyLib.host.Signal import Signal
from SparseAnatomyLib.host.WorkerLogic import Adding, MakeWorker, WorkerLogic
from SparseAnatomyLib.volumes import sitk_image

from .CompletionFolder import readCompletion
from .CompletionNodes import CompletionNodes, showingCompletion
from .Outlines import Outline, readOutline, segmentIdOf

DEBOUNCE_S = 0.08  # after the last edit: several moves of a mouse that draws; most of Slicer's effects edit once, at the end of a stroke
DEFAULT_PRIOR = "vertebra"
_LABEL = 1
_EDITS = (  # what a segmentation node tells when something in it changes
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    vtk.vtkCommand.ModifiedEvent,
)


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be completed, and how.

    Attributes:
        segmentation: vtkMRMLSegmentationNode.
        segmentId: Which of its segments.
        prior: Name of the prior, or a path of one.
        config: Settings.
        planes: The planes that were outlined, indices of the reference volume; found by themselves if None.
    """

    segmentation: Any
    segmentId: str
    prior: str
    config: CompletionConfig
    planes: Sequence[Plane] | None


class CompletionLogic(WorkerLogic):
    """Completes shapes in one scene; its signals are those of `WorkerLogic`, `finished` tells the CompletionNodes.

    The segmentation that the user draws in is only read. Whoever owns this calls `poll` from a timer while `isRunning` or `isLive`.

    Attributes:
        outlined: Signal(segmentation node, segment id, Outline): what is being completed.
    """

    def __init__(self, scene, makeWorker: MakeWorker | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is started yet.

        Args:
            scene: vtkMRMLScene.
            makeWorker: Makes the worker, given the function that takes its events.
            clock: Tells the time in seconds.
        """
        super().__init__(scene, "ShapeCompletionLib.worker", makeWorker)
        self.outlined = Signal()
        self._clock = clock
        self._order: Order | None = None  # of the running job
        self._jobFolder: Path | None = None
        self._digest = b""  # of the outline that was last sent
        self._live: Order | None = None
        self._observed: list[int] = []
        self._dueAt: float | None = None  # when an edit is to be looked at

    @property
    def isLive(self) -> bool:
        """Whether edits complete a shape again."""
        return self._live is not None

    # On request

    def start(
        self,
        segmentation,
        segment: str = "",
        prior: str = DEFAULT_PRIOR,
        config: CompletionConfig | None = None,
        planes: Sequence[Plane] | None = None,
    ) -> None:
        """Start to complete a segment; signals tell how it goes on.

        Args:
            segmentation: vtkMRMLSegmentationNode of the scene.
            segment: Id or name of the segment; empty for the only one.
            prior: Name of the prior.
            config: Settings; the defaults if None.
            planes: The planes that were outlined; found by themselves if None.

        Raises:
            InputError: There is nothing to complete, or a completion is already running.
            ResourceError: The worker cannot be started, or the disk is full.
        """
        if self.isRunning:
            raise InputError("A completion is already running.", "Wait until it is done, or cancel it.")
        order = self._checkedOrder(segmentation, segment, prior, config, planes)
        self._request(order, _outlineOf(order))

    def complete(
        self,
        segmentation,
        segment: str = "",
        prior: str = DEFAULT_PRIOR,
        config: CompletionConfig | None = None,
        planes: Sequence[Plane] | None = None,
        idle: Callable[[], None] | None = None,
    ) -> CompletionNodes:
        """Complete a segment and wait for the result, for scripts and the Python console.

        Args:
            segmentation: As `start`, and the four after it.
            segment: Id or name.
            prior: Name.
            config: Settings.
            planes: What was outlined.
            idle: Called while waiting, to keep the application responsive; a short sleep if None.

        Returns:
            The nodes that are now in the scene.

        Raises:
            SparseAnatomyError: What a failure says: InputError, ResourceError, Cancelled.
        """
        return self._wait(lambda: self.start(segmentation, segment, prior, config, planes), idle)

    def warmUp(self, prior: str = DEFAULT_PRIOR) -> None:
        """Start the worker and let it import what it needs, so that the first completion is as fast as the later ones.

        Where it cannot be started, the first completion says so.
        """
        with contextlib.suppress(ResourceError):
            self._readyWorker().request("warmup", prior=prior)

    # Live

    def live(
        self,
        segmentation,
        segment: str = "",
        prior: str = DEFAULT_PRIOR,
        config: CompletionConfig | None = None,
        planes: Sequence[Plane] | None = None,
    ) -> None:
        """Complete a segment now and again after every edit, once the hand has rested for `DEBOUNCE_S`; arguments as `start`.

        What edits leave as it was (a color, another segment) starts nothing. A result that a newer edit has overtaken is dropped.

        Raises:
            InputError: There is no such segment.
        """
        order = self._checkedOrder(segmentation, segment, prior, config, planes)
        self.stopLive()
        self._live, self._digest, self._dueAt = order, b"", self._clock()
        self._observed = [order.segmentation.AddObserver(event, self._onEdit) for event in _EDITS]

    def stopLive(self) -> None:
        """Leave edits alone; what runs goes on."""
        if self._live is not None:
            for tag in self._observed:
                self._live.segmentation.RemoveObserver(tag)
        self._live, self._observed, self._dueAt = None, [], None

    def poll(self) -> None:
        """Take the worker's events and look at edits; call it often from the main thread."""
        super().poll()
        if self._live is not None and not Folders.isInScene(self._scene, self._live.segmentation):
            self.stopLive()
        if self._dueAt is not None and self._dueAt <= self._clock() and not self.isRunning:
            self._completeEdit()

    def close(self) -> None:
        """Stop the worker and leave edits alone, without a word about what it was doing."""
        self.stopLive()
        super().close()
        self._tidy()

    def _onEdit(self, caller=None, event=None) -> None:
        self._dueAt = self._clock() + DEBOUNCE_S

    def _completeEdit(self) -> None:
        self._dueAt = None
        try:
            segmentIdOf(self._live.segmentation, self._live.segmentId)
            outline = _outlineOf(self._live)
            if outline.digest != self._digest:
                self._request(self._live, outline)
        except SparseAnatomyError as error:
            self._digest = b""
            self.failed.emit(error)

    def _isOvertaken(self) -> bool:
        """Whether what runs was started for edits, and other edits have come since."""
        if self._dueAt is None or self._order is not self._live:
            return False
        try:
            return _outlineOf(self._live).digest != self._digest
        except InputError:
            return True

    # Jobs

    def _checkedOrder(
        self, segmentation, segment: str, prior: str, config: CompletionConfig | None, planes: Sequence[Plane] | None
    ) -> Order:
        if not Folders.isInScene(self._scene, segmentation):
            raise InputError("No segmentation is chosen.", "Choose the segmentation that you have outlined slices in.")
        return Order(segmentation, segmentIdOf(segmentation, segment), prior, config or CompletionConfig(), planes)

    def _request(self, order: Order, outline: Outline) -> None:
        worker = self._readyWorker()
        self._jobFolder = _writeJob(outline)
        payload: dict[str, Any] = {"label": _LABEL, "prior": order.prior, "config": config_to_json(order.config), "compressed": False}
        if order.planes is not None:
            payload["planes"] = [str(plane) for plane in order.planes]
        try:
            paths = {"segmentation": str(self._jobFolder / "outline.nrrd"), "out": str(self._jobFolder / "result")}
            self._requestId = worker.request("complete", **paths, **payload)
        except BaseException:
            self._tidy()
            raise
        self._order, self._digest = order, outline.digest
        self.outlined.emit(order.segmentation, order.segmentId, outline)

    def _takeResult(self, paths: dict[str, str]) -> None:
        if self._isOvertaken():
            self._drop()
        else:
            super()._takeResult(paths)

    def _addResult(self, paths: dict[str, str]) -> Adding:
        order = self._order
        shape = readCompletion(Path(paths["shape"]).parent)
        yield
        if not Folders.isInScene(self._scene, order.segmentation):
            raise Cancelled("The segmentation has been removed while its shape was being completed.")
        return (yield from showingCompletion(self._scene, shape, order.segmentation, order.segmentId))

    def _end(self, signal: Signal, outcome: Any) -> None:
        if signal is self.failed and self._isOvertaken():
            self._drop()
            return
        self._tidy()
        super()._end(signal, outcome)

    def _drop(self) -> None:
        """End the job without a word: a newer edit is about to start another."""
        self._forgetJob()
        self._tidy()

    def _tidy(self) -> None:
        if self._jobFolder is not None:
            shutil.rmtree(self._jobFolder, ignore_errors=True)
        self._jobFolder, self._order = None, None


def _outlineOf(order: Order) -> Outline:
    """Return what is outlined; where planes are named, their indices are those of the whole volume."""
    return readOutline(order.segmentation, order.segmentId, whole=order.planes is not None)


def _writeJob(outline: Outline) -> Path:
    """Write the labels into a folder of their own and return it.

    Raises:
        ResourceError: The temporary folder cannot be written to.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="ShapeCompletion-"))
        SimpleITK.WriteImage(sitk_image(outline.labels, outline.grid, np.uint8), str(folder / "outline.nrrd"))
    except (OSError, RuntimeError) as error:  # SimpleITK's own error is a RuntimeError
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        message = f"The outline could not be written to the temporary folder {folder or tempfile.gettempdir()}."
        raise ResourceError(message, "Free some space on its disk, then try again.") from error
    return folder
