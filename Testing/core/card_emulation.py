"""A graphics card that is none: tensors that the CPU may not touch, computed on the CPU, so that a forgotten copy is an error here too.

Torch's device `meta` stands for the card. What lies there is told from what lies on the CPU as strictly as CUDA does: an operation that
mixes the two fails (but for single numbers), and so does reading such a tensor as an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CARD = "meta"
_TO_DEVICE = (torch.ops.aten._to_copy.default,)
_READ = torch.ops.aten._local_scalar_dense.default


class CardTensor(torch.Tensor):
    """A tensor on the card."""

    @staticmethod
    def __new__(cls, held: torch.Tensor, requires_grad: bool = False) -> CardTensor:
        assert not isinstance(held, CardTensor) and held.device.type == "cpu"
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CARD,
            requires_grad=requires_grad,
        )

    def __init__(self, held: torch.Tensor, requires_grad: bool = False) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"CardTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})


class _Card(TorchDispatchMode):
    """Sees every operation, so that what is made on the card, or sent there, is a CardTensor; counts the copies between the two.

    Attributes:
        uploads, downloads: Tensors that were copied.
        numbers: Single numbers that were read from the card, which waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploads, self.downloads, self.numbers = 0, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _TO_DEVICE and "device" in kwargs:
            to_card, is_there = torch.device(kwargs["device"]).type == CARD, isinstance(args[0], CardTensor)
            self.uploads += to_card and not is_there
            self.downloads += is_there and not to_card
        self.numbers += function is _READ and isinstance(args[0], CardTensor)
        return _computed(function, args, kwargs)


def _computed(function: Any, args: tuple, kwargs: dict) -> Any:
    flat = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    there = [one for one in flat if isinstance(one, CardTensor)]
    assert all(one.device.type == "cpu" for one in flat if not isinstance(one, CardTensor)), f"{function}: a tensor without values"
    wanted = kwargs.get("device")
    on_card = bool(there) if wanted is None else torch.device(wanted).type == CARD
    copies = function in (*_TO_DEVICE, torch.ops.aten.copy_.default)
    if there and not copies:
        strangers = [one for one in flat if not isinstance(one, CardTensor) and one.ndim > 0]
        assert not strangers, f"{function}: a tensor of the CPU, shape {list(strangers[0].shape)}, among those of the card"
    if copies and function not in _TO_DEVICE:
        on_card = isinstance(args[0], CardTensor)
    args, kwargs = tree_map(lambda one: one.held if isinstance(one, CardTensor) else one, (args, kwargs))
    if wanted is not None:
        kwargs["device"] = torch.device("cpu")
    with torch.utils._python_dispatch._disable_current_modes():
        result = function(*args, **kwargs)
    if not on_card:
        return result
    return tree_map(lambda one: CardTensor(one) if isinstance(one, torch.Tensor) else one, result)


@contextmanager
def emulated_card() -> Iterator[_Card]:
    """Let the device `meta` be a card within."""
    autocast = torch.autocast

    def cast(device_type: str, *arguments: Any, **settings: Any) -> Any:
        return nullcontext() if device_type == CARD else autocast(device_type, *arguments, **settings)

    # Subclasses of tensors cannot be sliced in inference mode.
    with mock.patch.object(torch, "autocast", cast), mock.patch.object(torch, "inference_mode", torch.no_grad), _Card() as card:
        yield card


@contextmanager
def warp_on_emulated_card(monkeypatch) -> Iterator[_Card]:
    """Let Warp's kernels compute on the emulated card too; what they are given must all be there."""
    from IntraopReconLib.core.splatting import _projector_warp, _voxelizer_warp, _warp_tiles
    from IntraopReconLib.core.voxels import _voxels_warp, _warp_launch

    array, on_cpu = _warp_launch.array, torch.device("cpu")
    launches = {"launch": _warp_launch.launch, "launch_blocks": _warp_launch.launch_blocks}

    def held(tensor: torch.Tensor, dtype: type | None = None) -> Any:
        tensor = tensor.detach().contiguous()
        assert isinstance(tensor, CardTensor), f"a kernel is given a tensor of the CPU, shape {list(tensor.shape)}"
        with torch.utils._python_dispatch._disable_current_modes():
            return array(tensor.held, dtype)

    for module in (_warp_launch, _warp_tiles, _projector_warp, _voxelizer_warp, _voxels_warp):
        for name, launch in launches.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *arguments, launch=launch: launch(*arguments[:-1], on_cpu))
        if hasattr(module, "array"):
            monkeypatch.setattr(module, "array", held)
    with emulated_card() as card:
        yield card
