"""Train scales and zero points of packed weights, with their codes frozen.

Scales are trained as a factor of what they were, zero points as a distance in codes, so that one
learning rate fits both; the forward pass uses them rounded as they will be stored, and gradients
pass that rounding as if it were not there (straight-through estimator; Bengio et al., arXiv
1308.3432, section 4). The finished packed weight is therefore the trained one bit for bit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from quantale.quant.packed import PackedTensor
from quantale.quant.parts import Parts, Separable

_SMALLEST = 2.0**-6
"""Of the factor of a scale: it keeps its sign and does not vanish."""


class LearnedWeight(nn.Module):
    """Scales and zero points of one packed weight, in training."""

    def __init__(
        self, layout: Separable, packed: PackedTensor, *, scales: bool, zeros: bool
    ) -> None:
        super().__init__()
        self._layout, self._packed = layout, packed
        first = layout.take_apart(packed)
        self._first = first
        self.register_buffer("units", first.units, persistent=False)
        self.register_buffer("scale", first.scale, persistent=False)
        self.register_buffer("zero_point", first.zero_point, persistent=False)
        count, trains_zeros = first.scale.numel(), zeros and first.zeros_are_free
        self.factor = nn.Parameter(torch.ones(count)) if scales else None
        self.shift = nn.Parameter(torch.zeros(count)) if trains_zeros else None

    def parts(self) -> Parts:
        """Return the parts as they would be stored now; gradients reach `factor` and `shift`."""
        scale, zero_point = self._masters()
        with torch.no_grad():
            stored = self._layout.as_stored(self._with(scale, zero_point))
        return self._with(
            through(scale, stored.scale),
            None if zero_point is None else through(zero_point, stored.zero_point),
        )

    def finished(self) -> PackedTensor:
        """Return the packed weight with what was learned."""
        with torch.no_grad():
            return self._layout.put_together(self._packed, self._with(*self._masters()))

    def _masters(self) -> tuple[Tensor, Tensor | None]:
        scale, zero_point = self.get_buffer("scale"), self._buffers["zero_point"]
        if self.factor is not None:
            scale = scale * self.factor.clamp(min=_SMALLEST).view_as(scale)
        if self.shift is not None and zero_point is not None:
            zero_point = zero_point + self.shift.view_as(zero_point)
        return scale, zero_point

    def _with(self, scale: Tensor, zero_point: Tensor | None) -> Parts:
        first = self._first
        return Parts(
            self.get_buffer("units"),
            scale,
            zero_point,
            first.width,
            first.transposed,
            first.zeros_are_free,
        )


class _Through(torch.autograd.Function):
    """The second tensor forwards, the gradient of the first backwards."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, stored: Tensor) -> Tensor:
        del ctx, exact
        return stored.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        del ctx
        return gradients[0], None


def through(exact: Tensor, stored: Tensor | None) -> Tensor:
    """Return the stored value of a number in training, whose gradient goes to the exact one."""
    found: Tensor = _Through.apply(exact, exact if stored is None else stored)  # type: ignore[no-untyped-call]
    return found
