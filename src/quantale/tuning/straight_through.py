"""Train weights through their quantization: forward as the packed layer, gradients straight on.

Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", arXiv 1308.3432
(straight-through estimator); Jacob et al., arXiv 1712.05877, section 3 (training with simulated
quantization). A wrapped module quantizes its full-precision weight at every call by the method of
its site, and computes what the packed layer computes: `Format.apply`, outside autocast. The
gradient of the quantized weight goes to the full-precision one as it is, and that of rounded
inputs to the inputs. The estimator does not clip: min-max grids span the weights, and BitNet's
paper does not clip either.

In training mode a strength below 1 moves weights (and inputs, where a format rounds them) only
that share of the way, and under autocast the product is taken in its dtype. In evaluation mode the
strength is always 1 and autocast has no say: that is what will be stored and measured.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import QuantaleError
from quantale.quant import unpacked
from quantale.quant.apply import Method
from quantale.quant.learned import through
from quantale.quant.packed import PackedTensor
from quantale.quant.sub_norm import SubNorm
from quantale.tuning.low_rank import LearnedLowRank


class Strength:
    """How far weights are moved towards their quantized values in training; all sites share it."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        """From 0, not at all, to 1, to the end."""


def strength_at(share: float, warm_in: float) -> float:
    """Return the strength after a share of the steps; it is 1 from the share `warm_in` on."""
    return 1.0 if warm_in <= 0 else min(1.0, share / warm_in)


class Straight(nn.Module):
    """Stands for a module whose weight is quantized at every call.

    It has the very parameters and buffers of that module, under their names: files, optimizers and
    tied weights see no difference.
    """

    def __init__(self, name: str, original: nn.Module, method: Method, strength: Strength) -> None:
        super().__init__()
        self.site, self.method, self.strength = name, method, strength
        self._original = (original,)  # in a tuple: not a child, whose names would be others
        self._parameters = original._parameters
        self._buffers = original._buffers
        self.training = original.training

    @property
    def original(self) -> nn.Module:
        """The module that it stands for."""
        return self._original[0]

    @property
    def share(self) -> float:
        """The strength of this call."""
        return self.strength.value if self.training else 1.0

    def extra_repr(self) -> str:
        """Say what is trained by which method."""
        return f"{self._original[0]}, {self.method}"

    def quantized(self, weight: Tensor) -> PackedTensor:
        """Quantize weight: (out, in); the codes stay unpacked.

        Raises what the method raises, with the site's name in front.
        """
        with torch.no_grad(), unpacked.codes():
            try:
                return self.method.quantize(weight.to(torch.float32))
            except QuantaleError as error:
                raise type(error)(f"{self.site}: {error}") from error


class StraightLinear(Straight):
    """A Linear, a Conv1D or a head that is tied to an embedding."""

    def __init__(self, name: str, original: nn.Module, method: Method, strength: Strength) -> None:
        super().__init__(name, original, method, strength)
        self.is_transposed = isinstance(original, Conv1D)
        rows, width = self._latent().shape
        self.out_features, self.in_features = rows, width
        self.nf, self.nx = rows, width  # the names that users of Conv1D know
        self.norm: SubNorm | None = None
        self.low_rank: LearnedLowRank | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., in) -> (..., out), in the dtype of x or, in training, of autocast."""
        half = _autocast_dtype(x) if self.training else None
        with torch.autocast(x.device.type, enabled=False):
            x = x if self.norm is None else self.norm(x)
            x = x if half is None else x.to(half)
            stored = self._parameters.get("bias")
            bias = None if stored is None else stored.to(x.dtype)
            is_exact = self.share == 1 and half is None
            out = self._packed(x, bias) if is_exact else self._blended(x, bias)
            return out if self.low_rank is None else out + self.low_rank(x)

    def _packed(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply as the packed layer does."""
        packed = self.quantized(self._latent().detach())
        out = packed.format.apply(x, packed, bias)
        return _learning(out, _seen(x, packed), self.get_parameter("weight"), self.is_transposed)

    def _blended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply what lies between full precision and the packed layer."""
        weight = self._latent().to(x.dtype)
        if self.share > 0:
            packed = self.quantized(self._latent().detach())
            weight = _moved(weight, packed.dequantize(x.dtype), self.share)
            x = _moved(x, _seen(x, packed), self.share)
        return functional.linear(x, weight, bias)

    def _latent(self) -> Tensor:
        weight = self.get_parameter("weight")
        return weight.t() if self.is_transposed else weight


class StraightTable(Straight):
    """An embedding or a norm: its own arithmetic over a quantized weight."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Do what the module does."""
        weight: Tensor = self.get_parameter("weight")
        if self.share > 0:
            packed = self.quantized(weight.detach().reshape(-1, weight.shape[-1]))
            values = packed.dequantize(weight.dtype).view(weight.shape)
            weight = _moved(weight, values, self.share)
        found: Tensor = torch.func.functional_call(
            self.original, {"weight": weight}, args, kwargs, tie_weights=False
        )
        return found


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _seen(x: Tensor, packed: PackedTensor) -> Tensor:
    """Return the inputs as a format's weight is multiplied with them, cut from the graph.

    A format that rounds its inputs says so by a method `seen`; most do not.
    """
    seen = getattr(packed.format, "seen", None)
    found: Tensor = x if seen is None else seen(x)
    return found.detach()


def _moved(exact: Tensor, rounded: Tensor, share: float) -> Tensor:
    """Return what lies a share of the way from exact to rounded, with the gradient of exact."""
    if share == 1:
        return through(exact, rounded)
    return exact + (share * (rounded - exact)).detach()


def _learning(out: Tensor, seen: Tensor, weight: Tensor, is_transposed: bool) -> Tensor:
    """Return the outputs of a layer, through which its weight learns."""
    found: Tensor = _WeightGradient.apply(  # type: ignore[no-untyped-call]
        out, seen, weight, is_transposed
    )
    return found


class _WeightGradient(torch.autograd.Function):
    """A layer's outputs, from which its weight (out, in) gets the gradient of a plain product."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, seen: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(seen)
        ctx.transposed, ctx.dtype = transposed, weight.dtype
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        if not ctx.needs_input_grad[2]:
            return grad, None, None, None
        (seen,) = ctx.saved_tensors
        rows, inputs = grad.flatten(0, -2), seen.flatten(0, -2)
        found = inputs.t() @ rows if ctx.transposed else rows.t() @ inputs
        return grad, None, found.to(ctx.dtype), None
