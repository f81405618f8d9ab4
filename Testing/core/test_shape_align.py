"""Alignment by evidence: a known move of the context is found, a context that stands well is left where it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ellipsoid_tasks import Shape, draw_tasks, scatter, targets_of

from ShapeCompletionLib.core import align as module
from ShapeCompletionLib.core import outer_loop
from ShapeCompletionLib.core.config import AlignSettings, InrSettings

SETTINGS = InrSettings(layers=3, width=48, first_omega=5.0, evidence_weight=0.5)
MEAN_SHAPE = Shape(torch.tensor([0.55, 0.4, 0.3]), torch.zeros(3))


@pytest.fixture(scope="module")
def prior():
    generator = torch.Generator().manual_seed(1)
    parameters = outer_loop.meta_parameters("ridge", SETTINGS, generator)
    optimizer = torch.optim.Adam(outer_loop.parameter_groups(parameters, SETTINGS))
    for _ in range(250):
        outer_loop.outer_step(parameters, draw_tasks(4, generator), optimizer, "ridge", SETTINGS)
    return {name: value.detach() for name, value in parameters.items()}


def _rotation(axis, angle_deg):
    axis = torch.tensor(axis) / torch.tensor(axis).norm()
    x, y, z = (math.radians(angle_deg) * axis).tolist()
    return torch.linalg.matrix_exp(torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]))


def _context(rotation=None, shift=(0.0, 0.0, 0.0), scale=1.0, count=500):
    """Points of parallel slices through a shape that was moved; the matrix that moves it back, [4, 4]."""
    linear = (torch.eye(3) if rotation is None else rotation.T) / scale
    back = torch.eye(4)
    back[:3, :3], back[:3, 3] = linear, -linear @ torch.tensor(shift)

    def level(points):
        return MEAN_SHAPE.level(points @ back[:3, :3].T + back[:3, 3])

    points = scatter(level, count, torch.Generator().manual_seed(7), slices=14)
    return points, targets_of(level(points)), back.numpy()


@pytest.mark.parametrize(
    ("axis", "angle_deg", "shift", "scale"),
    [
        ((0.0, 0.0, 1.0), 45.0, (0.0, 0.0, 0.0), 1.0),
        ((0.0, 0.0, 1.0), 0.0, (0.2, -0.15, 0.0), 1.0),
        ((0.0, 0.0, 1.0), 0.0, (0.0, 0.0, 0.0), 0.7),
        ((1.0, 0.5, 1.0), 30.0, (0.1, 0.1, -0.1), 1.2),
    ],
)
def test_a_known_move_is_found(prior, axis, angle_deg, shift, scale):
    points, targets, back = _context(_rotation(axis, angle_deg), shift, scale)
    found = module.align(prior, points, targets)
    assert found.accepted
    assert found.evidence_after > found.evidence_before + 0.05
    size = np.linalg.det(found.prior_from_context[:3, :3]) ** (1 / 3)
    turn = found.prior_from_context[:3, :3] / size @ (back[:3, :3] * scale).T
    center = np.array([*shift, 1.0])
    assert size * scale == pytest.approx(1, abs=0.08)
    assert math.degrees(math.acos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 6
    assert np.linalg.norm((found.prior_from_context @ center)[:3]) < 0.06


def test_a_context_that_stands_well_is_left_alone(prior):
    points, targets, _ = _context()
    found = module.align(prior, points, targets)
    assert not found.accepted
    assert np.array_equal(found.prior_from_context, np.eye(4))
    assert found.evidence_after == found.evidence_before


def test_least_gain_decides(prior):
    points, targets, _ = _context(shift=(0.2, -0.15, 0.0))
    assert not module.align(prior, points, targets, AlignSettings(least_gain=100.0)).accepted


def test_same_context_same_answer(prior):
    points, targets, _ = _context(shift=(0.2, -0.15, 0.0))
    one, two = (module.align(prior, points, targets).prior_from_context for _ in range(2))
    assert np.array_equal(one, two)


def test_similarity_is_one_and_holds_its_center():
    settings, center = AlignSettings(), torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    unknowns = torch.tensor([0.4, -1.0, 0.7, 0.0, 0.0, 0.0, 0.9], dtype=torch.float64)
    matrix = module.similarity(unknowns, center, settings)
    scale = math.exp(0.9 * settings.log_scale)
    assert torch.allclose(matrix[:3, :3] @ matrix[:3, :3].T, scale**2 * torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(matrix[:3, :3])) > 0
    assert torch.allclose(matrix[:3, :3] @ center + matrix[:3, 3], center)
    turn = math.acos((float(matrix[:3, :3].trace()) / scale - 1) / 2)
    assert turn == pytest.approx(settings.rotation_rad * float(unknowns[:3].norm()))
    assert torch.equal(module.similarity(torch.zeros(7), torch.ones(3), settings), torch.eye(4))


def test_slope_equals_finite_differences(prior):
    points, targets, _ = _context(count=60)
    double = {name: value.double() for name, value in prior.items()}
    search = module._Search(double, points.double(), targets.double(), AlignSettings())
    at = np.array([0.3, -0.2, 0.1, 0.2, -0.3, 0.1, 0.2])
    _, slope = search.value_and_slope(at)
    for axis, step in enumerate(1e-5 * np.eye(7)):
        difference = (search.value_and_slope(at + step)[0] - search.value_and_slope(at - step)[0]) / 2e-5
        assert slope[axis] == pytest.approx(difference, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("case", ["one point", "equal points", "nothing inside", "all inside"])
def test_degenerate_contexts_give_a_similarity(prior, case):
    points, targets, _ = _context(count=20)
    if case == "one point":
        points, targets = points[:1], targets[:1]
    elif case == "equal points":
        points = points[:1].expand(20, 3)
    else:
        targets = torch.full_like(targets, -1.0 if case == "nothing inside" else 1.0)
    found = module.align(prior, points, targets)
    assert np.isfinite(found.prior_from_context).all()
    assert np.isfinite([found.evidence_before, found.evidence_after]).all()
    assert found.evidence_after >= found.evidence_before


def test_nonsense_is_refused(prior):
    with pytest.raises(ValueError, match="points"):
        module.align(prior, torch.zeros(0, 3), torch.zeros(0))
    with pytest.raises(ValueError, match="targets"):
        module.align(prior, torch.zeros(4, 3), torch.zeros(5))
