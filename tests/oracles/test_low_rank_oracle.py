"""Low-rank terms against the closed form of the best one, and against their formulas."""

import torch
from plugin_cases import drawn
from torch import Tensor, nn
from torch.nn import functional

from quantale.quant.linear import QuantLinear
from quantale.quant.low_rank import LowRank, rounded
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.rtn import Rtn
from quantale.tuning.low_rank import LearnedLowRank, decomposed
from quantale.tuning.straight_through import StraightLinear, Strength

OUT, IN, RANK = 24, 32, 5


def moments(spread: float) -> Tensor:
    """The second moments of inputs whose directions are not alike."""
    x = drawn(400, IN, seed=4) * torch.logspace(0, spread, IN)
    x = x @ torch.linalg.qr(drawn(IN, IN, seed=5))[0]
    return x.t() @ x / len(x)


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root, which decomposes another way than the code."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return vectors * values.clamp(min=0).sqrt() @ vectors.t()


def wrong(weight: Tensor, term: Tensor, second: Tensor) -> float:
    """Mean square of what Q + L R gets wrong at the outputs."""
    stored = Binary(16).quantize(weight - term).dequantize() + term
    return float(((weight - stored).double() @ root(second)).square().sum())


def test_the_factors_are_the_best_for_what_they_make_up_for() -> None:
    """Eckart, Young and Mirsky: the squares of the singular values that are left, and no less.

    The codes are those that belong to the factors, after rounds that no longer change much.
    """
    weight, second = drawn(OUT, IN), moments(0.5)
    damped = second + 0.01 * second.diagonal().mean() * torch.eye(IN)
    for method in (Binary(16), Rtn(2, 16)):
        left, right = decomposed(weight, method, second, RANK)
        stored = method.quantize(weight - left @ right).dequantize()
        away = (weight - stored).double() @ root(damped)
        values = torch.linalg.svdvals(away)
        least = float(values[RANK:].square().sum())
        found = (weight - stored - left @ right).double() @ root(damped)
        assert least <= float(found.square().sum()) * (1 + 1e-6)
        assert float(found.square().sum()) <= 1.05 * least
        torch.testing.assert_close(left.square().mean(), right.square().mean())


def test_it_looks_at_the_inputs() -> None:
    weight, second = drawn(OUT, IN), moments(1.5)
    seen = torch.mm(*decomposed(weight, Binary(16), second, RANK))
    blind = torch.mm(*decomposed(weight, Binary(16), torch.eye(IN), RANK))
    assert wrong(weight, seen, second) < 0.9 * wrong(weight, blind, second)
    assert wrong(weight, blind, torch.eye(IN)) < wrong(weight, seen, torch.eye(IN))


def test_eight_bits_are_absmax_along_each_direction() -> None:
    left, right = drawn(RANK, OUT).t(), drawn(RANK, IN, seed=2)
    for exact, along in ((left, 0), (right, 1)):
        found = rounded(exact, along)
        assert found.codes.is_contiguous()
        step = exact.abs().amax(along, keepdim=True) / 127
        assert torch.equal(found.codes, (exact / step).round().to(torch.int8))
        assert float((found.values - exact).abs().max()) <= float(step.max()) / 2 * (1 + 1e-5)
    zeros = rounded(torch.zeros(3, 2), 0)
    assert torch.equal(zeros.values, torch.zeros(3, 2))


def test_the_layer_multiplies_by_codes_and_term() -> None:
    weight, bias = drawn(OUT, IN), drawn(1, OUT)[0]
    layer = QuantLinear(Binary(16).quantize(weight), bias)
    layer.low_rank = LowRank(rounded(drawn(OUT, RANK), 0), rounded(drawn(RANK, IN), 1))
    x = drawn(7, IN, seed=3)
    torch.testing.assert_close(layer(x), functional.linear(x, layer.whole_weight(), bias))


def test_gradients_are_those_of_the_estimator_written_out() -> None:
    module = nn.Linear(IN, OUT)
    site = StraightLinear("site", module, Binary(16), Strength()).train()
    site.low_rank = LearnedLowRank(drawn(OUT, RANK), drawn(RANK, IN, seed=2))
    x = drawn(6, IN, seed=3).requires_grad_()
    of = [x, module.weight, module.bias, site.low_rank.left, site.low_rank.right]
    left, right = site.low_rank.left * 3, site.low_rank.right * 3
    stored = Binary(16).quantize(module.weight.detach()).dequantize()
    whole = module.weight + (stored - module.weight).detach()
    left = left + (rounded(left, 0).values - left).detach()
    right = right + (rounded(right, 1).values - right).detach()
    expected, out = functional.linear(x, whole + left @ right, module.bias), site(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    pull = drawn(6, OUT, seed=9)
    ours = torch.autograd.grad((out * pull).sum(), of)
    theirs = torch.autograd.grad((expected * pull).sum(), of)
    for mine, written in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, written, rtol=1e-4, atol=1e-4)
