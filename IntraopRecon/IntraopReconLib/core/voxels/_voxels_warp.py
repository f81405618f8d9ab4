"""The kernels of `_projection_numba` and `total_variation` for a card, by Warp: the same formulas on torch's tensors.

Every ray and every voxel gathers what it needs, in a fixed order, and nothing is added by atomics: the same input gives the same bits.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from ._warp_launch import array, launch
from .projection import ViewOnGrid
from .total_variation import DUAL_STEP

LEAST_SLOPE, LEAST_WEIGHT = 1e-7, 1e-20

Matrix = wp.types.matrix((3, 4), wp.float32)
Slopes = wp.types.vector(4, wp.float32)  # where a ray meets the plane 0 and how far it goes from plane to plane: b, c, slope of b, of c


@wp.struct
class Rays:
    """A view's rays and a volume's axes (a, b, c), a the one that the rays run along most, in voxel units."""

    source: wp.vec3
    origin: wp.vec3
    column_step: wp.vec3
    row_step: wp.vec3
    sizes: wp.vec3i
    strides: wp.vec3i
    spacing_mm: float


@wp.func
def _clipped(start: float, slope: float, size: int, planes: wp.vec2) -> wp.vec2:
    """Return those of the planes [first, last] in which start + plane · slope lies between the outermost voxel centers."""
    high = float(size - 1)
    if wp.abs(slope) < LEAST_SLOPE:
        if start >= 0.0 and start <= high:
            return planes
        return wp.vec2(1.0, 0.0)
    a = -start / slope
    b = (high - start) / slope
    return wp.vec2(wp.max(planes[0], wp.min(a, b)), wp.min(planes[1], wp.max(a, b)))


@wp.func
def _slopes(rays: Rays, row: int, column: int) -> Slopes:
    """Return how the ray of a pixel runs; in double precision, as the source is far from the volume."""
    r = wp.float64(row)
    c = wp.float64(column)
    source = wp.vec3d(rays.source)
    d = wp.vec3d(rays.origin) + c * wp.vec3d(rays.column_step) + r * wp.vec3d(rays.row_step) - source
    by = d[1] / d[0]
    cy = d[2] / d[0]
    return Slopes(float(source[1] - source[0] * by), float(source[2] - source[0] * cy), float(by), float(cy))


@wp.kernel(enable_backward=False)
def _integrate(voxels: wp.array(dtype=float), rays: Rays, sums: wp.array2d(dtype=float), lengths: wp.array2d(dtype=float)):
    row, column = wp.tid()
    s = _slopes(rays, row, column)
    planes = _clipped(s[0], s[2], rays.sizes[1], wp.vec2(0.0, float(rays.sizes[0] - 1)))
    planes = _clipped(s[1], s[3], rays.sizes[2], planes)
    total = wp.float32(0.0)
    length = wp.float32(0.0)
    if planes[1] >= planes[0]:
        last_b = float(wp.max(rays.sizes[1] - 2, 0))
        last_c = float(wp.max(rays.sizes[2] - 2, 0))
        next_b = rays.strides[1] * wp.min(rays.sizes[1] - 1, 1)
        next_c = rays.strides[2] * wp.min(rays.sizes[2] - 1, 1)
        for plane in range(int(wp.ceil(planes[0])), int(wp.floor(planes[1])) + 1):
            b = s[0] + float(plane) * s[2]
            c = s[1] + float(plane) * s[3]
            ib = int(wp.clamp(b, 0.0, last_b))
            ic = int(wp.clamp(c, 0.0, last_c))
            fc = c - float(ic)
            at = plane * rays.strides[0] + ib * rays.strides[1] + ic * rays.strides[2]
            near = voxels[at] + fc * (voxels[at + next_c] - voxels[at])
            far = voxels[at + next_b] + fc * (voxels[at + next_b + next_c] - voxels[at + next_b])
            total += near + (b - float(ib)) * (far - near)
        step = rays.spacing_mm * wp.sqrt(1.0 + s[2] * s[2] + s[3] * s[3])
        total *= step
        length = (planes[1] - planes[0]) * step
    sums[row, column] = total
    lengths[row, column] = length


@wp.kernel(enable_backward=False)
def _spread(image: wp.array2d(dtype=float), m: Matrix, volume: wp.array3d(dtype=float)):
    k, j, i = wp.tid()
    point = m @ wp.vec4(float(i), float(j), float(k), 1.0)
    column = wp.clamp(point[0] / point[2], 0.0, float(image.shape[1] - 2))
    row = wp.clamp(point[1] / point[2], 0.0, float(image.shape[0] - 2))
    ic = int(column)
    ir = int(row)
    fc = column - float(ic)
    upper = image[ir, ic] + fc * (image[ir, ic + 1] - image[ir, ic])
    lower = image[ir + 1, ic] + fc * (image[ir + 1, ic + 1] - image[ir + 1, ic])
    volume[k, j, i] = volume[k, j, i] + upper + (row - float(ir)) * (lower - upper)


@wp.kernel(enable_backward=False)
def _primal(noisy: wp.array3d(dtype=float), dual: wp.array4d(dtype=float), weight: wp.array(dtype=float), result: wp.array3d(dtype=float)):
    k, j, i = wp.tid()
    divergence = dual[0, k, j, i] + dual[1, k, j, i] + dual[2, k, j, i]
    if i > 0:
        divergence -= dual[0, k, j, i - 1]
    if j > 0:
        divergence -= dual[1, k, j - 1, i]
    if k > 0:
        divergence -= dual[2, k - 1, j, i]
    result[k, j, i] = wp.max(noisy[k, j, i] + weight[0] * divergence, 0.0)


@wp.kernel(enable_backward=False)
def _ascend(volume: wp.array3d(dtype=float), weight: wp.array(dtype=float), dual: wp.array4d(dtype=float)):
    k, j, i = wp.tid()
    center = volume[k, j, i]
    step = DUAL_STEP / wp.max(weight[0], LEAST_WEIGHT)
    x = dual[0, k, j, i] + step * (volume[k, j, wp.min(i + 1, volume.shape[2] - 1)] - center)
    y = dual[1, k, j, i] + step * (volume[k, wp.min(j + 1, volume.shape[1] - 1), i] - center)
    z = dual[2, k, j, i] + step * (volume[wp.min(k + 1, volume.shape[0] - 1), j, i] - center)
    shrink = 1.0 / wp.max(1.0, wp.sqrt(x * x + y * y + z * z))
    dual[0, k, j, i] = x * shrink
    dual[1, k, j, i] = y * shrink
    dual[2, k, j, i] = z * shrink


def project_volume(volume: Tensor, view: ViewOnGrid) -> tuple[Tensor, Tensor]:
    """Integrate a volume along the rays of a view, as `projection.project_volume` does; on the device of the volume.

    Args:
        volume: Attenuation per mm, float32 [k, j, i], contiguous.
        view: The view on the volume's grid.
    """
    columns, rows = view.size_px
    sums, lengths = (torch.empty((rows, columns), device=volume.device) for _ in range(2))
    launch(_integrate, (rows, columns), [array(volume.view(-1)), _rays(view, volume.shape), array(sums), array(lengths)], volume.device)
    return sums, lengths


def add_backprojection(volume: Tensor, image: Tensor, view: ViewOnGrid) -> None:
    """Add to each voxel the image's value where it projects to, as `projection.add_backprojection` does, in place."""
    bordered = torch.nn.functional.pad(image, (1, 2, 1, 2))
    launch(_spread, tuple(volume.shape), [array(bordered), Matrix(view.matrix), array(volume)], volume.device)


def denoise(volume: Tensor, weight: Tensor, dual: Tensor, iterations: int) -> None:
    """Make a volume's total variation smaller, as `total_variation.denoise` does, in place.

    Args:
        volume: float32 [k, j, i], contiguous.
        weight: In the volume's unit, [1]; on the device, so that nothing waits for it.
        dual: Where the last call ended, float32 [3, k, j, i]; changed in place.
        iterations: Steps of this call.
    """
    shape, noisy = tuple(volume.shape), volume.clone()
    to_primal = [array(noisy), array(dual), array(weight), array(volume)]
    for _ in range(iterations):
        launch(_primal, shape, to_primal, volume.device)
        launch(_ascend, shape, [array(volume), array(weight), array(dual)], volume.device)
    launch(_primal, shape, to_primal, volume.device)


def _rays(view: ViewOnGrid, shape_kji: tuple[int, ...]) -> Rays:
    """Return a view's rays for Warp."""
    rays = Rays()
    rays.source, rays.origin, rays.column_step, rays.row_step = (wp.vec3(*map(float, vector)) for vector in view.rays)
    strides = shape_kji[1] * shape_kji[2], shape_kji[2], 1
    rays.sizes, rays.strides = (wp.vec3i(*(values[axis] for axis in view.axes)) for values in (shape_kji, strides))
    rays.spacing_mm = view.spacing_mm
    return rays
