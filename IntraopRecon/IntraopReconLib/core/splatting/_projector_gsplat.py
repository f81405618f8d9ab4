"""The projector with footprints and lists of tiles from gsplat, for CUDA: what is drawn and gathered from them is `_projector_warp`'s.

gsplat (Ye et al., arXiv 2409.06765) composites colors, which no X-ray does; of use are its projection and its intersection with tiles. The
gradient does not go through it: our own chain is the same, adds in a fixed order, and reaches the views' poses.

gsplat is another camera than ours in four ways. But its camera's axes need not be perpendicular: any matrix will do that gives ours with
focal lengths and a principal point behind it, so views with oblique axes or a mirrored detector need nothing of their own.

- A pixel's center is at one half, ours at zero.
- A footprint ends at 3.33 standard deviations, ours at REACH: covariances go in larger, and footprints come out smaller.
- Beyond the border of the field by 15 % of its width, the Jacobian is that of the border. The field is said to be as wide as no Gaussian is
  far; the principal point stays, so no digit is lost.
- What it does not see it leaves unwritten, and tells by a radius of zero.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import sysconfig
from collections.abc import Sequence

import torch
import warp as wp
from torch import Tensor

from IntraopReconLib.core.voxels._warp_launch import array, launch

from . import _projector_warp
from ._projector_warp import LEAST_DEPTH_MM, LEAST_DETERMINANT, Footprint, Listed, Scene, project_listed, tile_counts
from ._warp_tiles import REACH, filled

EDGE = 16  # columns, and rows, of a tile
FIELD_PX = 2**30  # whole in float32, and below 2³¹ with 15 % more
SIGMAS = 3.33  # gsplat's reach, `projection_ewa_3dgs_fused_fwd` of version 1.5.3
LARGER = (REACH / SIGMAS) ** 2


@wp.kernel(enable_backward=False)
def _take_over(
    scene: Scene,
    radii: wp.array(dtype=wp.vec2i),
    centers: wp.array(dtype=wp.vec2),
    depths: wp.array(dtype=float),
    conics: wp.array(dtype=wp.vec3),
    prints: wp.array(dtype=Footprint),
):
    i = wp.tid()
    f = Footprint()
    f[6] = -1.0
    if radii[i][0] > 0 and radii[i][1] > 0:
        v = i // scene.means.shape[0]
        n = i % scene.means.shape[0]
        conic = LARGER * conics[i]
        determinant = conic[0] * conic[2] - conic[1] * conic[1]  # one over that of the covariance
        if determinant > 0.0 and determinant * LEAST_DETERMINANT <= 1.0:
            depth = depths[i]
            magnification = scene.determinants[v] * wp.length(scene.means[n] - scene.sources[v]) / (depth * depth * depth)
            amplitude = scene.masses[n] * magnification * wp.sqrt(determinant) / (2.0 * math.pi)
            height = REACH * wp.sqrt(conic[0] / determinant)
            width = REACH / wp.sqrt(conic[0])
            f = Footprint(centers[i][0] - 0.5, centers[i][1] - 0.5, conic[0], conic[1], conic[2], amplitude, height, width)
    prints[i] = f


def project(means: Tensor, covariances: Tensor, masses: Tensor, matrices: Tensor, sources: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Project Gaussians into views, as `_projector_warp.project` does; on a card, with gsplat installed and compiled.

    Args:
        means, covariances, masses, matrices, sources, size_px: As there.

    Raises:
        RuntimeError: gsplat cannot be loaded.

    Source: gsplat 1.5.3, `fully_fused_projection`, `isect_tiles` and `isect_offset_encode`.
    """
    if len(means) == 0:  # gsplat divides by their number
        return _projector_warp.project(means, covariances, masses, matrices, sources, size_px)
    listing = functools.partial(_list_footprints, *_cameras(matrices.detach()))
    return project_listed(listing, size_px, means, covariances, masses, matrices, sources)


def _cameras(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return gsplat's cameras for views: of each, the matrix [4, 4] into the camera's coordinates, and the intrinsic one [3, 3], float32.

    The camera's first two axes are of length one; where they are oblique to each other or to the third, so they stay.
    """
    axes = matrices[:, :, :3]
    depth = axes[:, 2:]  # [view, 1, 3]
    principal = (axes[:, :2] * depth).sum(-1) / depth.square().sum(-1)  # [view, 2]
    focal = (axes[:, :2] - principal[:, :, None] * depth).norm(dim=-1)
    cameras, intrinsics = (torch.eye(n, dtype=matrices.dtype, device=matrices.device).repeat(len(matrices), 1, 1) for n in (4, 3))
    cameras[:, :2] = (matrices[:, :2] - principal[:, :, None] * matrices[:, 2:]) / focal[:, :, None]
    cameras[:, 2] = matrices[:, 2]
    intrinsics[:, [0, 1], [0, 1]] = focal
    intrinsics[:, :2, 2] = principal + 0.5
    return cameras.float(), intrinsics.float()


def _list_footprints(cameras: Tensor, intrinsics: Tensor, size_px: tuple[int, int], field: Sequence[Tensor]) -> Listed:
    """Return what `_projector_warp.list_footprints` does, with tiles of another size."""
    load()
    from gsplat import fully_fused_projection, isect_offset_encode, isect_tiles

    means, covariances = field[:2]
    radii, centers, depths, conics, _ = fully_fused_projection(
        means,
        LARGER * covariances,
        None,
        None,
        cameras,
        intrinsics,
        width=FIELD_PX,
        height=FIELD_PX,
        eps2d=0.0,
        near_plane=LEAST_DEPTH_MM,
    )
    views, columns_rows = len(cameras), tile_counts(size_px, (EDGE, EDGE))
    _, keys, lists = isect_tiles(centers, radii, depths, EDGE, *columns_rows)
    starts = isect_offset_encode(keys, views, *columns_rows).flatten()
    count = views * len(means)
    prints = torch.empty((count, 8), device=means.device)
    seen = array(radii.reshape(count, 2), wp.vec2i), array(centers.reshape(count, 2), wp.vec2), array(depths.flatten())
    inputs = [filled(Scene, field), *seen, array(conics.reshape(count, 3), wp.vec3), array(prints, Footprint)]
    launch(_take_over, count, inputs, means.device)
    return Listed(prints, torch.cat([starts, starts.new_full((1,), len(lists))]), lists, (EDGE, EDGE))


@functools.cache
def load() -> None:
    """Load gsplat's kernels, which takes minutes where they are not yet compiled: in a process of its own first, see `probe_gsplat`.

    Raises:
        RuntimeError: gsplat is not installed, or its kernels cannot be compiled or loaded.
    """
    with _ninja_on_path(), contextlib.redirect_stdout(sys.stderr):  # gsplat reports, and the output is a worker's to speak
        try:
            from gsplat.cuda._backend import _C
        except Exception as error:  # of the compiler, of the linker, of packages of other versions
            raise RuntimeError(f"gsplat cannot be loaded: {error}") from error
    if _C is None:
        raise RuntimeError("gsplat cannot be compiled: there is no CUDA toolkit.")


@contextlib.contextmanager
def _ninja_on_path():
    """Let PyTorch find the build tool that was installed with gsplat, beside a Python that may not be on the path itself."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([before, sysconfig.get_path("scripts")])
    try:
        yield
    finally:
        os.environ["PATH"] = before
