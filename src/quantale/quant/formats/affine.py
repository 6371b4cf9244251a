"""Affine format: weight = scale * (code - zero_point), 1 to 8 bits, per tensor, row or group.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv 1712.05877, section 2.1. Differences: weights only; groups along the input
axis; symmetric grids store no zero point; a zero point may be a float, as HQQ (Badri, Shaji,
"Half-Quadratic Quantization", 2023) needs it; scales may be quantized a second time.

Stored tensors of an (out, in) weight with `groups` groups of `size` columns:
  weight      (out, groups, ceil(size * bits / 8)) uint8: codes, see quant/bitpack.py
  scale       (out, groups), or (1, 1) per tensor, in `scale_dtype`; see quant/scales.py
  zero_point  (out, ceil(groups * bits / 8)) uint8, packed like codes; with `zero_dtype`
              (out, groups) in that dtype; absent when symmetric
The zero point of a symmetric grid is 2**(bits - 1), or 1/2 for one bit, whose two values are
then -scale / 2 and scale / 2. A width that is no multiple of the group is padded with the zero
point in its last group. With axis 0 the transposed weight is stored: read (in, out) above.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import NumericalError, UsageError
from quantale.quant import bitpack, groups
from quantale.quant.packed import PackedTensor
from quantale.quant.parts import Parts
from quantale.quant.rows import joined
from quantale.quant.scales import DTYPES, ScaleStore

_LARGEST_ZERO = 1024.0
"""Of floating zero points, in codes: float16 still resolves half a code there."""


@dataclass(frozen=True)
class Grid:
    """The representable values of every group, as stored."""

    scale: Tensor
    """(out, groups) float32, already rounded to the stored dtype; (1, 1) per tensor."""
    zero_point: Tensor
    """Same shape, as stored, as float32; whole numbers unless the zeros are floating."""
    top: int
    """Highest code, 2**bits - 1."""
    stored: Mapping[str, Tensor] | None = None
    """The tensors that hold the scales; None: they come back from storing unchanged."""

    def codes(self, weight: Tensor) -> Tensor:
        """Return the nearest codes of (out, groups, size) values, as float32."""
        scale, zero = self.scale.unsqueeze(-1), self.zero_point.unsqueeze(-1)
        return (weight / scale).add_(zero).round_().clamp_(0, self.top)

    def values(self, codes: Tensor) -> Tensor:
        """Return what codes of shape (out, groups, size) stand for."""
        return (codes - self.zero_point.unsqueeze(-1)).mul_(self.scale.unsqueeze(-1))

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
    """1 to 8."""
    group_size: int | str = "row"
    """Columns that share a scale, "row" for one scale a row, "tensor" for a single one."""
    symmetric: bool = False
    """Whether the zero point is fixed at the middle of the grid and not stored."""
    scale_dtype: str = "float16"
    """"float16", "bfloat16" or "float32"."""
    zero_dtype: str | None = None
    """Dtype of floating zero points; None: whole numbers, packed like codes."""
    double_quant: bool = False
    """Whether scales are quantized to 8 bits a second time."""
    axis: int = 1
    """1: groups along a row; 0: down a column, the transposed weight being stored."""

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise UsageError(f"affine: bits must be 1 to 8, {self.bits} came")
        groups.check("affine", self.group_size)
        if self.zero_dtype is not None and self.zero_dtype not in DTYPES:
            raise UsageError(f"affine: zero_dtype {self.zero_dtype!r} is none of {list(DTYPES)}")
        if self.symmetric and self.zero_dtype is not None:
            raise UsageError("affine: a symmetric grid stores no zero points; drop zero_dtype")
        if self.axis not in (0, 1):
            raise UsageError(f"affine: axis is 0 or 1, {self.axis!r} came")
        self.store_of_scales  # noqa: B018  (checks scale_dtype)

    @property
    def top(self) -> int:
        """Highest code."""
        return (1 << self.bits) - 1

    @property
    def rows_are_apart(self) -> bool:
        """Whether no two rows share a scale or a stored tensor's element."""
        return self.axis == 1 and self.group_size != "tensor" and not self.double_quant

    @property
    def middle(self) -> float:
        """Zero point of a symmetric grid."""
        return 0.5 if self.bits == 1 else float(1 << (self.bits - 1))

    @property
    def store_of_scales(self) -> ScaleStore:
        """How scales are stored."""
        return ScaleStore(self.scale_dtype, self.double_quant)

    def settings(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    def size(self, width: int) -> int:
        """Return the columns of a group of a weight of this width."""
        return groups.size(self.group_size, width)

    def groups(self, width: int) -> int:
        """Return the groups of a row, the padded one included."""
        return groups.count(self.group_size, width)

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return the shape and dtype of every stored tensor."""
        rows, width = self._laid(shape)
        count, size = self.groups(width), self.size(width)
        scales = groups.scale_shape(self.group_size, (rows, width))
        found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "weight": ((rows, count, bitpack.packed_width(size, self.bits)), torch.uint8),
            **self.store_of_scales.tensors(scales),
        }
        if self.zero_dtype is not None:
            found["zero_point"] = (scales, DTYPES[self.zero_dtype])
        elif not self.symmetric:
            width = bitpack.packed_width(scales[1], self.bits)
            found["zero_point"] = ((scales[0], width), torch.uint8)
        return found

    def split(self, weight: Tensor) -> Tensor:
        """View (out, in) as (out, groups, size), the last group padded with zeros.

        With axis 0 it is (in, groups, size), and `out` means `in` in the methods below.
        """
        return groups.split(weight if self.axis else weight.t(), self.group_size)

    def grid(self, low: Tensor, high: Tensor) -> Grid:
        """Return the grid that spans [low, high], both (out, groups) float32, rounded as stored.

        Zero is always representable, unless zero points are floating. A group of zeros gets
        scale 1. Raises NumericalError when a scale overflows the stored dtype.
        """
        if self.zero_dtype is None:
            low, high = low.clamp(max=0), high.clamp(min=0)
        if self.group_size == "tensor":
            low, high = low.amin().reshape(1, 1), high.amax().reshape(1, 1)
        if self.symmetric:
            return self.rounded(torch.maximum(-low, high) / (self.top - self.middle))
        span = (high - low) / self.top
        if self.zero_dtype is not None:
            span = torch.maximum(span, low.abs() / _LARGEST_ZERO)
        scale = self._stored(self.store_of_scales.store(self._usable(span)))
        return self.rounded(span, -low / scale)

    def rounded(self, scale: Tensor, zero_point: Tensor | None = None) -> Grid:
        """Return the grid of these scales and zero points, (out, groups) float32, as stored."""
        stored = self.store_of_scales.store(self._usable(scale))
        scale = self._stored(stored)
        grid = Grid(scale, torch.full_like(scale, self.middle), self.top, stored)
        return grid if self.symmetric or zero_point is None else self.moved(grid, zero_point)

    def moved(self, grid: Grid, zero_point: Tensor) -> Grid:
        """Return the grid with other zero points, rounded as stored, and the very same scales.

        (Scales that are quantized twice do not come back unchanged when they are stored again.)
        """
        if self.zero_dtype is None:
            zero = torch.round(zero_point).clamp(0, self.top)
        else:
            zero = zero_point.to(DTYPES[self.zero_dtype]).to(torch.float32)
        if not torch.isfinite(zero).all():
            raise NumericalError(f"a zero point does not fit {self.zero_dtype}; use float32")
        return Grid(grid.scale, zero, self.top, grid.stored)

    def minmax(self, weight: Tensor) -> Grid:
        """Return the grid that spans every group of (out, groups, size) values."""
        return self.grid(weight.amin(-1), weight.amax(-1))

    def store(self, codes: Tensor, grid: Grid, shape: tuple[int, int]) -> PackedTensor:
        """Pack (out, groups, size) codes and their grid."""
        rows, width = self._laid(shape)
        size = self.size(width)
        pad = self.groups(width) * size - width
        if pad:
            codes = codes.clone()
            zero = torch.round(grid.zero_point).clamp(0, self.top).to(codes.dtype)
            codes[:, -1, size - pad :] = zero.expand(rows, zero.shape[1])[:, -1:]
        tensors = {
            "weight": bitpack.pack(codes, self.bits),
            **(grid.stored or self.store_of_scales.store(grid.scale)),
        }
        if self.zero_dtype is not None:
            tensors["zero_point"] = grid.zero_point.to(DTYPES[self.zero_dtype])
        elif not self.symmetric:
            tensors["zero_point"] = bitpack.pack(grid.zero_point, self.bits)
        return PackedTensor(self, shape, tensors)

    def dequantize(self, packed: PackedTensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight, computed in float32 and then cast."""
        stored, grid, shape = (
            packed.tensors["weight"],
            self.grid_of(packed),
            self._laid(packed.shape),
        )

        def values(rows: slice) -> Tensor:
            return self._values(stored[rows], grid, rows, shape[1])

        found = joined(shape, dtype, values)
        return found if self.axis else found.t()

    def rows(self, packed: PackedTensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows of the weight without unpacking the others: (...) -> (..., in)."""
        if not self.axis:
            return self.dequantize(packed, dtype)[index]
        flat = index.reshape(-1)
        stored, width = packed.tensors["weight"][flat], packed.shape[1]
        found = self._values(stored, self.grid_of(packed), flat, width)
        return found.reshape(*index.shape, packed.shape[1]).to(dtype)

    def apply(self, x: Tensor, packed: PackedTensor, bias: Tensor | None) -> Tensor:
        """Multiply by the dequantized weight in the dtype of x: (..., in) -> (..., out)."""
        return functional.linear(x, self.dequantize(packed, x.dtype), bias)

    def take_apart(self, packed: PackedTensor) -> Parts:
        """Return codes, scales and zero points."""
        width, grid = self._laid(packed.shape)[1], self.grid_of(packed)
        codes = bitpack.unpack(packed.tensors["weight"], self.bits, self.size(width))
        free = self.zero_dtype is not None
        return Parts(codes, grid.scale, grid.zero_point, width, self.axis == 0, free)

    def as_stored(self, parts: Parts) -> Parts:
        """Return the parts with scales and zero points rounded as stored."""
        grid = self.rounded(parts.scale, parts.zero_point)
        return replace(parts, scale=grid.scale, zero_point=grid.zero_point)

    def put_together(self, packed: PackedTensor, parts: Parts) -> PackedTensor:
        """Return the weight with the same codes and these scales and zero points."""
        grid = self.rounded(parts.scale, parts.zero_point)
        return self.store(parts.units.clone(), grid, packed.shape)

    def multiply(self, x: Tensor, parts: Parts, bias: Tensor | None) -> Tensor:
        """Multiply by the parts' weight in the dtype of x: (..., in) -> (..., out)."""
        return functional.linear(x, parts.weight().to(x.dtype), bias)

    def grid_of(self, packed: PackedTensor) -> Grid:
        """Return the stored grid, as float32."""
        scale = self._stored(packed.tensors)
        if self.symmetric:
            return Grid(scale, torch.full_like(scale, self.middle), self.top)
        zero = packed.tensors["zero_point"]
        if self.zero_dtype is None:
            zero = bitpack.unpack(zero, self.bits, scale.shape[1])
        return Grid(scale, zero.to(torch.float32), self.top)

    def _values(self, stored: Tensor, grid: Grid, pick: slice | Tensor, width: int) -> Tensor:
        codes = bitpack.unpack(stored, self.bits, self.size(width)).to(torch.float32)
        if self.group_size != "tensor":
            grid = Grid(grid.scale[pick], grid.zero_point[pick], grid.top)
        return grid.values(codes).flatten(1)[:, :width]

    def _laid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape in which an (out, in) weight is stored."""
        return shape if self.axis else (shape[1], shape[0])

    def _stored(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the scales as read; those that vanished become the smallest usable number."""
        scale = self.store_of_scales.read(tensors)
        return torch.where(scale > 0, scale, torch.finfo(DTYPES[self.scale_dtype]).tiny)

    def _usable(self, scale: Tensor) -> Tensor:
        """Return the scales with 1 for groups without any extent.

        One bit of a symmetric grid cannot be zero: there it is the smallest number.
        """
        smallest = torch.finfo(DTYPES[self.scale_dtype]).tiny
        return torch.where(scale > 0, scale, 1.0 if self.middle.is_integer() else smallest)
