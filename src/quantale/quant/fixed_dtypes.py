"""Modules whose stored tensors keep their dtypes when the model around them is cast."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class FixedDtypes(nn.Module):
    """Buffers that a subclass names in `_names` move with `.to()` and are never cast."""

    _names: tuple[str, ...] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: self.get_buffer(name) for name in self._names}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self.get_buffer(name)
            if after.dtype != before.dtype:
                setattr(self, name, before.to(after.device))
        return self
