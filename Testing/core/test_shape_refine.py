"""The residual network corrects between slices only, and starts by correcting nothing; a view through it ends in logits of the cube."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from shape_toys import TURNED, Toy, moved, toy_prior

from ShapeCompletionLib.core.cube import PRIOR_CUBE, cube_view
from ShapeCompletionLib.core.predict import inner_step, network_inputs, predict
from ShapeCompletionLib.core.refine import CUBE, FIELD_LIMIT, FOLD, LOGITS_PER_VOXEL, RefineNetwork, fold, refined_logits, unfold

MOST_BYTES = 3 * 2**20
SLICES = Toy().slices()


@pytest.mark.parametrize("shape", [(1, 1, 4, 4, 4), (2, 3, 8, 4, 6)])
def test_unfold_undoes_fold(shape):
    volume = torch.arange(float(np.prod(shape))).reshape(shape)
    folded = fold(volume)
    assert folded.shape == (shape[0], shape[1] * FOLD**3, *(n // FOLD for n in shape[2:]))
    torch.testing.assert_close(unfold(folded), volume, rtol=0, atol=0)


def test_a_block_of_neighbors_becomes_channels():
    volume = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    assert sorted(fold(volume)[0, :, 1, 0, 1].tolist()) == sorted(volume[0, 0, 2:4, 0:2, 2:4].flatten().tolist())


def inputs(size: int = 16, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    field = 8 * torch.randn(batch, 1, size, size, size, generator=generator)
    distance = 20 * torch.rand(batch, 1, size, size, size, generator=generator)
    return field, distance, 5 * torch.randn(batch, 1, size // 2, size // 2, size // 2, generator=generator)


def test_a_fresh_network_corrects_nothing():
    correction = RefineNetwork()(*inputs())
    assert correction.shape == (1, 1, 16, 16, 16) and not correction.any()


def awake() -> RefineNetwork:
    """Return a network all of whose weights count."""
    torch.manual_seed(2)
    network = RefineNetwork((8, 16, 16, 24))
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return network.eval()


def test_all_inputs_and_all_weights_count():
    network = awake()
    field, distance, prior = (values.requires_grad_() for values in inputs())
    network(field, distance, prior).square().sum().backward()
    assert all(bool(values.grad.any()) for values in (field, distance, prior, *network.parameters()))


def test_a_batch_is_its_members():
    network, (field, distance, prior) = awake(), inputs(batch=2)
    with torch.no_grad():
        both = network(field, distance, prior)
        torch.testing.assert_close(both[1:], network(field[1:], distance[1:], prior[1:]), rtol=1e-4, atol=1e-4)


def test_far_away_is_all_the_same():
    network, (field, distance, prior) = awake(), inputs()
    with torch.no_grad():
        far = network(40 * field.sign(), distance + 30, 99 * prior.sign())
        torch.testing.assert_close(far, network(8 * field.sign(), distance + 20, 9 * prior.sign()))


@pytest.mark.parametrize("shapes", [((1, 1, 16, 16, 16), (1, 1, 16, 16, 8), (1, 1, 8, 8, 8)), ((1, 1, 15, 16, 16),) * 3])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(RuntimeError):
        RefineNetwork()(*(torch.zeros(shape) for shape in shapes))


def test_the_correction_vanishes_on_slices_and_counts_fully_beyond_a_voxel():
    field = torch.tensor([-9.0, -0.5, 0.5, 9.0])
    correction = torch.tensor([100.0, 100.0, -100.0, -100.0])
    limited = LOGITS_PER_VOXEL * field.clamp(-FIELD_LIMIT, FIELD_LIMIT)
    torch.testing.assert_close(refined_logits(field, torch.zeros(4), correction), limited)
    torch.testing.assert_close(refined_logits(field, torch.full((4,), 0.25), correction), limited + 0.25 * correction)
    torch.testing.assert_close(refined_logits(field, torch.full((4,), 7.0), correction), limited + correction)


def test_both_networks_fit_the_file_that_ships():
    prior = toy_prior()
    buffer = io.BytesIO()
    torch.save([{n: v.half() for n, v in prior.refine.state_dict().items()}, prior.inr], buffer)
    assert len(buffer.getvalue()) <= MOST_BYTES


# Predictions


def test_a_prior_that_learned_nothing_leaves_the_interpolation():
    view = cube_view(SLICES, 96.0)
    found = predict(toy_prior(), view)
    assert found.logits.shape == found.correction.shape == (CUBE,) * 3 and found.logits.dtype == np.float32
    assert not found.correction.any() and not found.moved and np.isfinite(found.evidence)
    field, _ = view.field_and_distance
    np.testing.assert_allclose(found.logits, LOGITS_PER_VOXEL * np.clip(field, -FIELD_LIMIT, FIELD_LIMIT), atol=1e-5)


def test_the_same_slices_give_the_same_prediction():
    prior = toy_prior()
    first, second = (predict(prior, cube_view(SLICES, 96.0)) for _ in range(2))
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.evidence == second.evidence


def test_the_implicit_network_sees_where_slices_are_and_not_where_the_patient_lies():
    prior = toy_prior()
    here = inner_step(prior.inr, cube_view(SLICES, 96.0))
    shift = np.array([100.0, -60.0, 400.0])
    there = inner_step(prior.inr, cube_view(tuple(moved(one, np.eye(3), shift) for one in SLICES), 96.0))
    assert here.logits.shape == (PRIOR_CUBE,) * 3
    torch.testing.assert_close(here.logits, there.logits, rtol=0.05, atol=0.05)
    assert here.evidence == pytest.approx(there.evidence, abs=0.01)
    turned = inner_step(prior.inr, cube_view(tuple(moved(one, TURNED, shift) for one in SLICES), 96.0))
    assert not torch.allclose(here.logits, turned.logits, rtol=0.05, atol=0.05)


def test_features_that_are_kept_give_the_same_step():
    prior, view = toy_prior(), cube_view(SLICES, 96.0)
    anew, kept = inner_step(prior.inr, view), inner_step(prior.inr, view, cube_features=prior.cube_features)
    assert torch.equal(anew.logits, kept.logits) and anew.evidence == kept.evidence
    assert prior.cube_features is prior.cube_features and not prior.cube_features.requires_grad
    assert torch.equal(inner_step(prior.inr, view, 3).logits, inner_step(prior.inr, view, 3, cube_features=prior.cube_features).logits)


def test_more_steps_change_the_implicit_network_only_where_asked():
    prior, view = toy_prior(), cube_view(SLICES, 96.0)
    one, three = inner_step(prior.inr, view), inner_step(prior.inr, view, 3)
    assert one.evidence == three.evidence and torch.isfinite(three.logits).all()
    before = {name: value.clone() for name, value in prior.inr.items()}
    inner_step(prior.inr, view, 3)
    assert all(torch.equal(before[name], value) for name, value in prior.inr.items())


def test_a_prior_that_fits_worse_than_usual_is_moved_if_that_helps():
    prior, view = toy_prior(usual_evidence=np.inf), cube_view(SLICES, 96.0)
    found = predict(prior, view)
    still = predict(toy_prior(), view)
    assert found.moved == (found.evidence != still.evidence) and found.evidence >= still.evidence


def test_the_networks_inputs_are_the_cubes_fields():
    view = cube_view(SLICES, 96.0)
    step = inner_step(toy_prior().inr, view)
    field, distance, logits = network_inputs(view, step)
    assert field.shape == distance.shape == (1, 1, CUBE, CUBE, CUBE) and logits.shape == (1, 1, *(PRIOR_CUBE,) * 3)
    np.testing.assert_array_equal(field[0, 0], view.field_and_distance[0])
