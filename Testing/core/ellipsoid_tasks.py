"""A toy family of shapes for the meta-learned network: ellipsoids with a bump, so that no rotation leaves one as it was."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ShapeCompletionLib.core.outer_loop import Task

BUMP_CENTER = torch.tensor([0.45, 0.2, 0.0])
BUMP_RADIUS = 0.25


class Shape:
    """One member of the family; radii and center in normalized units."""

    def __init__(self, radii: Tensor, center: Tensor) -> None:
        self.radii, self.center = radii, center

    def level(self, points: Tensor) -> Tensor:
        """Return about the signed distance to the surface, positive inside, at points [..., 3]."""
        local = points - self.center
        body = (1 - (local / self.radii).norm(dim=-1)) * self.radii.min()
        bump = BUMP_RADIUS - (local - BUMP_CENTER).norm(dim=-1)
        return torch.maximum(body, bump)

    def task(self, generator: torch.Generator, count: int = 192, slices: int = 6) -> Task:
        """Return points on parallel slices as the context and points anywhere as the targets."""
        points = scatter(self.level, count, generator, slices)
        query = scatter(self.level, count, generator)
        return Task(points, targets_of(self.level(points)), query, (self.level(query) > 0).float())


def scatter(level: Callable[[Tensor], Tensor], count: int, generator: torch.Generator, slices: int | None = None) -> Tensor:
    """Return points of the cube, anywhere or on parallel slices, half of them near the surface of the level [count, 3]."""
    points = 2 * torch.rand(20 * count, 3, generator=generator) - 1
    if slices is not None:
        planes = torch.linspace(-0.85, 0.85, slices) + 0.1 * (torch.rand((), generator=generator) - 0.5)
        points[:, 2] = planes[torch.randint(slices, (20 * count,), generator=generator)]
    near = points[level(points).abs() < 0.15][: count // 2]
    return torch.cat([near, points[: count - len(near)]])


def targets_of(level: Tensor) -> Tensor:
    """Return the clipped level."""
    return (level / 0.2).clamp(-1, 1)


def draw(generator: torch.Generator) -> Shape:
    """Return one shape of the family."""
    radii = torch.tensor([0.55, 0.4, 0.3]) * torch.exp(0.1 * torch.randn(3, generator=generator))
    return Shape(radii, 0.03 * torch.randn(3, generator=generator))


def draw_tasks(count: int, generator: torch.Generator, points: int = 192, slices: int = 6) -> list[Task]:
    """Return tasks of shapes drawn."""
    return [draw(generator).task(generator, points, slices) for _ in range(count)]
