"""Quantize one site: what a method is, and what becomes of the module whose weight it packs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from quantale.core.errors import NumericalError, QuantaleError, UsageError
from quantale.quant.calibration import LayerStats
from quantale.quant.linear import QuantEmbedding, TiedHead, packed_module
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import all_finite, are_apart, chunks
from quantale.quant.sites import Site
from quantale.quant.stored import plugin_name


class Method(Protocol):
    """How the numbers of a packed weight are chosen."""

    @property
    def needs_calibration(self) -> bool:
        """Whether `quantize` reads statistics of the inputs."""
        ...

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float."""
        ...


def needs_reference(method: Method) -> bool:
    """Say whether a method also wants the inputs in full precision (`LayerStats.cross`).

    A method says so by an attribute of that name; most have none.
    """
    return bool(getattr(method, "needs_reference", False))


@dataclass(frozen=True)
class SiteResult:
    """What became of one site."""

    site: Site
    method: str
    packed: PackedTensor
    weight_error: float
    """Squared error of the weight over its squared norm."""
    output_error: float | None
    """Squared error of the outputs on calibration data over their squared norm."""
    bias: bool
    seconds: float


Report = Callable[[SiteResult], None]


def quantize_site(
    model: nn.Module, site: Site, method: Method, stats: LayerStats | None
) -> SiteResult:
    """Quantize one site of the model and install the packed module in its place.

    Raises NumericalError or UsageError with the site's name in front.
    """
    started = time.perf_counter()
    weight = site.weight(model).to(torch.float32)
    if not all_finite(weight):
        raise NumericalError(f"{site.name}: the weight holds numbers that are not finite")
    try:
        packed = method.quantize(weight, stats)
    except QuantaleError as error:
        raise type(error)(f"{site.name}: {error}") from error
    weight_error, output_error = _errors(packed, weight, stats)
    result = SiteResult(
        site=site,
        method=plugin_name(method),
        packed=packed,
        weight_error=weight_error,
        output_error=output_error,
        bias=site.bias(model) is not None,
        seconds=time.perf_counter() - started,
    )
    install(model, site, packed)
    return result


def install(model: nn.Module, site: Site, packed: PackedTensor) -> None:
    """Put a packed module where the site's module is; a tied head follows its embedding.

    Raises UsageError naming a module that cannot be replaced.
    """
    try:
        module = packed_module(model.get_submodule(site.name), packed, site.bias(model))
    except UsageError as error:
        raise UsageError(f"{site.name}: {error}") from error
    model.set_submodule(site.name, module)
    if site.tied is not None and isinstance(module, QuantEmbedding):
        head = model.get_submodule(site.tied)
        model.set_submodule(site.tied, TiedHead(module, getattr(head, "bias", None)))


def _errors(
    packed: PackedTensor, weight: Tensor, stats: LayerStats | None
) -> tuple[float, float | None]:
    """Return the errors of weight and outputs; see `SiteResult`."""
    apart = are_apart(packed.format)
    sums = torch.zeros(4, dtype=torch.float64)
    for rows in chunks(*packed.shape) if apart else [slice(0, packed.shape[0])]:
        part = weight[rows]
        wrong = _rows(packed, rows) - part if apart else packed.dequantize() - part
        sums[0] += _energy(wrong)
        sums[1] += _energy(part)
        if stats is not None:
            sums[2] += _energy(wrong, stats.hessian)
            sums[3] += _energy(part, stats.hessian)
    wrong_weight, whole_weight, wrong_out, whole_out = sums.tolist()
    output_error = None if stats is None else _ratio(wrong_out, whole_out)
    return _ratio(wrong_weight, whole_weight), output_error


def _rows(packed: PackedTensor, rows: slice) -> Tensor:
    index = torch.arange(rows.start, rows.stop)
    return packed.format.rows(packed, index, torch.float32)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _energy(weight: Tensor, hessian: Tensor | None = None) -> float:
    """Return the sum over rows of w H wT; None: of the squares.

    Very large and very small weights are scaled, so that their squares do not leave float32.
    """
    low, high = torch.aminmax(weight)
    power = 1.0 if hessian is None else float(hessian.diagonal().max())
    unit = max(-float(low), float(high)) * max(power, 0.0) ** 0.5
    unit = 1.0 if unit == 0 or 1e-12 < unit < 1e12 else unit
    scaled = weight if unit == 1.0 else weight / unit
    squares = scaled.square() if hessian is None else (scaled @ hessian).mul_(scaled)
    return float(squares.sum()) * unit * unit
