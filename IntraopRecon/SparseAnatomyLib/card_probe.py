"""What a probe does first and last: find a card with PyTorch, and compare it with the CPU; in the process that `choose_device` starts.

Torch is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .devices import problem

OTHER_CARD = "Choose the device auto or cpu, or another card."
UPDATE = "Choose the device auto or cpu, or update NVIDIA's driver."


def find_card(wanted: str, least_free_bytes: int) -> dict[str, str]:
    """Return `device` and `name` of a card that PyTorch can use, or what `problem` makes.

    Args:
        wanted: `cuda`, the card with the most free memory, or `cuda:` and a number.
        least_free_bytes: What the work takes at least, CUDA itself included.
    """
    import torch

    if torch.version.cuda is None:
        return problem("PyTorch is installed as its build for the CPU alone", "Choose the device auto or cpu, or install PyTorch for CUDA.")
    if not torch.cuda.is_available():
        return problem(f"the driver of the NVIDIA card is too old for CUDA {torch.version.cuda}, or sees no card", UPDATE)
    count = torch.cuda.device_count()
    free = {number: torch.cuda.mem_get_info(number) for number in range(count)}
    number = max(free, key=lambda card: free[card][0]) if wanted == "cuda" else int(wanted.partition(":")[2])
    if number >= count:
        return problem(f"there is no card {wanted}, only {count} in all", OTHER_CARD)
    name = torch.cuda.get_device_name(number)
    if free[number][0] < least_free_bytes:
        gigabytes = " of ".join(f"{value / 1e9:.1f}" for value in free[number])
        return problem(f"the memory of the graphics card {name} is full ({gigabytes} GB are free)", OTHER_CARD)
    return {"device": f"cuda:{number}", "name": name}


def compare(card: dict[str, str], timed: Callable[[str], tuple[np.ndarray, float]], largest_difference: float) -> dict[str, Any]:
    """Do the same work on the CPU and on a card, and return what `choose_device` wants to know of the card.

    Args:
        card: As `find_card` returns it.
        timed: Does the work on a device, and returns what came out and the seconds that it took when warm.
        largest_difference: Between the two, relative to the largest value of the CPU.
    """
    expected, cpu_seconds = timed("cpu")
    found, card_seconds = timed(card["device"])
    if not float(np.abs(found - expected).max()) <= largest_difference * float(np.abs(expected).max()):
        return problem(f"the graphics card {card['name']} computes otherwise than the CPU", OTHER_CARD)
    return {**card, "card_seconds": card_seconds, "cpu_seconds": cpu_seconds}
