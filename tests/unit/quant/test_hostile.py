"""Weights and calibration data that a quantizer would rather not meet, and what becomes of them.

Every method meets every weight of `WEIGHTS`, and those that calibrate every input of `INPUTS`.
The result is finite and near the weight, or an error of ours in one line that begins with the
site's name; `KEPT` says which, so that one more or one less is noticed.
"""

import math
import re
from functools import cache

import pytest
import torch
from plugin_cases import drawn, inputs, stats_of
from tiny_models import tiny_gpt2, windows
from torch import Tensor, nn

from quantale.core.errors import EnvironmentLackingError, NumericalError
from quantale.core.registry import METHODS
from quantale.quant.apply import Method, SiteResult, quantize_site
from quantale.quant.calibration import LayerStats
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.rtn import Rtn
from quantale.quant.sites import Site
from quantale.quant.whole import Methods, quantize_model

SETTINGS: dict[str, tuple[dict[str, object], ...]] = {
    "rtn": (
        {"bits": 3, "group_size": 16},
        {"bits": 8, "symmetric": True},
        {"bits": 4, "group_size": 16, "clip": "mse"},
        {"bits": 2, "group_size": 16, "clip": "activations", "double_quant": True},
    ),
    "gptq": (
        {"bits": 3, "group_size": 16},
        {"bits": 4, "group_size": 16, "act_order": False, "clip": "none"},
        {"bits": 2, "symmetric": True},
    ),
    "hqq": ({"bits": 3}, {"bits": 1, "axis": 0}),
    "nf4": ({}, {"double_quant": True, "group_size": 16}),
    "bitnet": ({}, {"group_size": 16}),
    "binary": ({}, {"symmetric": False, "group_size": 16}),
}
"""By method; those that are not here are made with their defaults."""


def mixed(scale_of_row: Tensor) -> Tensor:
    return drawn(24, 48) * scale_of_row


def single(value: float) -> Tensor:
    weight = torch.zeros(24, 48)
    weight[5, 17] = value
    return weight


def with_value(value: float) -> Tensor:
    weight = drawn(24, 48)
    weight[3, 11] = value
    return weight


def lines() -> Tensor:
    weight = drawn(24, 48)
    weight[::3], weight[:, ::5] = 0.0, 0.0
    return weight


WEIGHTS: dict[str, Tensor] = {
    "zeros": torch.zeros(24, 48),
    "zero rows and columns": lines(),
    "constant": torch.full((24, 48), -0.3),
    "constant rows": drawn(24, 1).expand(24, 48).clone(),
    "two values": torch.where(drawn(24, 48) > 0, 1.0, 0.5),
    "negative": -drawn(24, 48).abs() - 1,
    "far from zero": drawn(24, 48) * 1e-3 + 100,
    "one not zero": single(2.5),
    "one not zero and tiny": single(1e-30),
    "outliers of 1e4": with_value(1e4),
    "an outlier of the other sign": -drawn(24, 48).abs() - 1 + single(50.0),
    "1 x 1": drawn(1, 1),
    "1 x 48": drawn(1, 48),
    "48 x 1": drawn(48, 1),
    "2 x 2": drawn(2, 2),
    "7 x 13": drawn(7, 13),
    "31 x 53": drawn(31, 53),
    "rank one": drawn(24, 1) @ drawn(1, 48, 1),
    "equal rows": drawn(1, 48).expand(24, 48).clone(),
    "rows from 1e-6 to 1e3": mixed(torch.logspace(-6, 3, 24).unsqueeze(1)),
    "columns from 1e-6 to 1e3": mixed(torch.logspace(-6, 3, 48)),
    "subnormal": drawn(24, 48) * 1e-40,
    "smallest of float16": drawn(24, 48) * 6e-8,
    "smaller than float16": drawn(24, 48) * 1e-12,
    "larger than float16": drawn(24, 48) * 1e6,
    "near the end of float32": drawn(24, 48) * 5e37,
    "largest of float16": with_value(65504.0),
    "from bfloat16": drawn(24, 48).bfloat16(),
    "from float16": drawn(24, 48).half(),
    "nan": with_value(float("nan")),
    "inf": with_value(float("inf")),
    "-inf": with_value(float("-inf")),
}
INPUTS: dict[str, Tensor] = {
    "one row": inputs(48, 1),
    "rank one": inputs(48, 1).expand(200, 48) * drawn(200, 1),
    "dead columns": inputs(48) * (torch.arange(48) % 5 > 0),
    "one live column": inputs(48) * (torch.arange(48) == 7),
    "all dead": torch.zeros(200, 48),
    "equal columns": inputs(48)[:, :1].expand(120, 48),
    "constant": torch.full((120, 48), 3.0),
    "outlier column": inputs(48) * torch.where(torch.arange(48) == 3, 1e4, 1.0),
    "1e18": inputs(48) * 1e18,
    "1e-18": inputs(48) * 1e-18,
    "1e-30": inputs(48) * 1e-30,
    "from float16": inputs(48).half(),
}


@cache
def shared_stats(width: int) -> LayerStats:
    """What calibration saw of good inputs of this width."""
    return stats_of(inputs(width))


@cache
def cases() -> dict[str, Method]:
    """Every method of the registry, some with several settings; without optional packages."""
    found: dict[str, Method] = {}
    for name in METHODS.names():
        for settings in SETTINGS.get(name, ({},)):
            words = [f"{key}={value}" for key, value in settings.items()]
            try:
                found[" ".join([name, *words])] = METHODS.get(name)(**settings)
            except EnvironmentLackingError:
                break
    return found


def quantized(method: Method, weight: Tensor, stats: LayerStats) -> SiteResult:
    """Quantize a layer called "h.0" that holds this weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    model = nn.ModuleDict({"h": nn.ModuleList([layer])})
    return quantize_site(
        model, Site("h.0", "mlp", (weight.shape[0], weight.shape[1])), method, stats
    )


KEPT: dict[str, set[str]] = {
    "nan": set(),
    "inf": set(),
    "-inf": set(),
    "larger than float16": {
        "rtn bits=8 symmetric=True",
        "nf4",
        "nf4 double_quant=True group_size=16",
        "fp4",
        "bnb-nf4",
        "bitnet",
        "bitnet group_size=16",
    },
    "near the end of float32": {"nf4", "fp4", "bitnet", "bitnet group_size=16"},
}
"""Who keeps weights that others refuse: by scales of float32, or by steps that are small enough.
Weights that are not in this table are kept by all."""
REASONS = re.compile(r"^h\.0: .*(not finite|does not fit float16|too large)")
SMALL = 1e-3
"""Of weights, below which a step of float16 may be larger than they are."""
LOST = 1.05
"""Share of the weight's energy that is lost where everything is: more would be harm."""
ONE_BIT_HQQ = 3.0
"""The same for HQQ at one bit, whose two values lie as far apart as the extremes of the group."""


def check_result(label: str, result: SiteResult, weight: Tensor) -> None:
    """Assert that stored and computed numbers are finite and near the weight."""
    packed, given = result.packed, weight.float()
    found, largest = packed.dequantize(), float(given.abs().max())
    assert torch.isfinite(found).all()
    floats = [t for t in packed.tensors.values() if t.is_floating_point()]
    assert all(torch.isfinite(tensor).all() for tensor in floats)
    x = inputs(weight.shape[1], 3, seed=2)
    assert torch.isfinite(packed.format.apply(x / max(1.0, largest), packed, None)).all()
    assert result.output_error is not None
    assert math.isfinite(result.weight_error)
    assert math.isfinite(result.output_error)
    assert ((found - given).abs() <= 2 * largest + 1e-4).all()
    if largest > SMALL:
        assert result.weight_error <= (ONE_BIT_HQQ if "hqq bits=1" in label else LOST)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("label", cases())
def test_a_hostile_weight_is_kept_or_refused_in_one_line(label: str, kind: str) -> None:
    method, weight = cases()[label], WEIGHTS[kind]
    stats = shared_stats(weight.shape[1])
    if kind not in KEPT or label in KEPT[kind]:
        check_result(label, quantized(method, weight, stats), weight)
        return
    with pytest.raises(NumericalError, match=REASONS) as caught:
        quantized(method, weight, stats)
    assert "\n" not in str(caught.value)


CALIBRATING = [label for label, method in cases().items() if method.needs_calibration]


def test_a_hessian_is_a_mean_and_overflows_only_where_the_mean_does() -> None:
    x = torch.full((1000, 2), 3e18) * torch.tensor([1.0, -2.0])
    stats = LayerStats(2)
    for part in (x[:600], x[600:]):
        stats.add(part, part / 2)
    expected = 2 * torch.tensor([[9e36, -18e36], [-18e36, 36e36]])
    torch.testing.assert_close(stats.hessian, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(stats.cross, -expected / 2, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("label", CALIBRATING)
def test_hostile_calibration_data_still_give_weights_that_are_near(label: str, kind: str) -> None:
    for weight in (drawn(24, 48), lines()):
        check_result(label, quantized(cases()[label], weight, stats_of(INPUTS[kind])), weight)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("label", CALIBRATING)
def test_statistics_that_are_not_finite_are_an_error(label: str, value: float) -> None:
    stats = stats_of(inputs(48))
    stats.hessian[2, 2] = value
    with pytest.raises(NumericalError, match=r"^h\.0: .*overflow in the activations"):
        quantized(cases()[label], drawn(24, 48), stats)


@pytest.mark.parametrize(
    "method",
    [Gptq(4, scale_dtype="float32"), Rtn(4, 16, scale_dtype="float32", clip="activations")],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_activations_that_overflow_are_an_error_that_names_the_site(
    method: Method, dtype: torch.dtype
) -> None:
    """In float16 the product itself overflows, in float32 only the squares of the Hessian do."""
    model = tiny_gpt2()
    with torch.no_grad():
        model.get_submodule("transformer.h.1.mlp.c_fc").weight.mul_(1e5)
        if dtype == torch.float32:
            model.get_submodule("transformer.h.1.mlp.c_fc").weight.mul_(1e18)
    with pytest.raises(NumericalError, match=r"^transformer\.h\.1\.mlp\.c_proj: .*not finite"):
        quantize_model(model.to(dtype), Methods(method), windows(2))
