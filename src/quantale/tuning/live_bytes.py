"""The bytes of tensors that are there at one time, counted while work is done without data.

Inside the block all tensors are torch's fake ones, which have shapes and dtypes and nothing else.
Every storage that an operation makes is counted from its first to its last reference, so that the
fullest moment of a forward and backward pass is that of a real one. What a kernel takes for itself
while it runs is not seen.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quantale.tuning.heap_model import HeapModel

_ASKS: Any = torch.ops.aten._local_scalar_dense.default


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts storages; active as a context."""

    def __init__(self, heap: HeapModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.heap = heap
        """What the process holds for them."""
        self.now = 0
        """Bytes that are there."""
        self.peak = 0
        """The most that were there since the last `restart`."""
        self._known: dict[int, Any] = {}

    def restart(self) -> None:
        """Forget the fullest moment until now."""
        self.peak = self.now

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do the operation and count what it made."""
        del types
        found = _answered(func, args, kwargs or {})
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        dropped = self._dropped(key, size, self.heap.take(size))
        self._known[key] = weakref.ref(storage, dropped)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _dropped(self, key: int, size: int, place: int) -> Callable[[Any], None]:
        def drop(_: Any) -> None:
            if self._known.pop(key, None) is not None:
                self.now -= size
                self.heap.give(place, size)

        return drop


@contextmanager
def counting(mapped_from: int) -> Iterator[LiveBytes]:
    """Make all tensors of the block fake, and count them; random states stay as they are.

    mapped_from: bytes from which the C library maps blocks; see `core/heap.py`.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(LiveBytes(HeapModel(mapped_from)))


def fake(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same shape and dtype, which is fake in a block of `counting`."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def materialize(
    model: nn.Module, make: Callable[[torch.Tensor], torch.Tensor] = fake
) -> dict[int, nn.Parameter]:
    """Give a model that was built on "meta" other tensors of the same shapes, by default fake ones.

    Returns its new parameters by the identity of the old ones; tied ones stay tied.
    """
    parameters: dict[int, nn.Parameter] = {}
    buffers: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                if id(old) not in parameters:
                    parameters[id(old)] = nn.Parameter(make(old), old.requires_grad)
                module._parameters[name] = parameters[id(old)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                if id(buffer) not in buffers:
                    buffers[id(buffer)] = make(buffer)
                module._buffers[name] = buffers[id(buffer)]
    return parameters


def _answered(func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Do an operation; one that asks for a number that is not there is told 1."""
    try:
        return func(*args, **kwargs)
    except DataDependentOutputException:
        if func is not _ASKS:
            raise
        return {torch.bool: True}.get(args[0].dtype, 1.0 if args[0].is_floating_point() else 1)
