"""Quantize one site of a model in place, and say what became of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import NumericalError, QuantaleError, UsageError
from quantale.quant.calibration import LayerStats, check_stats
from quantale.quant.linear import QuantEmbedding, TiedHead, packed_module
from quantale.quant.packed import PackedTensor
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
    if not torch.isfinite(weight).all():
        raise NumericalError(f"{site.name}: the weight holds numbers that are not finite")
    try:
        packed = method.quantize(weight, stats)
    except QuantaleError as error:
        raise type(error)(f"{site.name}: {error}") from error
    wrong = packed.dequantize() - weight
    result = SiteResult(
        site=site,
        method=plugin_name(method),
        packed=packed,
        weight_error=_ratio(wrong.square().sum(), weight.square().sum()),
        output_error=None if stats is None else _output_error(wrong, weight, stats),
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


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if float(whole) > 0 else 0.0


def _output_error(wrong: Tensor, weight: Tensor, stats: LayerStats) -> float:
    return _ratio(_energy(wrong, stats.hessian), _energy(weight, stats.hessian))


def _energy(weight: Tensor, hessian: Tensor) -> Tensor:
    return ((weight @ hessian) * weight).sum()


def quantize_head(
    model: PreTrainedModel,
    site: Site,
    method: Method,
    batches: list[Tensor],
    report: Report,
) -> None:
    """Quantize a linear layer outside the blocks, such as an untied head, by runs of the model."""
    stats = None
    if method.needs_calibration:
        stats = LayerStats(site.shape[1])
        head = model.get_submodule(site.name)
        handle = head.register_forward_pre_hook(_adder(stats))
        try:
            with torch.no_grad():
                for batch in batches:
                    model(input_ids=batch, use_cache=False)
        finally:
            handle.remove()
        check_stats(site.name, stats)
    report(quantize_site(model, site, method, stats))


def _adder(stats: LayerStats) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        stats.add(args[0])

    return hook
