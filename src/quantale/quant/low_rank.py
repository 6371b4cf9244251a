"""A low-rank term beside a packed weight: what few bits get wrong, where that has few directions.

The layer multiplies by Q + L R, Q packed, L (out, rank) and R (rank, in) stored in 8 bits with one
scale for each of their directions. Low-rank terms that make up for quantization: Yao et al.,
"ZeroQuant-V2", arXiv 2303.08302 (LoRC); factors in few bits themselves: Saha et al., "CALDERA",
arXiv 2405.18886. The term is a child `low_rank` of the packed layer, and the record of the site in
`config.json` names its rank: every family of models loads with it.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from quantale.quant.fixed_dtypes import FixedDtypes

_LARGEST_CODE: Final = 127


@dataclass(frozen=True)
class Factor:
    """One factor in 8 bits."""

    codes: Tensor
    """int8, directions along one dimension."""
    scale: Tensor
    """float32, one for each direction, of the same number of dimensions."""

    @property
    def values(self) -> Tensor:
        """What the codes stand for, float32."""
        return self.codes * self.scale


def rounded(exact: Tensor, along: int) -> Factor:
    """Round a factor to 8 bits; along: the dimension that a direction extends over.

    Both tensors are contiguous, as they come from a file: the order of sums depends on that.
    """
    scale = exact.detach().abs().amax(along, keepdim=True).to(torch.float32) / _LARGEST_CODE
    scale = torch.where(scale > 0, scale, 1.0)
    codes = (exact.detach() / scale).round().to(torch.int8)
    return Factor(codes.contiguous(), scale.contiguous())


def product(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Multiply by the values of both factors: (..., in) -> (..., out), in the dtype of x."""
    return functional.linear(functional.linear(x, right.to(x.dtype)), left.to(x.dtype))


class LowRank(FixedDtypes):
    """Both factors as they are stored; the dtypes of its buffers never change with `.to()`."""

    _names = ("left", "left_scale", "right", "right_scale")
    left: Tensor
    left_scale: Tensor
    right: Tensor
    right_scale: Tensor

    def __init__(self, left: Factor, right: Factor) -> None:
        super().__init__()
        self.register_buffer("left", left.codes)
        self.register_buffer("left_scale", left.scale)
        self.register_buffer("right", right.codes)
        self.register_buffer("right_scale", right.scale)

    @classmethod
    def blank(cls, shape: tuple[int, int], rank: int) -> "LowRank":
        """Return a term for an (out, in) weight without numbers, to be filled from a file."""
        rows, width = shape
        return cls(
            Factor(_meta((rows, rank), torch.int8), _meta((1, rank), torch.float32)),
            Factor(_meta((rank, width), torch.int8), _meta((rank, 1), torch.float32)),
        )

    @property
    def rank(self) -> int:
        """How many directions it has."""
        return self.right.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(tensor.nbytes for tensor in self.buffers())

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., in) -> (..., out), in the dtype of x."""
        return product(x, *self._values())

    def weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight that the term stands for."""
        left, right = self._values()
        return (left @ right).to(dtype)

    def _values(self) -> tuple[Tensor, Tensor]:
        return self.left * self.left_scale, self.right * self.right_scale

    def extra_repr(self) -> str:
        """Say the rank."""
        return f"rank={self.rank}"


def is_rank(rank: int, shape: tuple[int, int]) -> bool:
    """Say whether an (out, in) weight can have a term of a rank."""
    return 1 <= rank <= min(shape)


def _meta(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
