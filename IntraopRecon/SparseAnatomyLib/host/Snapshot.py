"""Off-screen pictures of a scene, drawn by Slicer's own displayable managers: 3D views and slices.

Needs no display: without one VTK draws in software through OSMesa (Debian: libosmesa6).
For headless scenes: the desktop has its own views.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SparseAnatomyLib.errors import ResourceError

from . import Nodes
from .HeadlessScene import HeadlessScene
from .SliceViews import FRAME, aimSliceView, showVolume

_NO_OPENGL = "Pictures of the scene cannot be drawn on this computer: no off-screen OpenGL."
_NO_OPENGL_REMEDY = "Install OSMesa (Debian and Ubuntu: apt-get install libosmesa6), or run on a computer with a display."
_PROBE = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window = vtkRenderWindow()
window.SetOffScreenRendering(1)
window.AddRenderer(vtkRenderer())
window.Render()
raise SystemExit(0 if window.SupportsOpenGL() else 1)
"""
_BACKGROUND_3D = ((0.80, 0.84, 0.89), (0.42, 0.47, 0.55))  # bottom, top
_TEXT_COLOR = (0.95, 0.95, 0.95)
_VIEW_ANGLE_DEG = 30.0
_FRONT_LPS = np.array([0.45, -1.0, 0.22])  # where the camera stands: in front, a little to the patient's left, and above
SLICES = {"Axial": ("R", "L", "A", "P"), "Coronal": ("R", "L", "S", "I"), "Sagittal": ("A", "P", "S", "I")}
"""Orientations and the letters at the left, right, top and bottom of their pictures, as Slicer shows them (patient's right at the left)."""
_MANAGERS_3D = ("Model", "VolumeRendering", "Markups", "Segmentations3D", "OrientationMarker", "ColorLegend")
_MANAGERS_2D = ("ModelSlice", "Segmentations2D", "Ruler")


@dataclass(frozen=True)
class PictureSize:
    """Pixels of the pictures: (width, height) in 3D, edge of the square slices."""

    view3d: tuple[int, int] = (1200, 900)
    slice: int = 640


@dataclass(frozen=True)
class Note:
    """A word in the corner of a slice's picture, and its RGB color."""

    text: str
    color: tuple[float, float, float]


def offscreenProblem() -> str:
    """Return why nothing can be drawn off-screen, empty if it can; found out in a process of its own, for VTK crashes where it cannot."""
    return _probe(_prepareEnvironment())


def requireOffscreen() -> None:
    """Check that pictures can be drawn.

    Raises:
        ResourceError: There is no off-screen OpenGL.
    """
    if offscreenProblem():
        raise ResourceError(_NO_OPENGL, _NO_OPENGL_REMEDY)


def writePictures(pictures: dict[str, vtk.vtkImageData], folder: Path) -> dict[str, Path]:
    """Write pictures as PNG files named after their titles, into a folder that is made.

    Raises:
        ResourceError: The files cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return {title: _writePng(image, folder / f"{title.lower().replace(' ', '_')}.png") for title, image in pictures.items()}
    except OSError as error:
        message = f"The pictures could not be written to {folder}: {error.strerror or error}."
        raise ResourceError(message, "Choose a folder that you may write to and that has free space.") from error


class View3D:
    """A 3D view of a scene, off-screen."""

    def __init__(self, headless: HeadlessScene, size: tuple[int, int]) -> None:
        self._scene = headless.scene
        self._node = headless.scene.AddNewNodeByClass("vtkMRMLViewNode", "Snapshot")
        self._node.SetOrientationMarkerType(self._node.OrientationMarkerTypeCube)
        self._node.SetOrientationMarkerSize(self._node.OrientationMarkerSizeSmall)
        self._renderer, self._window = _renderWindow(size)
        bottom, top = _BACKGROUND_3D
        self._renderer.GradientBackgroundOn()
        self._renderer.SetBackground(*bottom)
        self._renderer.SetBackground2(*top)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self._group = _managers(headless, factory, _MANAGERS_3D, self._renderer, self._node)

    def picture(self, pointsRas: np.ndarray, freeRight: float = 0.0) -> vtk.vtkImageData:
        """Draw with the camera in front of the patient so that points [n, 3] fill the picture, but for a share of it at the right."""
        _aim(self._renderer, pointsRas, freeRight)
        return _grab(self._window)

    def close(self) -> None:
        """Take the view out of the scene."""
        self._group.SetMRMLDisplayableNode(None)
        self._window.Finalize()
        self._scene.RemoveNode(self._node)


def slicePicture(
    headless: HeadlessScene, orientation: str, layers: tuple[Any, Any], pointsRas: np.ndarray, size: int, note: Note | None = None
) -> vtk.vtkImageData:
    """Draw the slice through the middle of points [n, 3], zoomed to them, as a slice view shows it.

    Args:
        headless: Whose scene it is.
        orientation: One of `SLICES`.
        layers: The volume nodes at the back and in front; the latter may be None.
        pointsRas: What the picture frames, [n, 3].
        size: Pixels of an edge.
        note: Written into the corner.
    """
    scene = headless.scene
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(orientation)
    node.SetOrientation(orientation)
    node.SetDimensions(size, size, 1)
    node.SetRulerType(node.RulerTypeThin)
    showVolume(logic.GetSliceCompositeNode(), *layers)
    aimSliceView(node, layers[0], pointsRas)
    renderer, window = _renderWindow((size, size))
    renderer.GetActiveCamera().ParallelProjectionOn()
    image = vtk.vtkImageMapper()
    image.SetColorWindow(255)
    image.SetColorLevel(127.5)
    logic.UpdatePipeline()
    image.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(image)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    group = _managers(headless, factory, _MANAGERS_2D, renderer, node)
    _annotate(renderer, orientation, note)
    picture = _grab(window)
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    for added in (logic.GetSliceCompositeNode(), logic.GetSliceDisplayNode(), node):
        scene.RemoveNode(added)
    return picture


def pointsRas(modelNode) -> np.ndarray:
    """Return a model's points, [n, 3]."""
    return vtk_to_numpy(modelNode.GetPolyData().GetPoints().GetData()).astype(float)


def _annotate(renderer: vtk.vtkRenderer, orientation: str, note: Note | None) -> None:
    left, right, top, bottom = SLICES[orientation]
    places = {left: (0.03, 0.5), right: (0.97, 0.5), top: (0.5, 0.965), bottom: (0.5, 0.09)}  # above the ruler
    for text, place in places.items():
        _text(renderer, text, place, 0.04)
    _text(renderer, orientation, (0.03, 0.965), 0.028, "left")
    if note is not None:
        _text(renderer, note.text, (0.97, 0.965), 0.024, "right", note.color)


def _text(renderer, text: str, place: tuple[float, float], height: float, justify: str = "center", color=_TEXT_COLOR) -> None:
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(*place)
    style = actor.GetTextProperty()
    style.SetFontSize(round(height * renderer.GetRenderWindow().GetSize()[1]))
    style.SetColor(*color)
    style.SetVerticalJustificationToCentered()
    {"left": style.SetJustificationToLeft, "center": style.SetJustificationToCentered, "right": style.SetJustificationToRight}[justify]()
    renderer.AddViewProp(actor)


def _renderWindow(size: tuple[int, int]) -> tuple[vtk.vtkRenderer, vtk.vtkRenderWindow]:
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # with Mesa, depth peeling and multisampling together make what is translucent vanish
    window.SetSize(*size)
    window.AddRenderer(renderer)
    renderer.UseFXAAOn()
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    return renderer, window


def _managers(headless: HeadlessScene, factory, names: tuple[str, ...], renderer: vtk.vtkRenderer, viewNode):
    """Return Slicer's displayable managers at work for a view node."""
    factory.SetMRMLApplicationLogic(headless.applicationLogic)
    for name in names:
        stem, dimension = (name[:-2], name[-2:]) if name.endswith(("2D", "3D")) else (name, "")
        className = f"vtkMRML{stem}DisplayableManager{dimension}"
        if not factory.IsDisplayableManagerRegistered(className):
            factory.RegisterDisplayableManager(className)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(viewNode)
    return group


def _aim(renderer: vtk.vtkRenderer, pointsRas: np.ndarray, freeRight: float = 0.0) -> None:
    """Put the camera where all points are just within the picture less a share of its width at the right."""
    forward = -Nodes.rasFromLps(_FRONT_LPS / np.linalg.norm(_FRONT_LPS))
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, forward), forward])
    width, height = renderer.GetRenderWindow().GetSize()
    slopes = np.tan(np.deg2rad(_VIEW_ANGLE_DEG) / 2) / FRAME * np.array([(1 - freeRight) * width / height, 1.0])
    across, depth = pointsRas @ axes[:2].T, pointsRas @ forward
    # the planes through the points along the frustum's sides meet in the camera: right and up from opposite sides, back by the narrower one
    high, low = (across - depth[:, None] * slopes).max(0), (across + depth[:, None] * slopes).min(0)
    position = axes.T @ [*(high + low) / 2, -((high - low) / (2 * slopes)).max()]
    camera = renderer.GetActiveCamera()
    camera.SetViewAngle(_VIEW_ANGLE_DEG)
    camera.SetPosition(*position)
    camera.SetFocalPoint(*(position + forward * (depth.mean() - position @ forward)))
    camera.SetViewUp(*axes[1])
    camera.SetWindowCenter(freeRight, 0.0)  # to the left by half of what stays free; the unit is half a width
    renderer.ResetCameraClippingRange()


def _grab(window: vtk.vtkRenderWindow) -> vtk.vtkImageData:
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.SetInputBufferTypeToRGB()
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = vtk.vtkImageData()
    image.DeepCopy(grabber.GetOutput())
    return image


def _writePng(image: vtk.vtkImageData, path: Path) -> Path:
    writer = vtk.vtkPNGWriter()
    writer.WriteToMemoryOn()
    writer.SetInputData(image)
    writer.Write()
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(bytes(memoryview(writer.GetResult())))
    os.replace(partial, path)
    return path


def _prepareEnvironment() -> str:
    """Let VTK draw in software where there is no display; return the kind of window that it will make."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkOSOpenGLRenderWindow")
    return os.environ.get("VTK_DEFAULT_OPENGL_WINDOW", "")


@functools.cache
def _probe(windowClass: str) -> str:
    result = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    return "" if result.returncode == 0 else f"{_NO_OPENGL} {_NO_OPENGL_REMEDY}"
