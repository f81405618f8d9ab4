"""Whether the splatting works on a graphics card, and faster than on the CPU: `choose_device` runs it in a process of its own."""

from __future__ import annotations

import time

import numpy as np
import torch

from SparseAnatomyLib.card_probe import OTHER_CARD, UPDATE, find_card
from SparseAnatomyLib.devices import problem
from SparseAnatomyLib.geometry import XrayView

from . import gsplat_state
from .gaussians import Gaussians
from .projector import Cameras, project

LEAST_FREE_BYTES = 1_000_000_000  # CUDA itself, PyTorch, and a fit of 20,000 Gaussians
GAUSSIANS, SIZE_PX, REPEATS = 10_000, 128, 3
LARGEST_DIFFERENCE = 1e-3  # of the brightest pixel


def examine(wanted: str) -> dict[str, object]:
    """Return what `choose_device` wants to know of a card: `cuda`, or `cuda:` and its number."""
    found = find_card(wanted, LEAST_FREE_BYTES)
    if "problem" in found:
        return found
    import warp as wp

    wp.config.log_level = wp.LOG_ERROR
    wp.init()
    if not wp.is_cuda_available():
        return problem("the driver of the NVIDIA card is too old for the Python package warp-lang", UPDATE)
    return _compare(found["device"], found["name"])


def _compare(device: str, name: str) -> dict[str, object]:
    """Run the same work on the CPU and on a device, and return how it went."""
    expected, cpu_seconds = timed("cpu")
    found, card_seconds = timed(device)
    if not same(expected, found):
        return problem(f"the graphics card {name} computes otherwise than the CPU", OTHER_CARD)
    return {"device": device, "name": name, "card_seconds": card_seconds, "cpu_seconds": cpu_seconds, **gsplat_state.offer()}


def same(expected: list[torch.Tensor], found: list[torch.Tensor]) -> bool:
    """Return whether two kernels give the same, as far as float32 goes."""
    return all(float((a - b).abs().max()) <= LARGEST_DIFFERENCE * float(a.abs().max()) for a, b in zip(expected, found, strict=True))


def timed(device: str, kernel: str | None = None, repeats: int = REPEATS) -> tuple[list[torch.Tensor], float]:
    """Return images and gradients by the densities of a scene, and the seconds of one forward and backward pass, compilation left out."""
    rng = np.random.default_rng(0)
    quaternions = rng.normal(size=(GAUSSIANS, 4))
    arrays = rng.uniform(-60, 60, (GAUSSIANS, 3)), np.full((GAUSSIANS, 3), 0.7), quaternions, np.full(GAUSSIANS, -4.0)
    gaussians = Gaussians(*(torch.tensor(a, dtype=torch.float32, device=device, requires_grad=True) for a in arrays))
    view = XrayView([0, -600, 0], [-SIZE_PX, 420, SIZE_PX], [2.0, 0, 0], [0, 0, -2.0], (SIZE_PX, SIZE_PX))
    cameras = Cameras.of([view] * 4)
    images, seconds = torch.empty(0), []
    for _ in range(repeats):
        began = time.perf_counter()
        gaussians.log_densities.grad = None
        images = project(gaussians, cameras, kernel)
        images.square().sum().backward()
        gradient = gaussians.log_densities.grad.cpu()  # waits for the card
        seconds.append(time.perf_counter() - began)
    return [images.detach().cpu(), gradient], min(seconds)
