"""PyTorch's own products with 8-bit and 4-bit integer weights, on the CPU.

`_weight_int8pack_mm` multiplies by one int8 row and scale an output, `_weight_int4pack_mm_for_cpu`
by codes of 4 bits with a scale and an offset a group, re-laid once. Both are private to PyTorch:
each is tried once on a small product before it is used. They are fast with bfloat16 inputs alone,
so that inputs of other dtypes are rounded to it: not exact. Measured on AVX2 (torch 2.13, one
thread, 3072 x 768): one row takes 1/16 of the reference's time at 8 bits and 1/22 at 4; from 64
rows of float32 on the reference is faster at 8 bits, from 128 on at 4. Float32 inputs as they are
take 20 to 34 times the reference's time at 64 rows.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quantale.quant import bitpack
from quantale.quant.formats.affine import Affine
from quantale.quant.packed import PackedTensor
from quantale.quant.stored import plugin_name

_GROUPS = (32, 64, 128, 256)
_LANES = 32
"""Columns that the 8-bit product reads at once; where they do not divide the width it crashes."""
_OUTPUTS = 16
"""Rows that the 4-bit layout holds together."""
_MANY = {"AVX2": 32, "AVX512": 64}
"""Input rows up to which it was measured faster than unpacking the weight, by processor."""
_OPERATORS = (
    "_weight_int8pack_mm",
    "_convert_weight_to_int4pack_for_cpu",
    "_weight_int4pack_mm_for_cpu",
)
_WRONG = 0.02


@dataclass(frozen=True)
class Aten:
    """PyTorch's private products: 8 bits symmetric by rows, 4 bits by groups."""

    exact = False
    rank = 10
    needs = (
        "a processor with AVX2, and the affine format: 8 bits symmetric with one scale a row, "
        "or 4 bits in groups of 32, 64, 128 or 256"
    )

    def lacks(self) -> list[str]:
        """Return what this machine or this PyTorch has not."""
        capability = _capability()
        if capability not in _MANY:
            return [f"was measured on AVX2 and AVX512; this processor offers {capability}"]
        return list(_failures())

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        """Return why it cannot run on this input and weight, or would be slower."""
        reasons = [*self.lacks(), *unfit(packed)]
        if x.device.type != "cpu":
            reasons.append(f"needs inputs on the CPU; they are on {x.device.type}")
        elif packed.tensors["weight"].device.type != "cpu":
            reasons.append("needs the weight on the CPU")
        if x.requires_grad and torch.is_grad_enabled():
            reasons.append("has no gradient; the input asks for one")
        return reasons or _slow(x)

    def prepare(self, packed: PackedTensor) -> tuple[Tensor, ...]:
        """Return signed codes and scales, or re-laid codes with their scales and offsets."""
        return _rows_of_8(packed) if _layout(packed).bits == 8 else _groups_of_4(packed)

    def linear(
        self, x: Tensor, packed: PackedTensor, bias: Tensor | None, prepared: tuple[Tensor, ...]
    ) -> Tensor:
        """Multiply: x (..., in) -> (..., out), inputs and scales rounded to bfloat16."""
        layout, flat = _layout(packed), x.reshape(-1, packed.shape[1]).to(torch.bfloat16)
        weight, scale = prepared
        if not len(flat):
            out = flat.new_empty(0, packed.shape[0])
        elif layout.bits == 8:
            out = torch.ops.aten._weight_int8pack_mm(flat, weight, scale)
        else:
            size = layout.size(packed.shape[1])
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, weight, size, scale)
        out = out[:, : packed.shape[0]].to(x.dtype).view(*x.shape[:-1], packed.shape[0])
        return out if bias is None else out + bias


def unfit(packed: PackedTensor) -> list[str]:
    """Return why the stored weight has not the form that these products read."""
    layout, width = packed.format, packed.shape[1]
    if not isinstance(layout, Affine):
        return [f"reads the affine format; the weight's is {plugin_name(layout)}"]
    if layout.axis == 0:
        return ["needs groups along the rows (axis 1); these run down the columns"]
    if layout.bits == 8:
        return _unfit_8(layout, width)
    if layout.bits != 4:
        return [f"reads 4 and 8 bits; the weight has {layout.bits}"]
    size = layout.size(width)
    if size not in _GROUPS:
        return [f"at 4 bits needs groups of {', '.join(map(str, _GROUPS))} columns, not {size}"]
    if width % size:
        return [f"needs a width that groups of {size} divide; it is {width}"]
    return []


def _unfit_8(layout: Affine, width: int) -> list[str]:
    if not layout.symmetric:
        return ["at 8 bits needs a symmetric grid; the weight's has zero points"]
    if layout.groups(width) > 1:
        return [f"at 8 bits needs one scale a row; there are {layout.groups(width)}"]
    if width % _LANES:
        return [f"at 8 bits needs a width that {_LANES} divides; it is {width}"]
    return []


def _slow(x: Tensor) -> list[str]:
    """Return why unpacking the weight once is faster, for a product of many rows."""
    capability, rows = _capability(), x.numel() // max(1, x.shape[-1])
    if capability == "AVX2" and x.dtype == torch.bfloat16:
        return []  # bfloat16 is emulated there, and the reference needs it too
    most = _MANY[capability]
    if rows <= most:
        return []
    return [f"is the faster one for up to {most} input rows on {capability}; {rows} came"]


def _layout(packed: PackedTensor) -> Affine:
    assert isinstance(packed.format, Affine)
    return packed.format


def _rows_of_8(packed: PackedTensor) -> tuple[Tensor, ...]:
    """Return codes less 128 (out, in) int8 and scales (out,) bfloat16."""
    codes = packed.tensors["weight"].flatten(1)
    scale = _layout(packed).grid_of(packed).scale.expand(packed.shape[0], 1)
    return (codes ^ 0x80).view(torch.int8), scale.flatten().to(torch.bfloat16).contiguous()


def _groups_of_4(packed: PackedTensor) -> tuple[Tensor, ...]:
    """Return re-laid codes, and (groups, out, 2) bfloat16: scale and what code 8 stands for."""
    layout, (rows, width) = _layout(packed), packed.shape
    codes = bitpack.unpack(packed.tensors["weight"], 4, layout.size(width)).flatten(1)
    extra = -rows % _OUTPUTS
    padded = functional.pad(codes, (0, 0, 0, extra)).to(torch.int32)
    grid = layout.grid_of(packed)
    pair = torch.stack([grid.scale, (8 - grid.zero_point) * grid.scale], -1)  # (out, groups, 2)
    pair = functional.pad(pair, (0, 0, 0, 0, 0, extra)).transpose(0, 1)
    relaid = torch.ops.aten._convert_weight_to_int4pack_for_cpu(padded, 1)
    return relaid, pair.contiguous().to(torch.bfloat16)


@functools.cache
def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


@functools.cache
def _failures() -> tuple[str, ...]:
    """Try both products once on a small weight and return what is missing or wrong."""
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.aten, name)]
    if missing:
        return (f"this PyTorch ({torch.__version__}) has no {missing[0]}",)
    reasons = []
    for layout in (Affine(8, "row", symmetric=True), Affine(4, 32)):
        weight = torch.linspace(-1, 1, 32 * 64).sin_().view(32, 64)
        grid = layout.minmax(layout.split(weight))
        packed = layout.store(grid.codes(layout.split(weight)), grid, (32, 64))
        try:
            kernel, x = Aten(), weight[:2]
            found = kernel.linear(x, packed, None, kernel.prepare(packed))
        except RuntimeError as error:
            reasons.append(f"this PyTorch cannot multiply by {layout.bits} bits: {error}")
            continue
        expected = layout.apply(x, packed, None)
        if not (found - expected).norm() <= _WRONG * expected.norm():
            reasons.append(f"this PyTorch multiplies by {layout.bits} bits wrongly")
    return tuple(reasons)
