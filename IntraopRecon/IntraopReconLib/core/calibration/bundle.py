"""All views at once: poses, what the views share of the camera, and the beads, adjusted together (Levenberg–Marquardt, analytic Jacobian).

What is known beforehand enters as residuals weighed by its tolerance; this also holds the gauge. Where the beads are free, position,
orientation and scale of the whole stay about where they began.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from IntraopReconLib.core.calibration_config import BundleSettings

from .camera import Camera, moved, rotation_matrix

CAMERA_PARAMETERS = 4  # logarithm of the SDD, principal point (column, row), radial distortion
LEAST_DAMPING, MOST_DAMPING = 1e-12, 1e12
CONVERGED = 1e-9  # relative decrease of the cost


@dataclass(frozen=True, eq=False)
class Observations:
    """Points that are known to be beads.

    Attributes:
        view: Number of the view [n].
        bead: Number of the bead [n].
        pixel: (column, row) [n, 2].
    """

    view: np.ndarray
    bead: np.ndarray
    pixel: np.ndarray


@dataclass(frozen=True, eq=False)
class Bundle:
    """Cameras, poses and beads that agree.

    Attributes:
        camera: Shared intrinsics.
        poses: Camera from LPS [V, 4, 4].
        beads_lps_mm: [B, 3].
    """

    camera: Camera
    poses: np.ndarray
    beads_lps_mm: np.ndarray

    def residual_px(self, seen: Observations) -> np.ndarray:
        """Return projected bead minus point, [n, 2]."""
        return _project(self, seen)[0] - seen.pixel


def bundle_adjust(start: Bundle, seen: Observations, settings: BundleSettings) -> Bundle:
    """Minimize the robust reprojection error over all views.

    Args:
        start: First values; of the camera and the beads also what is known beforehand.
        seen: Points with their beads; every view needs at least three.
        settings: What is adjusted, and how firmly the first values hold.

    Returns:
        The adjusted values.

    Source: Triggs et al., Bundle Adjustment: A Modern Synthesis, Vision Algorithms 1999, LNCS 1883, sections 3 and 6.
    """
    free = _free_parameters(start, seen, settings)
    damping, now = 1e-3, start
    cost, normal, gradient = _normal_equations(now, start, seen, settings)
    for _ in range(settings.iterations):
        step = np.zeros(len(gradient))
        system = normal[np.ix_(free, free)]
        diagonal = np.diag(system)
        damped = system + np.diag(damping * np.maximum(diagonal, 1e-9 * diagonal.max()))
        step[free] = -cho_solve(cho_factor(damped, check_finite=False), gradient[free], check_finite=False)
        trial = _stepped(now, step)
        next_cost = _cost(trial, start, seen, settings)
        if next_cost <= cost:
            done = cost - next_cost < CONVERGED * cost
            now, damping = trial, max(LEAST_DAMPING, damping / 10)
            cost, normal, gradient = _normal_equations(now, start, seen, settings)
            if done:
                break
        else:
            damping *= 10
            if damping > MOST_DAMPING:
                break
    return now


def _free_parameters(bundle: Bundle, seen: Observations, settings: BundleSettings) -> np.ndarray:
    """Return the numbers of the parameters that move: camera, then six a view, then three a bead."""
    point = settings.principal_point_tolerance_px > 0
    shared = np.array([settings.focal_tolerance > 0, point, point, settings.radial_tolerance > 0])
    views = np.repeat(np.isin(np.arange(len(bundle.poses)), seen.view), 6)
    beads = np.repeat(np.isin(np.arange(len(bundle.beads_lps_mm)), seen.bead) & (settings.bead_tolerance_mm > 0), 3)
    return np.flatnonzero(np.concatenate([shared, views, beads]))


def _stepped(bundle: Bundle, step: np.ndarray) -> Bundle:
    camera = bundle.camera
    focal, column, row, radial = step[:CAMERA_PARAMETERS]
    camera = replace(
        camera,
        source_to_detector_mm=camera.source_to_detector_mm * float(np.exp(np.clip(focal, -1, 1))),
        principal_point_px=(camera.principal_point_px[0] + column, camera.principal_point_px[1] + row),
        radial=camera.radial + float(radial),
    )
    views, beads = np.split(step[CAMERA_PARAMETERS:], [6 * len(bundle.poses)])
    pivot = bundle.beads_lps_mm.mean(0)
    poses = [moved(pose, rotation_matrix(s[:3]), s[3:], pivot) for pose, s in zip(bundle.poses, views.reshape(-1, 6), strict=True)]
    return Bundle(camera, np.stack(poses), bundle.beads_lps_mm + beads.reshape(-1, 3))


def _project(bundle: Bundle, seen: Observations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels [n, 2], points in camera coordinates [n, 3] and those about the pivot of their view [n, 3]."""
    camera, poses = bundle.camera, bundle.poses[seen.view]
    local = np.einsum("nij,nj->ni", poses[:, :3, :3], bundle.beads_lps_mm[seen.bead]) + poses[:, :3, 3]
    pivot = bundle.poses[:, :3, :3] @ bundle.beads_lps_mm.mean(0) + bundle.poses[:, :3, 3]
    ideal = camera.principal_point_px + camera.focal_px * local[:, :2] / local[:, 2:]
    return camera.distorted_px(ideal), local, local - pivot[seen.view]


def _priors(bundle: Bundle, start: Bundle, settings: BundleSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviations from what is known beforehand in standard deviations, and the inverse standard deviations, one a parameter."""
    tolerances = [settings.focal_tolerance, *[settings.principal_point_tolerance_px] * 2, settings.radial_tolerance]
    bead = settings.bead_tolerance_mm
    sigma = np.concatenate([tolerances, np.full(6 * len(bundle.poses), np.inf), np.full(bundle.beads_lps_mm.size, bead)])
    weight = np.where(sigma > 0, 1 / np.where(sigma > 0, sigma, 1), 0)
    camera, first = bundle.camera, start.camera
    shared = [np.log(camera.source_to_detector_mm / first.source_to_detector_mm)]
    shared += [*np.subtract(camera.principal_point_px, first.principal_point_px), camera.radial - first.radial]
    moved_mm = (bundle.beads_lps_mm - start.beads_lps_mm).ravel()
    return weight * np.concatenate([shared, np.zeros(6 * len(bundle.poses)), moved_mm]), weight


def _cost(bundle: Bundle, start: Bundle, seen: Observations, settings: BundleSettings) -> float:
    pixel, local, _ = _project(bundle, seen)
    if (local[:, 2] <= 0).any():
        return np.inf
    squares = ((pixel - seen.pixel) ** 2).sum(1) / settings.noise_px**2
    prior, _ = _priors(bundle, start, settings)
    scale = settings.loss_scale**2
    return float(scale * np.log1p(squares / scale).sum() + (prior**2).sum())


def _normal_equations(bundle: Bundle, start: Bundle, seen: Observations, settings: BundleSettings) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the cost, the normal matrix [n, n] and the gradient [n] over all parameters."""
    pixel, local, about = _project(bundle, seen)
    error = (pixel - seen.pixel) / settings.noise_px
    weight = 1 / np.sqrt(1 + (error**2).sum(1) / settings.loss_scale**2)
    jacobian = _jacobian(bundle, seen, local, about, weight / settings.noise_px)
    weighted = (error * weight[:, None]).ravel()
    prior, inverse = _priors(bundle, start, settings)
    normal = (jacobian.T @ jacobian).toarray() + np.diag(inverse**2)
    return _cost(bundle, start, seen, settings), normal, jacobian.T @ weighted + inverse * prior


def _jacobian(bundle: Bundle, seen: Observations, local: np.ndarray, about: np.ndarray, weight: np.ndarray) -> csr_array:
    """Return the weighted derivatives of the pixels by all parameters, [2n, parameters].

    Args:
        bundle: Where they are taken.
        seen: Which bead in which view.
        local: Beads in camera coordinates, [n, 3].
        about: The same about the pivot that poses turn about, [n, 3].
        weight: Of each point, [n].
    """
    camera, count = bundle.camera, len(local)
    u = local[:, :2] / local[:, 2:]
    ideal = camera.focal_px * u + camera.principal_point_px
    offset = (ideal - camera.center_px) / camera.half_diagonal_px
    square = (offset**2).sum(1)
    bend = (1 + camera.radial * square)[:, None, None] * np.eye(2) + 2 * camera.radial * offset[:, :, None] * offset[:, None, :]
    of_local = np.zeros((count, 2, 3))
    of_local[:, 0, 0] = of_local[:, 1, 1] = 1
    of_local[:, :, 2] = -u
    of_local *= camera.focal_px[:, None] / local[:, 2, None, None]
    of_local = bend @ of_local
    x, y, z = about.T
    zero = np.zeros(count)
    of_turn = np.array([[zero, z, -y], [-z, zero, x], [y, -x, zero]]).transpose(2, 0, 1)
    of_camera = np.zeros((count, 2, CAMERA_PARAMETERS))
    of_camera[:, :, 0] = np.einsum("nij,nj->ni", bend, camera.focal_px * u)
    of_camera[:, :, 1:3] = bend
    of_camera[:, :, 3] = camera.half_diagonal_px * offset * square[:, None]
    of_bead = of_local @ bundle.poses[seen.view, :3, :3]
    blocks = np.concatenate([of_camera, of_local @ of_turn, of_local, of_bead], 2) * weight[:, None, None]
    first_view, first_bead = CAMERA_PARAMETERS, CAMERA_PARAMETERS + 6 * len(bundle.poses)
    columns = np.concatenate(
        [
            np.broadcast_to(np.arange(CAMERA_PARAMETERS), (count, CAMERA_PARAMETERS)),
            first_view + 6 * seen.view[:, None] + np.arange(6),
            first_bead + 3 * seen.bead[:, None] + np.arange(3),
        ],
        1,
    )
    columns = np.repeat(columns[:, None], 2, 1)
    starts = np.arange(2 * count + 1) * blocks.shape[2]
    return csr_array((blocks.ravel(), columns.ravel(), starts), shape=(2 * count, first_bead + 3 * len(bundle.beads_lps_mm)))
