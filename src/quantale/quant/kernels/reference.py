"""The format's own arithmetic in plain PyTorch: runs everywhere and defines every result."""

from dataclasses import dataclass

from torch import Tensor

from quantale.quant.packed import PackedTensor


@dataclass(frozen=True)
class Reference:
    """Dequantizes the whole weight at each call, then multiplies."""

    exact = True
    rank = 0
    needs = "nothing"

    def lacks(self) -> list[str]:
        """Return nothing: it runs everywhere."""
        return []

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        """Return nothing: it runs everything."""
        del x, packed
        return []

    def prepare(self, packed: PackedTensor) -> tuple[Tensor, ...]:
        """Return nothing: it reads the stored tensors."""
        del packed
        return ()

    def linear(
        self, x: Tensor, packed: PackedTensor, bias: Tensor | None, prepared: tuple[Tensor, ...]
    ) -> Tensor:
        """Multiply: x (..., in) -> (..., out)."""
        del prepared
        return packed.format.apply(x, packed, bias)
