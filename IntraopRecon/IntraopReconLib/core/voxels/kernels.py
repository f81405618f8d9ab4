"""Where voxels are computed: the kernels of the CPU and those of a card behind the same functions, each on arrays of its own kind.

What both kinds of arrays can do by themselves (sums, products, comparisons) is written once, in `sart`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from . import projection, total_variation
from .projection import ViewOnGrid

PEAK_PERCENTILE = 99.9


class VoxelKernels(Protocol):
    """What an iterative reconstruction needs; volumes are [k, j, i], images [row, column], all float32."""

    def put(self, array: np.ndarray) -> Any:
        """Return an array as this device holds it."""

    def seen(self, array: Any) -> np.ndarray:
        """Return an array of the device as one of numpy, which may be the same memory."""

    def project(self, volume: Any, view: ViewOnGrid) -> tuple[Any, Any]:
        """As `projection.project_volume`."""

    def add_backprojection(self, volume: Any, image: Any, view: ViewOnGrid) -> None:
        """As `projection.add_backprojection`."""

    def keep_positive(self, volume: Any) -> None:
        """Set what is negative to zero, in place."""

    def denoise(self, volume: Any, weight_of_peak: float, dual: Any, iterations: int) -> None:
        """As `total_variation.denoise`, with a weight relative to the volume's peak, a high percentile of every second voxel."""


class CpuVoxels:
    """On the CPU, by numba: arrays of numpy."""

    def put(self, array: np.ndarray) -> np.ndarray:
        """See `VoxelKernels`."""
        return array

    def seen(self, array: np.ndarray) -> np.ndarray:
        """See `VoxelKernels`."""
        return array

    def project(self, volume: np.ndarray, view: ViewOnGrid) -> tuple[np.ndarray, np.ndarray]:
        """See `VoxelKernels`."""
        return projection.project_volume(volume, view)

    def add_backprojection(self, volume: np.ndarray, image: np.ndarray, view: ViewOnGrid) -> None:
        """See `VoxelKernels`."""
        projection.add_backprojection(volume, image, view)

    def keep_positive(self, volume: np.ndarray) -> None:
        """See `VoxelKernels`."""
        np.maximum(volume, 0, out=volume)

    def denoise(self, volume: np.ndarray, weight_of_peak: float, dual: np.ndarray, iterations: int) -> None:
        """See `VoxelKernels`."""
        peak = float(np.percentile(volume[::2, ::2, ::2], PEAK_PERCENTILE))
        total_variation.denoise(volume, weight_of_peak * peak, dual, iterations)


class CardVoxels:
    """On a card, by Warp: tensors of torch. Nothing is copied to the host but by `seen`.

    Args:
        device: As torch calls it.
    """

    def __init__(self, device: str) -> None:
        import torch

        from . import _voxels_warp  # only here: importing Warp takes a second, and it need not be installed

        self._torch, self._warp, self._device = torch, _voxels_warp, device

    def put(self, array: np.ndarray) -> Any:
        """See `VoxelKernels`."""
        return self._torch.tensor(array, device=self._device)

    def seen(self, array: Any) -> np.ndarray:
        """See `VoxelKernels`."""
        return array.cpu().numpy()

    def project(self, volume: Any, view: ViewOnGrid) -> tuple[Any, Any]:
        """See `VoxelKernels`."""
        return self._warp.project_volume(volume, view)

    def add_backprojection(self, volume: Any, image: Any, view: ViewOnGrid) -> None:
        """See `VoxelKernels`."""
        self._warp.add_backprojection(volume, image, view)

    def keep_positive(self, volume: Any) -> None:
        """See `VoxelKernels`."""
        volume.clamp_(min=0)

    def denoise(self, volume: Any, weight_of_peak: float, dual: Any, iterations: int) -> None:
        """See `VoxelKernels`."""
        values = volume[::2, ::2, ::2].reshape(-1)
        rank = PEAK_PERCENTILE / 100 * (len(values) - 1)
        highest = self._torch.topk(values, len(values) - int(rank)).values  # PyTorch's quantile has a limit
        peak = self._torch.lerp(highest[-1:], highest[-2:][:1], rank % 1.0)
        self._warp.denoise(volume, weight_of_peak * peak, dual, iterations)


CPU = CpuVoxels()
