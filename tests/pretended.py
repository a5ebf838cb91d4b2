"""A device that is not there, for what must run on one: its tensors compute on the processor.

As on a graphics processor, an operation of a tensor that is there and one with a dimension that is not is an error. The
device is called "meta": PyTorch gives no tensor the name of a device that it was built without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "meta"
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")  # the places may be on the processor


class There(Tensor):
    """A tensor on the device; ``inner`` is on the processor."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=inner.requires_grad,
        )  # fmt: skip
        made.inner = inner
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes new tensors there where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, wanted = func._schema.name, kwargs.get("device")
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    known = {id(t.inner): t for t in tensors if isinstance(t, There)}
    if wanted is not None:
        there, kwargs = torch.device(wanted).type == DEVICE, {**kwargs, "device": torch.device("cpu")}
    elif name == "aten::copy_":
        there = isinstance(args[0], There)
    else:
        there = bool(known)
        if there and name not in INDEXING and any(t.ndim > 0 and not isinstance(t, There) for t in tensors):
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} has some of two.")
    args, kwargs = tree_map(lambda t: t.inner if isinstance(t, There) else t, (args, kwargs))
    found = func(*args, **kwargs)
    if not there:
        return found
    return tree_map(lambda t: (known[id(t)] if id(t) in known else There(t)) if isinstance(t, Tensor) else t, found)


@contextmanager
def pretended() -> Iterator[None]:
    """Within this context there is the device."""
    autocast = torch.autocast
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.autocast = lambda *_, **__: nullcontext()  # type: ignore[assignment, misc]
    try:
        with _Factories():
            yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]
        torch.__future__.set_overwrite_module_params_on_conversion(False)
