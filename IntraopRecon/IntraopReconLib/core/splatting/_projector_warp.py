"""The projector as Warp kernels, for CUDA and the CPU: tiles of pixels in parallel forward, Gaussians in parallel backward.

The formulas are those of `_projector_reference`; see there for their source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

from IntraopReconLib.core.voxels._warp_launch import array, launch, launch_blocks

from ._warp_tiles import REACH, Six, filled, lists_by_tile, tile_range

COLUMNS, ROWS = 16, 8  # of a tile: a block of threads
LEAST_DEPTH_MM, LEAST_DETERMINANT = 1.0, 1e-12  # nearer to the source, or thinner, a Gaussian is not seen

Matrix = wp.types.matrix((3, 4), wp.float32)
Footprint = wp.types.vector(8, wp.float32)  # column, row, conic xx, xy, yy, amplitude, half height, half width about a row's own middle


@wp.struct
class Scene:
    """Gaussians and views, as `project` takes them, and the views' absolute determinants."""

    means: wp.array(dtype=wp.vec3)
    covariances: wp.array(dtype=Six)
    masses: wp.array(dtype=float)
    matrices: wp.array(dtype=Matrix)
    sources: wp.array(dtype=wp.vec3)
    determinants: wp.array(dtype=float)


@wp.func
def _seen(mean: wp.vec3, covariance: Six, matrix: Matrix, source: wp.vec3, determinant: float) -> Six:
    """Return a Gaussian's column and row in a view, its covariance (xx, xy, yy) there, and by how much areas are magnified."""
    point = matrix @ wp.vec4(mean[0], mean[1], mean[2], 1.0)
    inverse = 1.0 / point[2]
    column = point[0] * inverse
    row = point[1] * inverse
    axis = wp.vec3(matrix[2, 0], matrix[2, 1], matrix[2, 2])
    by_column = (wp.vec3(matrix[0, 0], matrix[0, 1], matrix[0, 2]) - column * axis) * inverse
    by_row = (wp.vec3(matrix[1, 0], matrix[1, 1], matrix[1, 2]) - row * axis) * inverse
    s = covariance
    c = wp.mat33(s[0], s[1], s[2], s[1], s[3], s[4], s[2], s[4], s[5])  # written out: wp.grad does not reach a function within one
    magnification = determinant * wp.length(mean - source) * inverse * inverse * inverse
    xx = wp.dot(by_column, c @ by_column)
    return Six(column, row, xx, wp.dot(by_column, c @ by_row), wp.dot(by_row, c @ by_row), magnification)


@wp.func
def _weighed(mean: wp.vec3, covariance: Six, matrix: Matrix, source: wp.vec3, determinant: float, weights: Six) -> Six:
    """Return what is seen times weights: Warp's gradient of it, of all six, is the chain rule's last link."""
    return wp.cw_mul(weights, _seen(mean, covariance, matrix, source, determinant))


@wp.kernel(enable_backward=False)
def _make_footprints(scene: Scene, size: wp.vec2i, prints: wp.array(dtype=Footprint), boxes: wp.array2d(dtype=wp.int32)):
    i = wp.tid()
    v = i // scene.means.shape[0]
    n = i % scene.means.shape[0]
    m = scene.matrices[v]
    mean = scene.means[n]
    depth = m[2, 0] * mean[0] + m[2, 1] * mean[1] + m[2, 2] * mean[2] + m[2, 3]
    columns = wp.vec2i(0, 0)
    rows = wp.vec2i(0, 0)
    f = Footprint()
    f[6] = -1.0
    if depth >= LEAST_DEPTH_MM:
        s = _seen(mean, scene.covariances[n], m, scene.sources[v], scene.determinants[v])
        determinant = s[2] * s[4] - s[3] * s[3]
        if determinant >= LEAST_DETERMINANT:
            amplitude = scene.masses[n] * s[5] / (2.0 * math.pi * wp.sqrt(determinant))
            height = REACH * wp.sqrt(s[4])
            width = REACH * wp.sqrt(determinant / s[4])
            f = Footprint(s[0], s[1], s[4] / determinant, -s[3] / determinant, s[2] / determinant, amplitude, height, width)
            columns = tile_range(s[0], REACH * wp.sqrt(s[2]), size[0], COLUMNS)
            rows = tile_range(s[1], height, size[1], ROWS)
    prints[i] = f
    boxes[i, 0] = v
    boxes[i, 1] = v + 1
    boxes[i, 2] = rows[0]
    boxes[i, 3] = rows[1]
    boxes[i, 4] = columns[0]
    boxes[i, 5] = columns[1]


@wp.func
def _unit(f: Footprint, dx: float, dy: float) -> float:
    """Return the Gaussian of a footprint at an offset from its center, without its amplitude; nothing beyond its reach."""
    square = f[2] * dx * dx + 2.0 * f[3] * dx * dy + f[4] * dy * dy
    if square > REACH * REACH:
        return 0.0
    return wp.exp(-0.5 * square)


@wp.kernel(enable_backward=False)
def _draw(
    prints: wp.array(dtype=Footprint),
    starts: wp.array(dtype=wp.int32),
    lists: wp.array(dtype=wp.int32),
    edges: wp.vec2i,
    tiles: wp.vec2i,
    images: wp.array3d(dtype=float),
):
    tile, lane = wp.tid()
    v = tile // (tiles[0] * tiles[1])
    first_row = tile // tiles[0] % tiles[1] * edges[1]
    first_column = tile % tiles[0] * edges[0]
    for pixel in range(lane, edges[0] * edges[1], wp.block_dim()):
        row = first_row + pixel // edges[0]
        column = first_column + pixel % edges[0]
        if row < images.shape[1] and column < images.shape[2]:
            value = wp.float32(0.0)
            for i in range(starts[tile], starts[tile + 1]):
                f = prints[lists[i]]
                value += f[5] * _unit(f, float(column) - f[0], float(row) - f[1])
            images[v, row, column] = value


@wp.func
def _moments(f: Footprint, gradient: wp.array3d(dtype=float), v: int, lane: int) -> Six:
    """Return one thread's share of the sums over an image of pixel · unit Gaussian · (1, dx, dy, dx², dx dy, dy²).

    The threads of a block take turns at the pixels of a parallelogram about the footprint.
    """
    sums = Six()
    rows = gradient.shape[1]
    columns = gradient.shape[2]
    first_row = int(wp.ceil(wp.clamp(f[1] - f[6], 0.0, float(rows))))
    last_row = int(wp.floor(wp.clamp(f[1] + f[6], -1.0, float(rows - 1))))
    width = int(wp.min(2.0 * f[7], float(columns - 1))) + 1
    for pixel in range(lane, (last_row + 1 - first_row) * width, wp.block_dim()):
        row = first_row + pixel // width
        dy = float(row) - f[1]
        left = f[0] - f[3] / f[2] * dy - f[7]
        column = int(wp.ceil(wp.clamp(left, 0.0, float(columns)))) + pixel % width
        if column < columns:
            dx = float(column) - f[0]
            weight = gradient[v, row, column] * _unit(f, dx, dy)
            sums += weight * Six(1.0, dx, dy, dx * dx, dx * dy, dy * dy)
    return sums


@wp.func
def _by_seen(f: Footprint, sums: Six, magnification: float) -> Six:
    """Return the gradient by what `_seen` returns.

    With S the footprint's covariance and M₂ the image gradient's second moments, the gradient by S is ½ amplitude (S⁻¹ M₂ S⁻¹ - m₀ S⁻¹).
    """
    conic = wp.mat22(f[2], f[3], f[3], f[4])
    center = f[5] * (conic @ wp.vec2(sums[1], sums[2]))
    shape = 0.5 * f[5] * (conic @ wp.mat22(sums[3], sums[4], sums[4], sums[5]) @ conic - sums[0] * conic)
    return Six(center[0], center[1], shape[0, 0], 2.0 * shape[0, 1], shape[1, 1], sums[0] * f[5] / magnification)


@wp.kernel(enable_backward=False)
def _gather(
    prints: wp.array(dtype=Footprint),
    gradient: wp.array3d(dtype=float),
    scene: Scene,
    by_means: wp.array(dtype=wp.vec3),
    by_covariances: wp.array(dtype=Six),
    by_masses: wp.array(dtype=float),
    by_views: wp.array3d(dtype=float),
):
    n, lane = wp.tid()
    mean_sum = wp.vec3()
    covariance_sum = Six()
    mass_sum = wp.float32(0.0)
    for v in range(scene.matrices.shape[0]):
        f = prints[v * scene.means.shape[0] + n]
        sums = wp.tile_reduce(wp.add, wp.tile(_moments(f, gradient, v, lane), preserve_type=True))[0]
        if lane == 0 and f[5] > 0.0:
            seen = _seen(scene.means[n], scene.covariances[n], scene.matrices[v], scene.sources[v], scene.determinants[v])
            weights = _by_seen(f, sums, seen[5])
            by_mean, by_covariance, by_matrix, by_source, by_determinant, _by_weights = wp.grad(_weighed)(
                scene.means[n], scene.covariances[n], scene.matrices[v], scene.sources[v], scene.determinants[v], weights
            )
            mean_sum += by_mean
            covariance_sum += by_covariance
            mass_sum += sums[0] * f[5] / scene.masses[n]
            if by_views.shape[0] > 0:
                for i in range(3):
                    for j in range(4):
                        by_views[v, n, 4 * i + j] = by_matrix[i, j]
                    by_views[v, n, 12 + i] = by_source[i]
                by_views[v, n, 15] = by_determinant
    if lane == 0:
        by_means[n] = mean_sum
        by_covariances[n] = covariance_sum
        by_masses[n] = mass_sum


@dataclass(frozen=True, eq=False)
class Listed:
    """The footprints of a scene in its views, and which of them each tile of the images shows.

    Attributes:
        prints: [view · Gaussian, 8], see `Footprint`.
        starts: Where each tile's list begins, and where the last ends, [tile + 1] int32.
        lists: Footprints, one tile's after the other's, int32.
        edges: (columns, rows) of a tile, pixels.
    """

    prints: Tensor
    starts: Tensor
    lists: Tensor
    edges: tuple[int, int]


def tile_counts(size_px: tuple[int, int], edges: tuple[int, int]) -> tuple[int, int]:
    """Return how many (columns, rows) of tiles cover an image."""
    return math.ceil(size_px[0] / edges[0]), math.ceil(size_px[1] / edges[1])


def list_footprints(size_px: tuple[int, int], field: Sequence[Tensor]) -> Listed:
    """Return the footprints of a scene, given as the fields of `Scene`, in images of a size."""
    views, count, device = len(field[3]), len(field[0]), field[0].device
    prints = torch.empty((views * count, 8), device=device)
    boxes = torch.empty((views * count, 6), dtype=torch.int32, device=device)
    launch(_make_footprints, views * count, [filled(Scene, field), wp.vec2i(*size_px), array(prints, Footprint), array(boxes)], device)
    columns, rows = tile_counts(size_px, (COLUMNS, ROWS))
    return Listed(prints, *lists_by_tile(boxes, (views, rows, columns)), (COLUMNS, ROWS))


def draw(listed: Listed, views: int, size_px: tuple[int, int]) -> Tensor:
    """Return the images of listed footprints, [view, row, column]."""
    device = listed.prints.device
    images = torch.empty((views, size_px[1], size_px[0]), device=device)
    edges, tiles = wp.vec2i(*listed.edges), wp.vec2i(*tile_counts(size_px, listed.edges))
    lists = array(listed.prints, Footprint), array(listed.starts), array(listed.lists)
    launch_blocks(_draw, len(listed.starts) - 1, [*lists, edges, tiles, array(images)], device)
    return images


def gather(prints: Tensor, gradient: Tensor, field: Sequence[Tensor], with_views: bool) -> list[Tensor]:
    """Return the gradients by means, covariances and masses, and by the views' matrices, sources and determinants if asked for.

    Args:
        prints: Of `Listed`.
        gradient: By the images, [view, row, column].
        field: As for `list_footprints`.
        with_views: Whether those by the views are asked for; without, they are not among the result.
    """
    results = [tensor.new_empty(tensor.shape) for tensor in field[:3]]
    count, views, device = len(field[0]), len(field[3]), prints.device
    by_views = torch.zeros((views if with_views else 0, count, 16), device=device)
    by_field = [array(result, dtype) for result, dtype in zip(results, (wp.vec3, Six, None), strict=True)]
    launch_blocks(_gather, count, [array(prints, Footprint), array(gradient), filled(Scene, field), *by_field, array(by_views)], device)
    if with_views:
        by_views = by_views.sum(1)
        results += [by_views[:, :12].reshape(views, 3, 4), by_views[:, 12:15], by_views[:, 15]]
    return results


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, listing, size_px, *field):
        listed = listing(size_px, field)
        ctx.save_for_backward(listed.prints, *field)
        return draw(listed, len(field[3]), size_px)

    @staticmethod
    def backward(ctx, gradient):
        prints, *field = ctx.saved_tensors
        gradients = gather(prints, gradient, field, any(ctx.needs_input_grad[5:]))
        return None, None, *gradients, *[None] * (len(field) - len(gradients))


def project(means: Tensor, covariances: Tensor, masses: Tensor, matrices: Tensor, sources: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Project Gaussians into views, as `_projector_reference.project` does; float32, on the device of the means.

    Args:
        means, covariances, masses, size_px: As there.
        matrices, sources: As there; the images can be differentiated by them too, for the views' poses.
    """
    return project_listed(list_footprints, size_px, means, covariances, masses, matrices, sources)


def project_listed(
    listing: Callable[[tuple[int, int], Sequence[Tensor]], Listed],
    size_px: tuple[int, int],
    means: Tensor,
    covariances: Tensor,
    masses: Tensor,
    matrices: Tensor,
    sources: Tensor,
) -> Tensor:
    """Project Gaussians into views, as `project`, their footprints made and listed by a function as `list_footprints`."""
    by_column, by_row, axis = matrices[:, :, :3].unbind(1)
    determinants = (torch.linalg.cross(by_column, by_row) * axis).sum(-1).abs()  # written out: PyTorch's own waits for the card
    return _Projection.apply(listing, size_px, *(t.float() for t in (means, covariances, masses, matrices, sources, determinants)))
