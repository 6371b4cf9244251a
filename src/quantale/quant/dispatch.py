"""Which kernel runs: the highest rank that has no reason to refuse, never timed at run time."""

import functools
from typing import Protocol

from torch import Tensor

from quantale.core.registry import KERNELS
from quantale.quant.packed import PackedTensor


class Kernel(Protocol):
    """A way to multiply by a packed weight."""

    exact: bool
    rank: int

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        """Return the reasons why it cannot run; empty when it can."""
        ...

    def linear(self, x: Tensor, packed: PackedTensor, bias: Tensor | None) -> Tensor:
        """Multiply: x (..., in) -> (..., out)."""
        ...


@functools.cache
def kernels() -> tuple[tuple[str, Kernel], ...]:
    """Return all kernels by falling rank."""
    found = [(name, KERNELS.get(name)()) for name in KERNELS.names()]
    return tuple(sorted(found, key=lambda pair: (-pair[1].rank, pair[0])))


def select(x: Tensor, packed: PackedTensor) -> tuple[str, Kernel]:
    """Return the name and the kernel that will run on this input; `reference` never refuses."""
    return next(pair for pair in kernels() if not pair[1].refuses(x, packed))
