"""What gsplat 1.5.3 documents of the functions that are used of it, in plain torch, with its own conventions: tests on the CPU run on this.

Its camera: the center of the first pixel is at (½, ½); a footprint reaches 3.33 standard deviations, rounded up to whole pixels; the
Jacobian does not change beyond 15 % of the field's width outside of it; what is not seen has a radius of zero and is undefined otherwise.
"""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType

import torch
from torch import Tensor

MARGIN = 0.15
SIGMAS = 3.33


def fully_fused_projection(
    means: Tensor,
    covars: Tensor,
    quats: None,
    scales: None,
    viewmats: Tensor,
    Ks: Tensor,  # noqa: N803
    **field: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
    """Return radii [C, N, 2], centers [C, N, 2], depths [C, N], conics [C, N, 3], and no compensations; `field` has gsplat's own names."""
    width, height = field.pop("width"), field.pop("height")
    eps2d, near_plane, far_plane = (
        field.pop(name, default) for name, default in (("eps2d", 0.3), ("near_plane", 0.01), ("far_plane", 1e10))
    )
    assert not field
    assert quats is None and scales is None and len(means)
    assert means.shape == (len(means), 3) and covars.shape == (len(means), 6)
    assert viewmats.shape[1:] == (4, 4) and Ks.shape == (len(viewmats), 3, 3)
    assert {t.dtype for t in (means, covars, viewmats, Ks)} == {torch.float32} and isinstance(width, int) and isinstance(height, int)
    linear, size = viewmats[:, None, :3, :3], torch.tensor([width, height], dtype=torch.float32)
    points = means @ viewmats[:, :3, :3].transpose(1, 2) + viewmats[:, None, :3, 3]  # [C, N, 3]
    there = linear @ covars[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3) @ linear.transpose(-1, -2)
    depths = points[..., 2]
    focal, principal = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1]], -1)[:, None], Ks[:, None, :2, 2]
    slopes = points[..., :2] / depths[..., None]
    least, most = (-principal - MARGIN * size) / focal, (size - principal + MARGIN * size) / focal
    toward = -torch.minimum(torch.maximum(slopes, least), most) * focal / depths[..., None]
    jacobians = torch.cat([torch.diag_embed(focal / depths[..., None]), toward[..., None]], -1)  # [C, N, 2, 3]
    footprints = jacobians @ there @ jacobians.transpose(-1, -2) + eps2d * torch.eye(2)
    centers = slopes * focal + principal
    xx, xy, yy = footprints[..., 0, 0], footprints[..., 0, 1], footprints[..., 1, 1]
    determinants = xx * yy - xy * xy
    radii = torch.ceil(SIGMAS * torch.stack([xx, yy], -1).sqrt())
    seen = (depths >= near_plane) & (depths <= far_plane) & (determinants > 0)
    seen &= ((centers + radii > 0) & (centers - radii < size)).all(-1)
    conics = torch.stack([yy, -xy, xx], -1) / determinants[..., None]
    unwritten = torch.tensor([[8.0, 8.0]]), torch.tensor(500.0), torch.tensor([[0.5, 0.0, 0.5]])  # memory that may look like something
    found = [
        torch.where(seen.reshape(seen.shape + (1,) * (t.ndim - 2)), t, u) for t, u in zip((centers, depths, conics), unwritten, strict=True)
    ]
    return torch.where(seen[..., None], radii, 0.0).int(), *found, None


def isect_tiles(
    means2d: Tensor, radii: Tensor, depths: Tensor, tile_size: int, tile_width: int, tile_height: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many tiles each footprint meets [C, N], and sorted (view | tile | depth), whose footprints [C · N] they are."""
    counts = torch.tensor([tile_width, tile_height])
    seen, middles, halves = (radii > 0).all(-1, keepdim=True), means2d / tile_size, radii / tile_size
    first, last = (torch.where(seen, t, 0.0).long() for t in (torch.floor(middles - halves), torch.ceil(middles + halves)))
    first, last = (torch.minimum(t.clamp(min=0), counts) for t in (first, last))
    extent = (last - first).reshape(-1, 2)
    met = extent.prod(1)
    owners = torch.repeat_interleave(torch.arange(len(met)), met)
    place = torch.arange(len(owners)) - (met.cumsum(0) - met)[owners]
    columns = first.reshape(-1, 2)[owners, 0] + place % extent[owners, 0]
    rows = first.reshape(-1, 2)[owners, 1] + place // extent[owners, 0]
    bits = (tile_width * tile_height).bit_length()
    high = owners // means2d.shape[1] << bits | rows * tile_width + columns
    keys, order = torch.sort(high << 32 | depths.reshape(-1).view(torch.int32)[owners].long() & 0xFFFFFFFF, stable=True)
    return met.reshape(depths.shape).int(), keys, owners[order].int()


def isect_offset_encode(isect_ids: Tensor, n_images: int, tile_width: int, tile_height: int) -> Tensor:
    """Return where each tile's part begins, [n_images, tile_height, tile_width]."""
    tiles = tile_width * tile_height
    high = isect_ids >> 32
    places = (high >> tiles.bit_length()) * tiles + (high & (1 << tiles.bit_length()) - 1)
    return torch.searchsorted(places, torch.arange(n_images * tiles)).int().reshape(n_images, tile_height, tile_width)


@contextlib.contextmanager
def in_place(kernels: object = True):
    """Put the functions in the place of gsplat for a while, with its compiled kernels, or None for those."""
    package, cuda, backend = found = [ModuleType(name) for name in ("gsplat", "gsplat.cuda", "gsplat.cuda._backend")]
    for function in (fully_fused_projection, isect_tiles, isect_offset_encode):
        setattr(package, function.__name__, function)
    package.cuda, cuda._backend, backend._C = cuda, backend, kernels
    before = {module.__name__: sys.modules.get(module.__name__) for module in found}
    sys.modules.update({module.__name__: module for module in found})
    try:
        yield package
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
