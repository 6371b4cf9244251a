"""Ternary format: weight = scale * (-1, 0 or 1), five weights a byte, 8-bit activations.

Ma et al., "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits", arXiv
2402.17764, section 2, and for the activations Wang et al., "BitNet", arXiv 2310.11453,
equations 4 to 6: every input vector is scaled by 127 / max |x| and rounded to whole numbers.
Difference: scales may also be one a row or one a group.

Stored tensors of an (out, in) weight with `groups` groups of `size` columns:
  weight  (out, groups, ceil(size / 5)) uint8: five trits a byte, see quant/tritpack.py
  scale   (out, groups), or (1, 1) per tensor, in `scale_dtype`
A width that is no multiple of the group is padded with zeros.

With activations of 8 bits and one scale a row or tensor the sum is one of whole numbers below
2**24 for rows of up to 2**17 columns. Float32 holds it exactly, so that every kernel gives the
same bits in any order of summation.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import UsageError
from quantale.quant import groups, tritpack
from quantale.quant.packed import PackedTensor
from quantale.quant.parts import Parts
from quantale.quant.rows import joined
from quantale.quant.scales import ScaleStore

_TOP = 127
_SMALLEST = 1e-5
"""Of max |x|, as in BitNet's code: a vector of zeros stays one."""


@dataclass(frozen=True)
class Ternary:
    """Settings of a ternary format; raises UsageError for values outside their range."""

    group_size: int | str = "tensor"
    """Columns that share a scale, "row" for one scale a row, "tensor" for a single one."""
    scale_dtype: str = "float32"
    """"float16", "bfloat16" or "float32"."""
    activation_bits: int | None = 8
    """8: inputs are rounded vector by vector, as BitNet defines it; None: they stay as they are."""

    def __post_init__(self) -> None:
        groups.check("ternary", self.group_size)
        self.store_of_scales  # noqa: B018  (checks scale_dtype)
        if self.activation_bits not in (None, 8):
            raise UsageError(
                f"ternary: activation_bits is 8 or none, {self.activation_bits!r} came"
            )

    @property
    def rows_are_apart(self) -> bool:
        """Whether no two rows share a scale."""
        return self.group_size != "tensor"

    @property
    def store_of_scales(self) -> ScaleStore:
        """How scales are stored."""
        return ScaleStore(self.scale_dtype)

    def settings(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return the shape and dtype of every stored tensor."""
        count = groups.count(self.group_size, shape[1])
        width = tritpack.packed_width(groups.size(self.group_size, shape[1]))
        return {
            "weight": ((shape[0], count, width), torch.uint8),
            **self.store_of_scales.tensors(groups.scale_shape(self.group_size, shape)),
        }

    def split(self, weight: Tensor) -> Tensor:
        """View (out, in) as (out, groups, size), the last group padded with zeros."""
        return groups.split(weight, self.group_size)

    def store(self, trits: Tensor, scale: Tensor, shape: tuple[int, int]) -> PackedTensor:
        """Pack (out, groups, size) trits of -1, 0, 1 and their (out, groups) or (1, 1) scales."""
        tensors = {"weight": tritpack.pack(trits), **self.store_of_scales.store(scale)}
        return PackedTensor(self, shape, tensors)

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
        """Multiply (..., in) -> (..., out) in float32, with inputs rounded to 8 bits.

        Gradients pass the rounding as if it were not there (straight-through estimator).
        """
        if self.activation_bits is None:
            return functional.linear(x, self.dequantize(packed, x.dtype), bias)
        return self.multiply(x, self.take_apart(packed), bias)

    def take_apart(self, packed: PackedTensor) -> Parts:
        """Return trits (int8) and scales."""
        width = packed.shape[1]
        scale = self.store_of_scales.read(packed.tensors)
        return Parts(self._trits(packed.tensors["weight"], width), scale, None, width)

    def as_stored(self, parts: Parts) -> Parts:
        """Return the parts with scales rounded as stored."""
        return replace(parts, scale=self.store_of_scales.rounded(parts.scale))

    def put_together(self, packed: PackedTensor, parts: Parts) -> PackedTensor:
        """Return the weight with the same trits and these scales."""
        scales = self.store_of_scales.store(parts.scale)
        return PackedTensor(self, packed.shape, {**packed.tensors, **scales})

    def multiply(self, x: Tensor, parts: Parts, bias: Tensor | None) -> Tensor:
        """Multiply (..., in) -> (..., out) by the weight of the parts; see `apply`."""
        if self.activation_bits is None:
            return functional.linear(x, parts.weight().to(x.dtype), bias)
        exact = x.to(torch.float32)
        step = _steps(exact)
        codes: Tensor = _Codes.apply(exact, step)  # type: ignore[no-untyped-call]
        out = self._sums(codes, parts) * step
        return (out if bias is None else out + bias).to(x.dtype)

    def seen(self, x: Tensor) -> Tensor:
        """Return the inputs as the weight is multiplied with them: (..., in) -> (..., in)."""
        if self.activation_bits is None:
            return x
        exact = x.detach().to(torch.float32)
        step = _steps(exact)
        return _codes(exact, step).mul_(step).to(x.dtype)

    def _sums(self, codes: Tensor, parts: Parts) -> Tensor:
        """Return the products with whole-numbered inputs, scaled by the weight's scales."""
        if isinstance(self.group_size, int):
            return functional.linear(codes, parts.weight())
        trits = parts.units.to(torch.float32).flatten(1)
        return functional.linear(codes, trits) * parts.scale.squeeze(-1)

    def _trits(self, stored: Tensor, width: int) -> Tensor:
        return tritpack.unpack(stored, groups.size(self.group_size, width))

    def _values(self, stored: Tensor, scale: Tensor, pick: slice | Tensor, width: int) -> Tensor:
        scale = scale if self.group_size == "tensor" else scale[pick]
        return (self._trits(stored, width) * scale.unsqueeze(-1)).flatten(1)[:, :width]


class _Codes(torch.autograd.Function):
    """Whole-numbered inputs; the gradient passes the rounding as if it were not there."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, step: Tensor) -> Tensor:
        ctx.save_for_backward(step)
        return _codes(exact, step)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (step,) = ctx.saved_tensors
        return grad / step, None


def _steps(exact: Tensor) -> Tensor:
    """Return what one code of every input vector stands for: (..., in) -> (..., 1)."""
    low, high = exact.detach().aminmax(dim=-1, keepdim=True)
    return torch.maximum(-low, high).clamp(min=_SMALLEST) / _TOP


def _codes(exact: Tensor, step: Tensor) -> Tensor:
    return (exact / step).round_().clamp_(-_TOP - 1, _TOP)
