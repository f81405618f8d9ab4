"""Whether a completion works on a graphics card, and faster than on the CPU: `choose_device` runs it in a process of its own."""

from __future__ import annotations

import time

import numpy as np
import torch

from SparseAnatomyLib.card_probe import compare, find_card
from SparseAnatomyLib.grid import VoxelGrid

from .calibration import Temperature
from .config import InrSettings
from .cube import cube_view
from .layouts import SliceLayout, outline
from .outer_loop import meta_parameters
from .predict import predict
from .prior import Prior
from .prior_card import PriorCard
from .refine import RefineNetwork
from .surface import evaluate

LEAST_FREE_BYTES = 1_000_000_000  # CUDA itself, PyTorch, and a completion on a large grid
EXTENT_MM, RADIUS_MM, SPACING_MM, VOXEL_MM = 128.0, 40.0, 8.0, 1.25
REPEATS = 4
LARGEST_DIFFERENCE = 0.03  # of the largest logit; the CPU computes in half precision


def examine(wanted: str) -> dict[str, object]:
    """Return what `choose_device` wants to know of a card: `cuda`, or `cuda:` and its number."""
    found = find_card(wanted, LEAST_FREE_BYTES)
    return found if "problem" in found else compare(found, _timed, LARGEST_DIFFERENCE)


def _timed(device: str) -> tuple[np.ndarray, float]:
    """Return the logits of a ball that a network by chance completes from slices, and the seconds that it takes when all is warm."""
    grid = VoxelGrid.box(np.zeros(3), EXTENT_MM, VOXEL_MM)
    slices = outline(SliceLayout("axial", SPACING_MM), np.zeros(3), grid.extent_mm, lambda p: RADIUS_MM - np.linalg.norm(p, axis=-1))
    prior, seconds, logits = _prior(), [], np.zeros(0)
    for _ in range(REPEATS):
        began = time.perf_counter()
        view = cube_view(slices, EXTENT_MM, device)
        logits, _ = evaluate(view, predict(prior, view).correction, grid)
        seconds.append(time.perf_counter() - began)
    return logits, min(seconds)


def _prior() -> Prior:
    """Return networks by chance; the residual one corrects about as much as a trained one."""
    torch.manual_seed(0)
    refine = RefineNetwork()
    torch.nn.init.normal_(refine.exit.weight, std=0.05)
    card = PriorCard("probe", "Probe", "", "", EXTENT_MM, "", 0.0, 0, "")
    inr = meta_parameters("ridge", InrSettings(), torch.Generator().manual_seed(0))
    return Prior(card, {name: value.detach() for name, value in inr.items()}, refine.eval(), Temperature(1.0, 0.0), -np.inf)
