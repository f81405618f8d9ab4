"""The pairs that a training draws from: each is made once and used several times, turned and mirrored."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from IntraopReconLib.core.training_config import StandardizerTraining

from .pairs import Pair, TrainingView, draw_pair


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs as tensors.

    Attributes:
        attenuation: Without and with anomalies, [n, 2, row, column].
        bone: Ideal, [n, 2, row, column].
        mask: 1 within the imaged field, [n, 1, row, column].
    """

    attenuation: Tensor
    bone: Tensor
    mask: Tensor

    def on(self, device: str) -> Batch:
        """Return them on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class PairPool:
    """The latest pairs, the oldest of which new ones replace; what it holds depends on the seed and the step alone.

    Args:
        views: Of each CT, by its name; every CT has the same share.
        training: How.
        count: Pairs of a batch.
    """

    def __init__(self, views: dict[str, list[TrainingView]], training: StandardizerTraining, count: int) -> None:
        self._views, self._training, self._count = list(views.values()), training, count
        self._pairs: list[Pair | None] = [None] * training.pool_pairs
        self._drawn = 0

    def batch(self, step: int) -> Batch:
        """Return some of the pool's pairs, all turned and mirrored alike.

        Args:
            step: Of the training; steps may be left out, but not gone back.
        """
        self._fill(step)
        rng = np.random.default_rng([self._training.seed, 1, step])
        chosen = [self._pairs[i] for i in rng.integers(len(self._pairs), size=self._count)]
        turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)

        def stacked(name: str) -> Tensor:
            images = torch.from_numpy(np.stack([getattr(pair, name) for pair in chosen]).astype(np.float32))
            images = torch.rot90(images if images.ndim == 4 else images[:, None], turns, (2, 3))
            return (images.flip(3) if mirrored else images).contiguous()

        return Batch(stacked("attenuation"), stacked("bone"), stacked("mask"))

    def _fill(self, step: int) -> None:
        """Draw the pairs that a step has and the last one had not; the nth pair is the same in every run."""
        size = len(self._pairs)
        until = size + step * self._count // self._training.uses
        for number in range(max(self._drawn, until - size), until):
            rng = np.random.default_rng([self._training.seed, 0, number])
            views = self._views[int(rng.integers(len(self._views)))]
            pair = draw_pair(views[int(rng.integers(len(views)))], self._training, rng)
            self._pairs[number % size] = Pair(pair.attenuation.astype(np.float16), pair.bone.astype(np.float16), pair.mask)
        self._drawn = until
