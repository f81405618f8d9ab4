"""A training that is over goes on with more steps, and the card says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shape_toys import toy_prior
from small_training import INFO, QUICK, SHAPES, TINY, quiet

from ShapeCompletionLib.core.config import InrSettings
from ShapeCompletionLib.core.meta_train import Training, train
from ShapeCompletionLib.core.prior import load_prior
from ShapeCompletionLib.core.train_prior import remove_checkpoints, train_prior
from SparseAnatomyLib.model_files import load_checkpoint, save_checkpoint


@pytest.fixture
def short(tmp_path) -> Training:
    return train(SHAPES[:2], TINY, tmp_path / "short.pt", quiet)


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path, short):
    """It keeps the steps that were taken; a shorter one than was asked for before starts anew."""
    save_checkpoint(tmp_path / "all.pt", short.state())
    steps = []
    longer = replace(TINY, refine_steps=TINY.refine_steps + 2)
    trained = train(SHAPES[:2], longer, tmp_path / "all.pt", lambda fraction, message: steps.append(message.split(",")[0]))
    assert steps == ["Step 6 of 7", "Step 7 of 7"]
    assert all(torch.equal(trained.inr[name], short.inr[name]) for name in trained.inr)
    assert not torch.equal(trained.network.exit.bias, short.network.exit.bias)
    assert trained.earlier == [TINY.refine_steps] and short.earlier == []
    state = load_checkpoint(tmp_path / "all.pt")
    again = Training(SHAPES[:2], longer)
    assert again.restore(state) and again.earlier == [TINY.refine_steps] and again.step == 7
    assert not Training(SHAPES[:2], TINY).restore(state)
    assert not Training(SHAPES[:2], replace(longer, refine_steps=9, inr_steps=4)).restore(state)
    assert not Training(SHAPES[:2], TINY).restore({name: value for name, value in state.items() if name != "config"})
    del state["earlier"]  # as in a checkpoint of an earlier version
    assert again.restore(state) and again.earlier == []


def test_the_features_that_are_kept_are_those_of_the_network_that_stands():
    """Also after going on from another's state."""
    training = Training(SHAPES[:2], replace(TINY, seed=1))
    while training.step < training.steps:
        training.take_step()
    other = Training(SHAPES[:2], replace(TINY, seed=1))
    state = training.state() | {"step": TINY.inr_steps}
    first = other._cube_features = torch.zeros(32**3, InrSettings().width)
    assert other.restore(state)
    other.take_step()
    torch.testing.assert_close(other._cube_features, toy_prior(inr=training.inr).cube_features)
    assert not torch.equal(first, other._cube_features)


@pytest.mark.slow
def test_a_prior_that_was_trained_longer_says_so(tmp_path):
    out = tmp_path / "toy.pt"
    train_prior(SHAPES, out, INFO, TINY, QUICK, quiet)
    assert len(list((tmp_path / "toy.training").glob("*.pt"))) == 3 and load_prior(out).card.command == INFO.command
    train_prior(SHAPES, out, INFO, replace(TINY, refine_steps=3), QUICK, quiet)
    card = load_prior(out).card
    assert card.command == f"{INFO.command}, going on from --steps {TINY.refine_steps}" and card.steps == 6
    train_prior(SHAPES, out, INFO, replace(TINY, refine_steps=4), QUICK, quiet)
    assert load_prior(out).card.command.endswith(f"going on from --steps 3, going on from --steps {TINY.refine_steps}")
    remove_checkpoints(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.json", "toy.pt"]
