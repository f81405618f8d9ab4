"""Density control: fields and masses stay, and the optimizer remembers those that stay."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from splat_scenes import converted, random_gaussians

from IntraopReconLib.core.splatting.densify import SPLIT_SHRINK, clone, prune, split
from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.voxelizer import voxelize
from SparseAnatomyLib.grid import VoxelGrid

GRID = VoxelGrid.box(np.zeros(3), np.full(3, 80.0), 2.0)
WHICH = torch.tensor([True, False, False, True, True, False])


def _trained(optimizer_class=torch.optim.Adam):
    """Return Gaussians that an optimizer has moved for a few steps."""
    gaussians = converted(random_gaussians(6), torch.float32, requires_grad=True)
    optimizer = optimizer_class([{"params": [p], "lr": 0.01 * (n + 1)} for n, p in enumerate(gaussians.named().values())])
    for _ in range(3):
        _step(gaussians, optimizer)
    return gaussians, optimizer


def _step(gaussians: Gaussians, optimizer):
    optimizer.zero_grad()
    sum((p * torch.arange(1.0, p.numel() + 1).reshape(p.shape)).sin().sum() for p in gaussians.named().values()).backward()
    optimizer.step()


def _values(gaussians):
    return {name: value.detach().clone() for name, value in gaussians.named().items()}


def _memory(gaussians, optimizer):
    return {name: {k: torch.as_tensor(v).clone() for k, v in optimizer.state[p].items()} for name, p in gaussians.named().items()}


def _assert_same(got, expected, rows):
    for name, value in expected.items():
        if isinstance(value, dict):
            _assert_same(got[name], value, rows)
        else:
            assert torch.equal(got[name][rows] if got[name].ndim else got[name], value[rows] if value.ndim else value), name


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.NAdam])
def test_pruning_keeps_what_stays_as_it_was(optimizer_class):
    gaussians, optimizer = _trained(optimizer_class)
    values, memory = _values(gaussians), _memory(gaussians, optimizer)
    left = prune(gaussians, optimizer, WHICH)
    assert len(left) == 3
    for kept, before in ((_values(left), values), (_memory(left, optimizer), memory)):
        picked = {
            n: ({k: (v[WHICH] if v.ndim else v) for k, v in b.items()} if isinstance(b, dict) else b[WHICH]) for n, b in before.items()
        }
        _assert_same(kept, picked, slice(None))
    assert len(optimizer.state) == 4


def test_pruning_is_invisible_to_those_who_stay():
    gaussians, optimizer = _trained()
    others = converted(gaussians, torch.float32, requires_grad=True)
    other_optimizer = torch.optim.Adam([{"params": [p], "lr": 0.01 * (n + 1)} for n, p in enumerate(others.named().values())])
    for old, new in zip(gaussians.named().values(), others.named().values(), strict=True):
        other_optimizer.state[new] = {key: value.clone() for key, value in optimizer.state[old].items()}
    left = prune(gaussians, optimizer, torch.tensor([True] * 4 + [False] * 2))
    _step(others, other_optimizer)
    _step(left, optimizer)
    for name, value in left.named().items():
        torch.testing.assert_close(value.detach(), others.named()[name].detach()[:4])


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.NAdam])
def test_clones_leave_the_field_and_the_memory_of_the_others(optimizer_class):
    gaussians, optimizer = _trained(optimizer_class)
    before, memory, peak = (
        voxelize(gaussians, GRID).detach(),
        _memory(gaussians, optimizer),
        float(gaussians.densities_per_mm().max().detach()),
    )
    grown = clone(gaussians, optimizer, WHICH)
    assert len(grown) == 9
    torch.testing.assert_close(voxelize(grown, GRID).detach(), before, atol=1e-5 * peak, rtol=1e-4)
    _assert_same(_memory(grown, optimizer), memory, slice(6))


def test_clones_part_from_their_originals():
    gaussians, optimizer = _trained()
    grown = clone(gaussians, optimizer, WHICH)
    assert torch.equal(grown.means_mm[6:], grown.means_mm[:6][WHICH])
    optimizer.zero_grad()
    (voxelize(grown, GRID) ** 2).sum().backward()
    optimizer.step()
    assert (grown.means_mm[6:] - grown.means_mm[:6][WHICH]).norm(dim=1).min() > 1e-4


def test_splitting_keeps_the_mass_and_the_memory_of_the_others():
    gaussians, optimizer = _trained()
    values, memory, masses = _values(gaussians), _memory(gaussians, optimizer), gaussians.masses_mm2().detach()
    grown = split(gaussians, optimizer, WHICH, torch.Generator().manual_seed(1))
    assert len(grown) == 9
    assert float(grown.masses_mm2().detach().sum()) == pytest.approx(float(masses.sum()), rel=1e-5)
    torch.testing.assert_close(grown.masses_mm2().detach()[3:6], masses[WHICH] / 2)
    picked = {n: {k: (v[~WHICH] if v.ndim else v) for k, v in m.items()} for n, m in memory.items()}
    _assert_same(_memory(grown, optimizer), picked, slice(3))
    torch.testing.assert_close(grown.log_scales.detach()[3:], values["log_scales"][WHICH].repeat(2, 1) - math.log(SPLIT_SHRINK))
    _assert_same(_values(grown), {n: v[~WHICH] for n, v in values.items()}, slice(3))


def test_halves_are_drawn_from_within_the_oriented_parent():
    count = 4000
    parent = random_gaussians(1, dtype=torch.float32)
    many = Gaussians(*(p.repeat(count, *[1] * (p.ndim - 1)).requires_grad_() for p in parent.named().values()))
    optimizer = torch.optim.Adam([{"params": [p]} for p in many.named().values()])
    grown = split(many, optimizer, torch.ones(count, dtype=torch.bool), torch.Generator().manual_seed(0))
    offsets = (grown.means_mm.detach() - parent.means_mm).double().numpy()
    xx, xy, xz, yy, yz, zz = parent.covariances_mm2()[0].tolist()
    expected = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    np.testing.assert_allclose(np.cov(offsets.T), expected, atol=0.06 * max(xx, yy, zz))
    assert np.abs(offsets.mean(0)).max() < 0.1 * math.sqrt(max(xx, yy, zz))


def test_the_same_generator_splits_the_same():
    results = []
    for seed in (5, 5, 6):
        gaussians, optimizer = _trained()
        results.append(split(gaussians, optimizer, WHICH, torch.Generator().manual_seed(seed)).means_mm.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_before_the_first_step_there_is_no_memory_to_keep():
    gaussians = converted(random_gaussians(6), torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [p], "lr": 0.01} for p in gaussians.named().values()])
    grown = split(clone(gaussians, optimizer, WHICH), optimizer, torch.ones(9, dtype=torch.bool), torch.Generator())
    assert len(grown) == 18
    _step(grown, optimizer)
    assert all(torch.isfinite(p).all() for p in grown.named().values())
