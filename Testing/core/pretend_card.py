"""A graphics card for tests where there is none: it computes nothing, but sees every tensor that is not where it should be.

Torch's device `meta` takes the card's place: its tensors have a shape and no content, so that whatever wants to know a value fails, as a
copy to the host would keep a card waiting. Warp's kernels are not started.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARD = "meta"
_ATEN = torch.ops.aten
COPIES = (_ATEN._to_copy.default, _ATEN.copy_.default)
INDEXING = (_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN._index_put_impl_.default)  # indices of the host are taken along


class Misplaced(AssertionError):
    """Something is not on the card that should be, or the other way round."""


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor.device.type == CARD for tensor in given]
        if any(there) and func not in (*COPIES, *INDEXING):
            at_home = [tensor for tensor, is_there in zip(given, there, strict=True) if not is_there and tensor.dim()]
            if at_home:
                raise Misplaced(f"{func}: a tensor {list(at_home[0].shape)} of the host among those of the card")
        result = func(*args, **kwargs)
        if any(there) and any(isinstance(leaf, torch.Tensor) and leaf.device.type != CARD for leaf in tree_leaves(result)):
            raise Misplaced(f"{func}: a copy from the card to the host")
        return result


@contextmanager
def watched(monkeypatch):
    """Refuse, while it lasts, what mixes tensors of the host and of the card, and what copies from the card."""
    from IntraopReconLib.core.splatting import _projector_warp, _voxelizer_warp
    from IntraopReconLib.core.voxels import _voxels_warp

    for module in (_projector_warp, _voxelizer_warp, _voxels_warp):
        monkeypatch.setattr(module, "launch", _not_started)
        monkeypatch.setattr(module, "array", lambda tensor, dtype=None: tensor)
    for module in (_projector_warp, _voxelizer_warp):
        monkeypatch.setattr(module, "launch_blocks", _not_started)
        monkeypatch.setattr(module, "filled", lambda struct, tensors: list(tensors))
        # how long lists are is the one number that comes to the host: memory is taken by it
        monkeypatch.setattr(module, "lists_by_tile", lambda boxes, shape: (boxes.new_empty(2), boxes.new_empty(1)))
    with _Watch():
        yield


def _not_started(kernel, count, inputs, device) -> None:
    """Check that all that a kernel is given is on the card."""
    wrong = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor) and leaf.device.type != CARD]
    if wrong or torch.device(device).type != CARD:
        raise Misplaced(f"a kernel is given a tensor {[list(leaf.shape) for leaf in wrong]} of the host")
