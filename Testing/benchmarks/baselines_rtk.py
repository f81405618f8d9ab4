"""RTK's reconstructions of a scene (itk-rtk, CPU): FDK, conjugate gradient and SART, each with Joseph's projectors.

RTK's frame is used as LPS. Its view is a source, the point of the detector whose projection coordinates are zero (here the center of pixel
(0, 0)), and the unit directions of its rows and columns; its images' spacing is the pixel pitch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import itk
import numpy as np
from itk import RTK as rtk  # noqa: N811 the package's own name

from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .scenes import Scene

Image = itk.Image[itk.F, 3]
JOSEPH_FORWARD, JOSEPH_BACKWARD = 0, 1  # the enums of rtkIterativeConeBeamReconstructionFilter.h, not wrapped for Python


def sart(scene: Scene, iterations: int) -> np.ndarray:
    """Reconstruct by SART: one view an update, positivity after each, RTK's own relaxation (0.3). float32 [k, j, i]."""
    reconstruction = _iterative(rtk.SARTConeBeamReconstructionFilter[Image, Image], scene, iterations)
    reconstruction.SetEnforcePositivity(True)
    return _output(reconstruction)


def conjugate_gradient(scene: Scene, iterations: int) -> np.ndarray:
    """Reconstruct by conjugate gradient on least squares, then clip negative values. float32 [k, j, i]."""
    reconstruction = _iterative(rtk.ConjugateGradientConeBeamReconstructionFilter[Image], scene, iterations)
    return np.maximum(_output(reconstruction), 0)


def fdk(scene: Scene) -> np.ndarray:
    """Reconstruct by FDK, clip negative values, and scale to least squares against the truth: more than FDK can do. float32 [k, j, i]."""
    reconstruction = rtk.FDKConeBeamReconstructionFilter[Image].New()
    reconstruction.SetInput(0, _volume(scene.grid))
    reconstruction.SetInput(1, _projections(scene))
    reconstruction.SetGeometry(geometry([view.geometry for view in scene.views]))
    volume = np.maximum(_output(reconstruction), 0)
    truth, inside = scene.ground_truth_per_mm, scene.compared
    return volume * np.float32((volume * truth)[inside].sum() / (volume**2)[inside].sum())


def geometry(views: Sequence[XrayView]) -> Any:
    """Return RTK's geometry of arbitrary views."""
    result = rtk.ThreeDCircularProjectionGeometry.New()
    for view in views:
        pitch_column, pitch_row = view.pixel_pitch_mm
        result.AddProjection(
            itk.Point[itk.D, 3](view.source_lps_mm.tolist()),
            itk.Point[itk.D, 3](view.detector_origin_lps_mm.tolist()),
            itk.Vector[itk.D, 3]((view.column_step_lps_mm / pitch_column).tolist()),
            itk.Vector[itk.D, 3]((view.row_step_lps_mm / pitch_row).tolist()),
        )
    return result


def _iterative(kind: Any, scene: Scene, iterations: int) -> Any:
    reconstruction = kind.New()
    reconstruction.SetInput(0, _volume(scene.grid))
    reconstruction.SetInput(1, _projections(scene))
    if kind is rtk.ConjugateGradientConeBeamReconstructionFilter[Image]:
        reconstruction.SetInputWeights(_stack(np.stack([view.mask for view in scene.views]), scene))
    reconstruction.SetGeometry(geometry([view.geometry for view in scene.views]))
    reconstruction.SetNumberOfIterations(iterations)
    reconstruction.SetForwardProjectionFilter(JOSEPH_FORWARD)
    reconstruction.SetBackProjectionFilter(JOSEPH_BACKWARD)
    reconstruction.SetDisableDisplacedDetectorFilter(True)  # it weights half-fan scans, which these are not
    return reconstruction


def _projections(scene: Scene) -> Any:
    return _stack(np.stack([view.attenuation for view in scene.views]), scene)


def _stack(images: np.ndarray, scene: Scene) -> Any:
    stack = itk.image_from_array(np.ascontiguousarray(images, np.float32))
    stack.SetSpacing([*scene.views[0].geometry.pixel_pitch_mm.tolist(), 1.0])
    return stack


def _volume(grid: VoxelGrid) -> Any:
    volume = itk.image_from_array(np.zeros(grid.shape_kji, np.float32))
    volume.SetSpacing(grid.spacing_mm.tolist())
    volume.SetOrigin(grid.origin_lps_mm.tolist())
    return volume


def _output(reconstruction: Any) -> np.ndarray:
    reconstruction.Update()
    return itk.array_from_image(reconstruction.GetOutput())
