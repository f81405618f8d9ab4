"""Whether the standardizer's network works on a graphics card, and faster than on the CPU: `choose_device` runs it in its own process."""

from __future__ import annotations

import time

import numpy as np
import torch

from SparseAnatomyLib.card_probe import compare, find_card

from .network import NetworkStandardizer, StandardizerCard
from .unet import PITCH_MM, TYPICAL_ATTENUATION, BoneNetwork

LEAST_FREE_BYTES = 1_500_000_000  # CUDA itself, PyTorch, and the network on the largest X-ray
SIZE_PX, REPEATS = 256, 3
LARGEST_DIFFERENCE = 0.05  # of the largest attenuation; both compute in half precision


def examine(wanted: str) -> dict[str, object]:
    """Return what `choose_device` wants to know of a card: `cuda`, or `cuda:` and its number."""
    found = find_card(wanted, LEAST_FREE_BYTES)
    return found if "problem" in found else compare(found, _timed, LARGEST_DIFFERENCE)


def _timed(device: str) -> tuple[np.ndarray, float]:
    """Return what a network by chance makes of a picture, and the seconds that it takes when all is warm."""
    torch.manual_seed(0)
    network = BoneNetwork()
    for part in (network.overview, network.detail):
        torch.nn.init.normal_(part.last.weight, std=0.05)  # fresh, it would let everything pass
    standardizer = NetworkStandardizer(network, StandardizerCard("probe", "", "", "", 0.0, 0, ""))
    image = TYPICAL_ATTENUATION + np.random.default_rng(0).normal(0, 0.5, (SIZE_PX, SIZE_PX)).cumsum(0).clip(-3, 3)
    mask, bone, seconds = np.ones(image.shape, bool), np.zeros(0), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        bone = standardizer.bone_on(device, image, mask, PITCH_MM)
        seconds.append(time.perf_counter() - began)
    return bone, min(seconds)
