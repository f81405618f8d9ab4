"""Starting Warp kernels on torch's tensors, on the CPU or on a card.

Importing this module costs a second, and the first launch of a kernel a compilation: import it where it is used, and not before.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR  # errors are raised, and nothing else is for the user
wp.init()

BLOCK = 128  # threads


def array(tensor: Tensor, dtype: type | None = None) -> wp.array:
    """Return Warp's view of a tensor, its last axes taken as vectors or matrices where `dtype` is one."""
    return wp.from_torch(tensor.detach().contiguous(), dtype=dtype, requires_grad=False)


def launch(kernel: wp.Kernel, count: int | tuple[int, ...], inputs: list, device: torch.device) -> None:
    """Start so many threads of a kernel, along one axis or several, on torch's stream."""
    wp.launch(kernel, dim=count, inputs=inputs, device=wp.device_from_torch(device), stream=_stream(device), block_dim=BLOCK)


def launch_blocks(kernel: wp.Kernel, count: int, inputs: list, device: torch.device) -> None:
    """Start so many blocks of threads of a kernel on torch's stream."""
    wp.launch_tiled(kernel, dim=[count], inputs=inputs, device=wp.device_from_torch(device), stream=_stream(device), block_dim=BLOCK)


def _stream(device: torch.device) -> wp.Stream | None:
    return wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
