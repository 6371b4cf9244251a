"""Which kernel runs: the highest rank that has no reason to refuse, never timed at run time.

Kernels that give the format's result bit for bit are the only ones, unless the caller asks for
fast ones for the time of a `with` block. What a kernel makes of a weight once (another layout,
say) is kept beside the weight, as buffers of its module that are counted but never stored.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from quantale.core.registry import KERNELS
from quantale.quant.packed import PackedTensor

_FAST: Final[ContextVar[bool]] = ContextVar("fast kernels", default=False)


class Kernel(Protocol):
    """A way to multiply by a packed weight."""

    exact: bool
    """Whether the result is the format's definition bit for bit."""
    rank: int
    """Of the kernels that do not refuse, the one of the highest rank runs."""
    needs: str
    """What it needs of machine and model, in words."""

    def lacks(self) -> list[str]:
        """Return the reasons why it can run nothing on this machine; empty when it can."""
        ...

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        """Return the reasons why it cannot run; empty when it can."""
        ...

    def prepare(self, packed: PackedTensor) -> tuple[Tensor, ...]:
        """Return what it makes of a weight once; empty when it reads the stored tensors."""
        ...

    def linear(
        self, x: Tensor, packed: PackedTensor, bias: Tensor | None, prepared: tuple[Tensor, ...]
    ) -> Tensor:
        """Multiply: x (..., in) -> (..., out), with what `prepare` made of this weight."""
        ...


@functools.cache
def kernels() -> tuple[tuple[str, Kernel], ...]:
    """Return all kernels by falling rank."""
    found = [(name, KERNELS.get(name)()) for name in KERNELS.names()]
    return tuple(sorted(found, key=lambda pair: (-pair[1].rank, pair[0])))


@contextmanager
def fast_kernels(wanted: bool = True) -> Iterator[None]:
    """Let kernels run that are not exact, in this thread and until the block ends."""
    token = _FAST.set(wanted)
    try:
        yield
    finally:
        _FAST.reset(token)


def select(x: Tensor, packed: PackedTensor) -> tuple[str, Kernel]:
    """Return the name and the kernel that will run on this input; `reference` never refuses."""
    fast = _FAST.get()
    return next(
        pair for pair in kernels() if (fast or pair[1].exact) and not pair[1].refuses(x, packed)
    )


class Runner:
    """Runs the selected kernel for one module and keeps what it prepared."""

    def __init__(self) -> None:
        self.name: str | None = None
        """The kernel that ran last."""
        self._made_of: dict[str, tuple[tuple[int, int], ...]] = {}
        self._counts: dict[str, int] = {}

    def linear(
        self, module: nn.Module, x: Tensor, packed: PackedTensor, bias: Tensor | None
    ) -> Tensor:
        """Multiply: x (..., in) -> (..., out).

        Where the gradient goes to the input alone, nothing is kept for it but the packed weight.
        """
        frozen = not any(tensor.requires_grad for tensor in packed.tensors.values())
        if torch.is_grad_enabled() and x.requires_grad and frozen:
            product: Tensor = _Product.apply(x, bias, packed, self, module)  # type: ignore[no-untyped-call]
            return product
        return self._multiply(module, x, packed, bias)

    def _multiply(
        self, module: nn.Module, x: Tensor, packed: PackedTensor, bias: Tensor | None
    ) -> Tensor:
        self.name, kernel = select(x, packed)
        return kernel.linear(x, packed, bias, self._prepared(module, self.name, kernel, packed))

    def forget(self, module: nn.Module) -> None:
        """Drop everything that was prepared, because the weight moves or changes."""
        for name, count in self._counts.items():
            for index in range(count):
                delattr(module, _buffer(name, index))
        self._made_of, self._counts = {}, {}

    def _prepared(
        self, module: nn.Module, name: str, kernel: Kernel, packed: PackedTensor
    ) -> tuple[Tensor, ...]:
        source = tuple((id(t), _version(t)) for t in packed.tensors.values())
        if self._made_of.get(name) != source:
            made = kernel.prepare(packed)
            for index, tensor in enumerate(made):
                module.register_buffer(_buffer(name, index), tensor, persistent=False)
            self._made_of[name], self._counts[name] = source, len(made)
        return tuple(module.get_buffer(_buffer(name, index)) for index in range(self._counts[name]))


class _Product(torch.autograd.Function):
    """A product whose gradient dequantizes again, instead of keeping the weight from before.

    As bitsandbytes does (Dettmers et al., "QLoRA", arXiv 2305.14314, section 3): otherwise a
    forward pass in training would leave the whole model dequantized in memory. Rounding of inputs
    by a format is passed straight through.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        packed: PackedTensor,
        runner: Runner,
        module: nn.Module,
    ) -> Tensor:
        """Multiply: x (..., in) -> (..., out)."""
        ctx.packed = packed
        return runner._multiply(module, x.detach(), packed, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input and bias; gradient: (..., out)."""
        to_bias = gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        to_input = gradient @ ctx.packed.dequantize(gradient.dtype)
        return to_input, to_bias, None, None, None


def _buffer(name: str, index: int) -> str:
    return f"prepared_{name.replace('-', '_')}_{index}"


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place."""
    return 0 if tensor.is_inference() else tensor._version
