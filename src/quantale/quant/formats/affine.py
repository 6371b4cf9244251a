"""Affine format: weight = scale * (code - zero_point), 2 to 8 bits, per tensor, row or group.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv 1712.05877, section 2.1. Differences: weights only; groups along the input
axis; symmetric grids store no zero point, it is 2**(bits - 1).

Stored tensors of an (out, in) weight with `groups` groups of `size` columns:
  weight      (out, groups, ceil(size * bits / 8)) uint8: codes, see quant/bitpack.py
  scale       (out, groups), or (1, 1) per tensor, in `scale_dtype`
  zero_point  (out, ceil(groups * bits / 8)) uint8, packed like codes; absent when symmetric
A width that is no multiple of the group is padded with the zero point in its last group.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import NumericalError, UsageError
from quantale.quant import bitpack
from quantale.quant.packed import PackedTensor

DTYPES: Final = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


@dataclass(frozen=True)
class Grid:
    """The representable values of every group, as stored."""

    scale: Tensor
    """(out, groups) float32, already rounded to the stored dtype; (1, 1) per tensor."""
    zero_point: Tensor
    """Same shape, whole numbers as float32."""
    top: int
    """Highest code, 2**bits - 1."""

    def codes(self, weight: Tensor) -> Tensor:
        """Return the nearest codes of (out, groups, size) values, as float32."""
        scale, zero = self.scale.unsqueeze(-1), self.zero_point.unsqueeze(-1)
        return torch.clamp(torch.round(weight / scale) + zero, 0, self.top)

    def values(self, codes: Tensor) -> Tensor:
        """Return what codes of shape (out, groups, size) stand for."""
        return (codes - self.zero_point.unsqueeze(-1)) * self.scale.unsqueeze(-1)

    def column(self, group: int) -> "Grid":
        """Return the grid of one group, as (out, 1) tensors."""
        if self.scale.shape[1] == 1:
            return self
        pick = slice(group, group + 1)
        return Grid(self.scale[:, pick], self.zero_point[:, pick], self.top)


@dataclass(frozen=True)
class Affine:
    """Settings of an affine format; raises UsageError for values outside their range."""

    bits: int
    """2 to 8."""
    group_size: int | str = "row"
    """Columns that share a scale, "row" for one scale a row, "tensor" for a single one."""
    symmetric: bool = False
    """Whether the zero point is fixed at the middle code and not stored."""
    scale_dtype: str = "float16"
    """"float16", "bfloat16" or "float32"."""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UsageError(f"affine: bits must be 2 to 8, {self.bits} came")
        named = self.group_size in ("row", "tensor")
        if not named and (not isinstance(self.group_size, int) or self.group_size < 2):
            raise UsageError(
                f"affine: group_size must be row, tensor or at least 2, {self.group_size!r} came"
            )
        if self.scale_dtype not in DTYPES:
            raise UsageError(f"affine: scale_dtype {self.scale_dtype!r} is none of {list(DTYPES)}")

    @property
    def top(self) -> int:
        """Highest code."""
        return (1 << self.bits) - 1

    def settings(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    def size(self, width: int) -> int:
        """Return the columns of a group of a weight of this width."""
        return min(self.group_size, width) if isinstance(self.group_size, int) else width

    def groups(self, width: int) -> int:
        """Return the groups of a row, the padded one included."""
        return -(-width // self.size(width))

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return the shape and dtype of every stored tensor."""
        rows, width = shape
        groups, size = self.groups(width), self.size(width)
        scales = (1, 1) if self.group_size == "tensor" else (rows, groups)
        found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "weight": ((rows, groups, bitpack.packed_width(size, self.bits)), torch.uint8),
            "scale": (scales, DTYPES[self.scale_dtype]),
        }
        if not self.symmetric:
            width = bitpack.packed_width(scales[1], self.bits)
            found["zero_point"] = ((scales[0], width), torch.uint8)
        return found

    def split(self, weight: Tensor) -> Tensor:
        """View (out, in) as (out, groups, size), the last group padded with zeros."""
        size = self.size(weight.shape[1])
        padded = functional.pad(weight, (0, -weight.shape[1] % size))
        return padded.reshape(weight.shape[0], -1, size)

    def grid(self, low: Tensor, high: Tensor) -> Grid:
        """Return the grid that spans [low, high], both (out, groups) float32, rounded as stored.

        Zero is always representable. A group of zeros gets scale 1. Raises NumericalError when a
        scale overflows the stored dtype.
        """
        low, high = low.clamp(max=0), high.clamp(min=0)
        if self.group_size == "tensor":
            low, high = low.amin().reshape(1, 1), high.amax().reshape(1, 1)
        middle = 1 << (self.bits - 1)
        span = (
            torch.maximum(-low, high) / (middle - 1) if self.symmetric else (high - low) / self.top
        )
        scale = self._stored(span)
        if self.symmetric:
            return Grid(scale, torch.full_like(scale, middle), self.top)
        return Grid(scale, torch.round(-low / scale).clamp(0, self.top), self.top)

    def minmax(self, weight: Tensor) -> Grid:
        """Return the grid that spans every group of (out, groups, size) values."""
        return self.grid(weight.amin(-1), weight.amax(-1))

    def store(self, codes: Tensor, grid: Grid, shape: tuple[int, int]) -> PackedTensor:
        """Pack (out, groups, size) codes and their grid."""
        groups, size = self.groups(shape[1]), self.size(shape[1])
        codes = codes.to(torch.int64)
        pad = groups * size - shape[1]
        if pad:
            zero = grid.zero_point.expand(shape[0], groups)[:, -1:].to(torch.int64)
            codes[:, -1, size - pad :] = zero
        tensors = {
            "weight": bitpack.pack(codes, self.bits),
            "scale": grid.scale.to(DTYPES[self.scale_dtype]),
        }
        if not self.symmetric:
            tensors["zero_point"] = bitpack.pack(grid.zero_point.to(torch.int64), self.bits)
        return PackedTensor(self, shape, tensors)

    def dequantize(self, packed: PackedTensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight, computed in float32 and then cast."""
        return self._values(packed, packed.tensors["weight"], slice(None)).to(dtype)

    def rows(self, packed: PackedTensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows of the weight without unpacking the others: (...) -> (..., in)."""
        flat = index.reshape(-1)
        found = self._values(packed, packed.tensors["weight"][flat], flat)
        return found.reshape(*index.shape, packed.shape[1]).to(dtype)

    def apply(self, x: Tensor, packed: PackedTensor, bias: Tensor | None) -> Tensor:
        """Multiply by the dequantized weight in the dtype of x: (..., in) -> (..., out)."""
        return functional.linear(x, self.dequantize(packed, x.dtype), bias)

    def _values(self, packed: PackedTensor, stored: Tensor, pick: slice | Tensor) -> Tensor:
        width = packed.shape[1]
        codes = bitpack.unpack(stored, self.bits, self.size(width)).to(torch.float32)
        scale = packed.tensors["scale"].to(torch.float32)
        zero: Tensor | float = float(1 << (self.bits - 1))
        if not self.symmetric:
            zero = bitpack.unpack(packed.tensors["zero_point"], self.bits, scale.shape[1])
            zero = zero.to(torch.float32).unsqueeze(-1)
            zero = zero if self.group_size == "tensor" else zero[pick]
        scale = scale if self.group_size == "tensor" else scale[pick]
        return ((codes - zero) * scale.unsqueeze(-1)).flatten(1)[:, :width]

    def _stored(self, scale: Tensor) -> Tensor:
        dtype = DTYPES[self.scale_dtype]
        stored = scale.to(dtype).to(torch.float32)
        if not torch.isfinite(stored).all():
            raise NumericalError(
                f"a scale of {float(scale.max()):.3g} does not fit {self.scale_dtype}; "
                "set scale_dtype to float32"
            )
        stored = torch.where(stored > 0, stored, torch.finfo(dtype).tiny)
        return torch.where(scale > 0, stored, torch.ones_like(stored))
