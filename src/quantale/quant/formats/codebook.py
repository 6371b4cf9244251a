"""Codebook format: weight = scale * table[code], with a table that is not evenly spaced.

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314, section 3
(NF4, double quantization). Differences: groups are cut along a row, so that a group never holds
weights of two rows; a width that is no multiple of the group is padded with code 0.

Stored tensors of an (out, in) weight with `groups` groups of `size` columns:
  weight  (out, groups, ceil(size * bits / 8)) uint8: codes, see quant/bitpack.py
  scale   (out, groups), or (1, 1) per tensor; see quant/scales.py
`bits` is the smallest number that can count the table. The table belongs to the settings of the
format and is not stored with each weight.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import UsageError
from quantale.quant import bitpack, groups
from quantale.quant.packed import PackedTensor
from quantale.quant.parts import Parts
from quantale.quant.rows import joined
from quantale.quant.scales import ScaleStore, nearest
from quantale.quant.tables import values_of

_LARGEST = 256
_SMALLEST = 1e-38
"""Of scales that are divided by, as in bitsandbytes; below it every weight counts as zero."""


@dataclass(frozen=True)
class Codebook:
    """Settings of a codebook format; raises UsageError for values outside their range."""

    table: str | tuple[float, ...] = "nf4"
    """"nf4", "fp4", or 2 to 256 values, code by code."""
    group_size: int | str = 64
    """Columns that share a scale, "row" for one scale a row, "tensor" for a single one."""
    scale_dtype: str = "float32"
    """"float16", "bfloat16" or "float32"."""
    double_quant: bool = False
    """Whether scales are quantized to 8 bits a second time."""

    def __post_init__(self) -> None:
        if not isinstance(self.table, str):  # a list, when the settings come from JSON
            object.__setattr__(self, "table", tuple(map(float, self.table)))
        values = values_of(self.table)
        if len(set(values)) < 2 or len(values) > _LARGEST:
            raise UsageError(f"codebook: a table holds 2 to {_LARGEST} values, not all equal")
        groups.check("codebook", self.group_size)
        self.store_of_scales  # noqa: B018  (checks scale_dtype)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return (len(values_of(self.table)) - 1).bit_length()

    @property
    def rows_are_apart(self) -> bool:
        """Whether no two rows share a scale."""
        return self.group_size != "tensor" and not self.double_quant

    @property
    def store_of_scales(self) -> ScaleStore:
        """How scales are stored."""
        return ScaleStore(self.scale_dtype, self.double_quant)

    def settings(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        table = self.table if isinstance(self.table, str) else list(self.table)
        return asdict(self) | {"table": table}

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return the shape and dtype of every stored tensor."""
        count = groups.count(self.group_size, shape[1])
        size = groups.size(self.group_size, shape[1])
        width = bitpack.packed_width(size, self.bits)
        return {
            "weight": ((shape[0], count, width), torch.uint8),
            **self.store_of_scales.tensors(groups.scale_shape(self.group_size, shape)),
        }

    def split(self, weight: Tensor) -> Tensor:
        """View (out, in) as (out, groups, size), the last group padded with zeros."""
        return groups.split(weight, self.group_size)

    def codes(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the nearest codes (int64) of (out, groups, size) values.

        scale: (out, groups) or (1, 1) float32, not negative, zero where a group holds zeros only.
        """
        table = torch.tensor(values_of(self.table), dtype=torch.float32, device=weight.device)
        ordered, order = table.sort()
        inverse = 1 / scale.clamp(min=_SMALLEST)  # bitsandbytes multiplies too: ties fall alike
        return order[nearest(ordered, weight * inverse.unsqueeze(-1))]

    def store(
        self, codes: Tensor, scales: Mapping[str, Tensor], shape: tuple[int, int]
    ) -> PackedTensor:
        """Pack (out, groups, size) codes beside the stored tensors of their scales."""
        pad = codes.shape[1] * codes.shape[2] - shape[1]
        if pad:
            codes[:, -1, codes.shape[2] - pad :] = 0
        return PackedTensor(self, shape, {"weight": bitpack.pack(codes, self.bits), **scales})

    def dequantize(self, packed: PackedTensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight, computed in float32 and then cast."""
        stored, scale = packed.tensors["weight"], self.store_of_scales.read(packed.tensors)
        return joined(
            packed.shape,
            dtype,
            lambda rows: self._values(stored[rows], scale, rows, packed.shape[1]),
        )

    def rows(self, packed: PackedTensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows of the weight without unpacking the others: (...) -> (..., in)."""
        flat = index.reshape(-1)
        stored, scale = packed.tensors["weight"][flat], self.store_of_scales.read(packed.tensors)
        found = self._values(stored, scale, flat, packed.shape[1])
        return found.reshape(*index.shape, packed.shape[1]).to(dtype)

    def apply(self, x: Tensor, packed: PackedTensor, bias: Tensor | None) -> Tensor:
        """Multiply by the dequantized weight in the dtype of x: (..., in) -> (..., out)."""
        return functional.linear(x, self.dequantize(packed, x.dtype), bias)

    def take_apart(self, packed: PackedTensor) -> Parts:
        """Return the table's values (float32) and scales."""
        width = packed.shape[1]
        scale = self.store_of_scales.read(packed.tensors)
        return Parts(self._units(packed.tensors["weight"], width), scale, None, width)

    def as_stored(self, parts: Parts) -> Parts:
        """Return the parts with scales rounded as stored."""
        return replace(parts, scale=self.store_of_scales.rounded(parts.scale))

    def put_together(self, packed: PackedTensor, parts: Parts) -> PackedTensor:
        """Return the weight with the same codes and these scales."""
        scales = self.store_of_scales.store(parts.scale)
        return PackedTensor(self, packed.shape, {**packed.tensors, **scales})

    def multiply(self, x: Tensor, parts: Parts, bias: Tensor | None) -> Tensor:
        """Multiply by the parts' weight in the dtype of x: (..., in) -> (..., out)."""
        return functional.linear(x, parts.weight().to(x.dtype), bias)

    def _values(self, stored: Tensor, scale: Tensor, pick: slice | Tensor, width: int) -> Tensor:
        values = self._units(stored, width)
        scale = scale if self.group_size == "tensor" else scale[pick]
        return values.mul_(scale.unsqueeze(-1)).flatten(1)[:, :width]

    def _units(self, stored: Tensor, width: int) -> Tensor:
        codes = bitpack.unpack(stored, self.bits, groups.size(self.group_size, width))
        table = torch.tensor(values_of(self.table), dtype=torch.float32, device=stored.device)
        return table[codes.to(torch.int32)]
