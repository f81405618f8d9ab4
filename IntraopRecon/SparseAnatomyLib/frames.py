"""Coordinate frames: the one statement of LPS, RAS and ijk.

`b_from_a` is a homogeneous [4, 4] matrix that maps points of frame a into frame b (column vectors). LPS (DICOM, ITK) points to
the patient's left, posterior, superior; RAS (Slicer) to the right, anterior, superior; ijk counts voxels, i fastest in memory.
"""

from __future__ import annotations

import numpy as np

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RAS_FROM_LPS = LPS_FROM_RAS  # its own inverse


def transform_points(b_from_a: np.ndarray, points_a: np.ndarray) -> np.ndarray:
    """Map points.

    Args:
        b_from_a: [4, 4].
        points_a: [..., 3], in frame a.

    Returns:
        [..., 3], in frame b.
    """
    return points_a @ b_from_a[:3, :3].T + b_from_a[:3, 3]


def transform_vectors(b_from_a: np.ndarray, vectors_a: np.ndarray) -> np.ndarray:
    """Map directions and displacements [..., 3], which no translation moves."""
    return vectors_a @ b_from_a[:3, :3].T


def affine(linear: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Compose a [4, 4] matrix from its [3, 3] linear part and its [3] translation."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translation
    return matrix


def ras_transform_from_lps(lps_b_from_lps_a: np.ndarray) -> np.ndarray:
    """Express in RAS a transform [4, 4] between two LPS frames, as Slicer's transform nodes want it; also the other way."""
    return RAS_FROM_LPS @ lps_b_from_lps_a @ LPS_FROM_RAS
