"""Packed layers as formats with one scheme for all layers want them: codes, zero points, scales."""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.export.folder import block_linears
from quantale.export.source import Source
from quantale.quant.formats.affine import Affine
from quantale.quant.packed import PackedTensor


@dataclass(frozen=True)
class Scheme:
    """What all layers have in common."""

    bits: int
    group_size: int | None
    """None: one group a row."""
    symmetric: bool


@dataclass(frozen=True)
class Layer:
    """One weight."""

    codes: Tensor
    """(out, in) uint8."""
    zero: Tensor
    """(out, groups) uint8."""
    scale: Tensor
    """(out, groups) float32."""
    size: int
    """Columns of a group."""

    def weight(self, scale: Tensor | None = None) -> Tensor:
        """Return the (out, in) float32 weight, perhaps with scales as they were stored."""
        order = torch.arange(self.codes.shape[1]) // self.size
        used = (self.scale if scale is None else scale)[:, order]
        return (self.codes.to(torch.float32) - self.zero[:, order].to(torch.float32)) * used


def affine_layers(source: Source, owner: str) -> tuple[Scheme, dict[str, Layer]]:
    """Return the linear layers of the blocks; raises UsageError where one does not fit.

    owner: the format's name, for the message.
    """
    source.refuse_norms(owner)
    source.refuse_low_rank(owner)
    names = block_linears(source.plain)
    found: dict[str, PackedTensor] = {}
    for name in names:
        packed = source.packed.get(name)
        reason = "is in full precision" if packed is None else _unfit(packed)
        if packed is None or reason is not None:
            raise UsageError(
                f"{owner}: {name} {reason}; it wants every linear layer of the blocks in one "
                "affine format: quantale quantize MODEL --method gptq --bits 4 --group-size 64"
            )
        found[name] = packed
    schemes = {_scheme(packed) for packed in found.values()}
    if len(schemes) != 1:
        listed = ", ".join(sorted(f"{s.bits} bits by {s.group_size or 'row'}" for s in schemes))
        raise UsageError(f"{owner}: layers differ ({listed}), and it has one scheme for all")
    return schemes.pop(), {name: _layer(packed) for name, packed in found.items()}


def _unfit(packed: PackedTensor) -> str | None:
    """Return why a weight is not whole numbers less whole numbers, times scales by groups."""
    layout = packed.format
    if not isinstance(layout, Affine):
        return f"is {type(layout).__name__}"
    if layout.axis != 1 or layout.group_size == "tensor":
        return "has no groups along its rows"
    if layout.zero_dtype is not None:
        return "has floating zero points"
    return "has one bit around zero" if layout.bits == 1 and layout.symmetric else None


def _scheme(packed: PackedTensor) -> Scheme:
    layout = packed.format
    assert isinstance(layout, Affine)
    size = layout.group_size if isinstance(layout.group_size, int) else None
    return Scheme(layout.bits, size, layout.symmetric)


def _layer(packed: PackedTensor) -> Layer:
    layout = packed.format
    assert isinstance(layout, Affine)
    parts = layout.take_apart(packed)
    assert parts.zero_point is not None
    codes = parts.units.flatten(1)[:, : parts.width].to(torch.uint8)
    return Layer(codes, parts.zero_point.to(torch.uint8), parts.scale, layout.size(packed.shape[1]))
