"""What every quantization method owes its users, whichever plug-in it is."""

import dataclasses
import inspect
import re
import sys
from functools import cache

import pytest
import torch
from plugin_cases import (
    FEW_BITS,
    drawn,
    inputs,
    is_frozen,
    method_cases,
    output_error,
    stats_of,
    weights,
)
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import NumericalError, UsageError
from quantale.core.registry import METHODS
from quantale.quant.apply import Method, quantize_site
from quantale.quant.calibration import LayerStats
from quantale.quant.linear import QuantLinear
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor
from quantale.quant.sites import Site, weight_view
from quantale.quant.stored import plugin_name

CASES = method_cases(FEW_BITS)
WEIGHTS = weights()
MAY_OVERFLOW = {"huge"}
"""Beyond float16: NumericalError is as good as a finite result."""
WORSE_THAN_ROUNDING = 4.0
"""A method may lose this much output error against round-to-nearest of its bits, no more."""
PAPER = re.compile(r"arXiv|doi\.org|proceedings|no paper", re.IGNORECASE)


@cache
def shared_stats(width: int) -> LayerStats:
    """What calibration saw of inputs of this width; no method may change it."""
    return stats_of(inputs(width))


every_method = pytest.mark.parametrize("method", [c[1] for c in CASES], ids=[c[0] for c in CASES])
every_name = pytest.mark.parametrize("name", METHODS.names())


def made_of(name: str) -> list[Method]:
    """The cases of one method."""
    return [method for _, method in CASES if plugin_name(method) == name]


def content(packed: PackedTensor) -> dict[str, bytes]:
    """Bytes of every stored tensor."""
    return {name: tensor.numpy().tobytes() for name, tensor in packed.tensors.items()}


def overflows(method: Method, weight: Tensor) -> bool:
    """Whether a method says that it cannot store such numbers."""
    try:
        method.quantize(weight, stats_of(inputs(weight.shape[1])))
    except NumericalError:
        return True
    return False


def check_stored(packed: PackedTensor, shape: tuple[int, int]) -> None:
    """Stored tensors are what the format announces, and stand for finite numbers."""
    assert packed.shape == shape
    stored = {name: (tuple(t.shape), t.dtype) for name, t in packed.tensors.items()}
    assert stored == packed.format.tensors(shape)
    weight = packed.dequantize()
    assert weight.shape == shape
    assert weight.dtype == torch.float32
    assert torch.isfinite(weight).all()


def share_lost(method: Method) -> float:
    """Share of the output's energy that a method may lose where plain rounding loses nothing.

    Scales of 8 bits are off by up to a 128th of their spread; below two bits a weight may lose
    what leaving the layer out would lose.
    """
    if getattr(method, "bits", 1) < 2:
        return 1.0
    return 1e-3 if getattr(method, "double_quant", False) else 1e-6


def rounded(method: Method, weight: Tensor) -> PackedTensor:
    """What plain rounding makes of a weight with as many bits."""
    bits = min(max(int(getattr(method, "bits", 1)), 1), 8)
    group = getattr(method, "group_size", "row")
    return Rtn(bits, group, getattr(method, "symmetric", False)).quantize(weight)


@every_name
def test_it_is_a_frozen_dataclass_that_says_whether_it_calibrates(name: str) -> None:
    kind = METHODS.get(name)
    assert is_frozen(kind)
    assert all(isinstance(m.needs_calibration, bool) for m in made_of(name))
    assert list(inspect.signature(kind.quantize).parameters) == ["self", "weight", "stats"]


@every_name
def test_its_docstring_names_a_paper_or_says_that_there_is_none(name: str) -> None:
    docstring = sys.modules[METHODS.get(name).__module__].__doc__
    assert docstring
    assert PAPER.search(docstring), f"{name}: name the paper, or say that there is no paper"


@every_name
def test_every_setting_is_explained_where_it_is_declared(name: str) -> None:
    kind = METHODS.get(name)
    source = inspect.getsource(kind)
    for field in dataclasses.fields(kind):
        explained = rf"^    {field.name}: [^\n]+\n    \"\"\"\S"
        assert re.search(explained, source, re.MULTILINE), f"{name}.{field.name}"


@every_method
def test_any_weight_becomes_the_announced_tensors_and_is_left_as_it_was(method: Method) -> None:
    for kind, given in WEIGHTS.items():
        if kind in MAY_OVERFLOW and overflows(method, given):
            continue
        weight, stats = given.clone(), shared_stats(given.shape[1])
        seen = stats.hessian.clone()
        packed = method.quantize(weight, stats)
        check_stored(packed, (weight.shape[0], weight.shape[1]))
        assert torch.equal(weight, given), kind
        assert torch.equal(stats.hessian, seen), kind
        assert content(method.quantize(weight, stats)) == content(packed), kind


@every_method
def test_the_outputs_stay_near_those_of_plain_rounding(method: Method) -> None:
    for kind in sorted(set(WEIGHTS) - MAY_OVERFLOW):
        weight = WEIGHTS[kind]
        x, stats = inputs(weight.shape[1]), shared_stats(weight.shape[1])
        found = output_error(weight, method.quantize(weight, stats), x)
        reference = output_error(weight, rounded(method, weight), x)
        whole = float((x.double() @ weight.double().t()).square().sum())
        allowed = max(WORSE_THAN_ROUNDING * reference, share_lost(method) * whole)
        assert found <= allowed + 1e-12, kind


@every_method
def test_calibration_is_needed_exactly_where_it_is_declared(method: Method) -> None:
    weight = drawn(6, 16)
    if method.needs_calibration:
        with pytest.raises(UsageError, match="calibration"):
            method.quantize(weight, None)
    else:
        expected = method.quantize(weight, stats_of(inputs(16)))
        assert content(method.quantize(weight, None)) == content(expected)


POOR = {
    "one row": inputs(48, 1),
    "two rows": inputs(48, 2),
    "rank one": inputs(48, 1).expand(200, 48) * drawn(200, 1),
    "dead columns": inputs(48) * (torch.arange(48) % 5 > 0),
    "all dead": torch.zeros(200, 48),
    "equal columns": inputs(48)[:, :1].expand(120, 48),
    "large": inputs(48) * 1e12,
    "small": inputs(48) * 1e-12,
}
"""Calibration inputs whose Hessian is singular or far from 1, by what is wrong with them."""


@every_method
def test_poor_calibration_data_still_gives_finite_weights(method: Method) -> None:
    for kind, x in POOR.items():
        weight = drawn(24, 48)
        packed = method.quantize(weight, stats_of(x))
        check_stored(packed, (24, 48))
        bound = WORSE_THAN_ROUNDING * output_error(weight, rounded(method, weight), x)
        assert output_error(weight, packed, x) <= bound, kind


@every_method
def test_dead_inputs_are_kept_as_near_as_rounding_keeps_them(method: Method) -> None:
    """Their weights matter as soon as a prompt uses the input that calibration did not."""
    x = inputs(48)
    x[:, 5] = 0
    weight = drawn(24, 48)
    packed = method.quantize(weight, stats_of(x))
    wrong = (packed.dequantize() - weight)[:, 5].square().sum()
    reference = (rounded(method, weight).dequantize() - weight)[:, 5].square().sum()
    assert wrong <= WORSE_THAN_ROUNDING * reference


@every_method
def test_the_layout_of_a_weight_in_memory_changes_nothing(method: Method) -> None:
    weight, stats = drawn(24, 48), stats_of(inputs(48))
    linear, conv = nn.Linear(48, 24), Conv1D(24, 48)
    with torch.no_grad():
        linear.weight.copy_(weight)
        conv.weight.copy_(weight.t())
    wide = torch.zeros(24, 100)
    wide[:, 10:58] = weight
    expected = content(method.quantize(weight, stats))
    for view in (weight_view(linear), weight_view(conv), wide[:, 10:58], weight.t().clone().t()):
        assert content(method.quantize(view, stats)) == expected


@every_method
def test_a_weight_of_half_precision_is_quantized_as_its_float32_value(method: Method) -> None:
    weight, stats = drawn(24, 48).to(torch.bfloat16), stats_of(inputs(48))
    expected = content(method.quantize(weight.float(), stats))
    assert content(method.quantize(weight, stats)) == expected


@every_method
def test_it_does_not_touch_the_global_random_state(method: Method) -> None:
    before = torch.random.get_rng_state()
    method.quantize(drawn(6, 16), stats_of(inputs(16)))
    assert torch.equal(torch.random.get_rng_state(), before)


@every_method
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_with_the_name_of_its_site(
    method: Method, value: float
) -> None:
    last = nn.Linear(6, 4)
    model = nn.Sequential(nn.Linear(16, 6), last)
    with torch.no_grad():
        last.weight[2, 3] = value
    with pytest.raises(NumericalError, match=r"^1: "):
        quantize_site(model, Site("1", "mlp", (4, 6)), method, stats_of(inputs(6)))
    assert model[1] is last


@every_method
def test_a_site_is_replaced_by_a_layer_that_computes_with_the_stored_weight(
    method: Method,
) -> None:
    linear = nn.Linear(16, 6)
    with torch.no_grad():
        linear.weight.copy_(drawn(6, 16))
    model = nn.Sequential(linear)
    result = quantize_site(model, Site("0", "mlp", (6, 16)), method, stats_of(inputs(16)))
    assert isinstance(model[0], QuantLinear)
    assert result.method == plugin_name(method)
    assert result.bias
    x = inputs(16, 5, seed=2)
    assert torch.equal(model(x), result.packed.format.apply(x, result.packed, linear.bias))


@pytest.mark.parametrize("name", METHODS.names())
def test_an_error_of_the_calibration_names_the_site(name: str) -> None:
    """Statistics that are not finite must not become weights that are not finite."""
    method = next(case for label, case in CASES if label.startswith(f"{name}-"))
    if not method.needs_calibration:
        return
    stats = stats_of(inputs(16))
    stats.hessian[2, 2] = float("inf")
    model = nn.Sequential(nn.Linear(16, 6))
    with pytest.raises(NumericalError, match=r"^0: "):
        quantize_site(model, Site("0", "mlp", (6, 16)), method, stats)
