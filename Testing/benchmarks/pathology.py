"""A fracture, a lytic lesion, a screw, put into a patient voxel by voxel: none of them is like those that a standardizer was trained with.

What they change is projected exactly, by the projector of the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from IntraopReconLib.core.xrays.materials import MaterialVolumes, material_integrals
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

SOFT_PER_MM, TITANIUM_PER_MM = 0.0214, 0.345  # at 60 keV; NIST XCOM
FINE_MM = 0.5
KINDS = ("fracture", "lytic", "screw")
HALF_EDGE_MM = {"fracture": 26.0, "lytic": 9.0, "screw": 34.0}
GAP_MM, GAP_RADIUS_MM = 2.0, 24.0
LESION_MM = (7.0, 6.0, 8.0)  # half axes
SHAFT_MM, LENGTH_MM, THREAD_MM, PITCH_MM = 2.9, 45.0, 0.7, 2.7
HEAD_MM, HEAD_LENGTH_MM = 5.5, 8.0


@dataclass(frozen=True, eq=False)
class Pathology:
    """One change of a patient.

    Attributes:
        kind: Of KINDS.
        change: What is added to each material's attenuation per mm, in a small box.
    """

    kind: str
    change: MaterialVolumes


def insert(kind: str, volumes: MaterialVolumes, center_lps_mm: np.ndarray, rng: np.random.Generator) -> Pathology:
    """Return a pathology of random direction.

    Args:
        kind: Of KINDS.
        volumes: The patient.
        center_lps_mm: Its middle, [3].
        rng: Source of the direction.
    """
    grid = VoxelGrid.box(center_lps_mm, 2 * HALF_EDGE_MM[kind], FINE_MM)
    k, j, i = np.indices(grid.shape_kji, dtype=np.float32)
    points = transform_points(grid.lps_from_ijk, np.stack([i, j, k], -1))
    here = _nearest(volumes, points)
    axes = _random_axes(rng)
    along, second, third = np.moveaxis((points - center_lps_mm) @ axes, -1, 0)
    change = np.zeros_like(here)
    if kind == "screw":
        inside = _screw(along, np.hypot(second, third))
        change[:] = -here * inside
        change[2] += TITANIUM_PER_MM * inside
    else:
        if kind == "fracture":
            inside = np.clip((GAP_MM / 2 - np.abs(along)) / FINE_MM + 0.5, 0, 1) * (np.hypot(second, third) < GAP_RADIUS_MM)
        else:
            reach = np.sqrt((along / LESION_MM[0]) ** 2 + (second / LESION_MM[1]) ** 2 + (third / LESION_MM[2]) ** 2)
            inside = np.clip((1 - reach) * min(LESION_MM) / FINE_MM + 0.5, 0, 1)
        inside = inside * (here[1] > 0)
        change[1] = -here[1] * inside
        change[0] = np.maximum(SOFT_PER_MM - here[0], 0) * inside
    return Pathology(kind, MaterialVolumes(change.astype(np.float32), grid))


def changed_integrals(pathology: Pathology, view: XrayView) -> np.ndarray:
    """Return what a pathology adds to the line integrals of each material, [material, row, column]."""
    return material_integrals(pathology.change, view)


def contrast_recovery(change: np.ndarray, ideal: np.ndarray) -> float:
    """Return the share of a pathology's contrast that is left: the slope of what it changes on what it should, where it should.

    Args:
        change: What the pathology changes in the standardized image, [row, column].
        ideal: The same in the ideal bone DRR; pixels below a twentieth of its largest value do not count.
    """
    shown = np.abs(ideal) > 0.05 * np.abs(ideal).max()
    return float((change[shown] * ideal[shown]).sum() / (ideal[shown] ** 2).sum())


def _screw(along: np.ndarray, off_axis: np.ndarray) -> np.ndarray:
    """Return the share of each voxel that is metal: a threaded shaft with a head."""
    thread = 1 - np.abs((along / PITCH_MM) % 1 - 0.5) * 2
    radius = np.where(along > LENGTH_MM / 2 - HEAD_LENGTH_MM, HEAD_MM, SHAFT_MM - THREAD_MM * (1 - thread))
    return np.clip((radius - off_axis) / FINE_MM + 0.5, 0, 1) * (np.abs(along) < LENGTH_MM / 2)


def _nearest(volumes: MaterialVolumes, points_lps_mm: np.ndarray) -> np.ndarray:
    """Return each material's attenuation per mm at points, [material, ...]; 0 outside."""
    ijk = np.rint(transform_points(np.linalg.inv(volumes.grid.lps_from_ijk), points_lps_mm)).astype(int)
    inside = ((ijk >= 0) & (ijk < np.array(volumes.grid.size_ijk))).all(-1)
    i, j, k = np.moveaxis(np.where(inside[..., None], ijk, 0), -1, 0)
    return volumes.per_mm[:, k, j, i] * inside


def _random_axes(rng: np.random.Generator) -> np.ndarray:
    """Return a random rotation, its axes as columns, [3, 3]."""
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return axes
