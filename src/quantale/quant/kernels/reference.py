"""The format's own arithmetic in plain PyTorch: runs everywhere and defines every result."""

from dataclasses import dataclass

from torch import Tensor

from quantale.quant.packed import PackedTensor


@dataclass(frozen=True)
class Reference:
    """Dequantizes the whole weight at each call, then multiplies."""

    exact = True
    """Whether the result is the format's definition bit for bit."""
    rank = 0
    """Of the kernels that do not refuse, the one of the highest rank runs."""

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        """Return why this kernel cannot run here: never anything."""
        del x, packed
        return []

    def linear(self, x: Tensor, packed: PackedTensor, bias: Tensor | None) -> Tensor:
        """Multiply: x (..., in) -> (..., out)."""
        return packed.format.apply(x, packed, bias)
