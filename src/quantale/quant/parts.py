"""A packed weight taken apart: weight = scale * (units - zero_point), group by group.

Units are what codes stand for where the scale is 1 and the zero point 0. They never change; scale
and zero point may be trained, and then the weight is that of the packed format bit for bit, since
`values` computes it by the same operations in the same order.
"""

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from quantale.quant.packed import Format, PackedTensor


@dataclass(frozen=True)
class Parts:
    """Units, scales and zero points of one weight."""

    units: Tensor
    """(rows, groups, size), in the smallest dtype that holds them."""
    scale: Tensor
    """(rows, groups), or (1, 1) per tensor, float32."""
    zero_point: Tensor | None
    """Same shape; None: zero."""
    width: int
    """Columns that are really there; the rest is padding."""
    transposed: bool = False
    """Whether rows are columns of the (out, in) weight."""
    zeros_are_free: bool = False
    """Whether zero points are stored as floats."""

    def weight(self) -> Tensor:
        """Return the (out, in) float32 weight; gradients reach scale and zero point."""
        values: Tensor = _Values.apply(self.units, self.scale, self.zero_point)  # type: ignore[no-untyped-call]
        weight = values.flatten(1)[:, : self.width]
        return weight.t() if self.transposed else weight


class Separable(Protocol):
    """A format whose weights can be taken apart."""

    def take_apart(self, packed: PackedTensor) -> Parts:
        """Return the parts as they are stored."""
        ...

    def as_stored(self, parts: Parts) -> Parts:
        """Return parts whose scales and zero points are rounded as storing does."""
        ...

    def put_together(self, packed: PackedTensor, parts: Parts) -> PackedTensor:
        """Return the packed weight with its codes and other scales and zero points."""
        ...

    def multiply(self, x: Tensor, parts: Parts, bias: Tensor | None) -> Tensor:
        """Multiply as `Format.apply` does: (..., in) -> (..., out)."""
        ...


def separable(layout: Format) -> Separable | None:
    """Return the format as one whose weights can be taken apart, None where they cannot.

    A format says so by having the methods of `Separable`.
    """
    return cast(Separable, layout) if getattr(layout, "take_apart", None) else None


class _Values(torch.autograd.Function):
    """scale * (units - zero_point), which keeps units alone for the backward pass."""

    @staticmethod
    def forward(ctx: Any, units: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        ctx.save_for_backward(units, scale, zero_point)
        return _centred(units, zero_point).mul_(scale.unsqueeze(-1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        units, scale, zero_point = ctx.saved_tensors
        (gradient,) = gradients
        of_scale = of_zero = None
        if ctx.needs_input_grad[1]:
            of_scale = _like(_centred(units, zero_point).mul_(gradient).sum(-1), scale)
        if ctx.needs_input_grad[2]:
            of_zero = _like(gradient.sum(-1).mul_(scale).neg_(), scale)
        return None, of_scale, of_zero


def _centred(units: Tensor, zero_point: Tensor | None) -> Tensor:
    values = units.to(torch.float32, copy=True)
    return values if zero_point is None else values.sub_(zero_point.unsqueeze(-1))


def _like(gradient: Tensor, scale: Tensor) -> Tensor:
    """Add up (rows, groups) where one scale serves the whole tensor."""
    return gradient if gradient.shape == scale.shape else gradient.sum().reshape(scale.shape)
