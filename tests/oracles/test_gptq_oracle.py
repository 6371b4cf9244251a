"""GPTQ against optimal brain quantization done by brute force: every inverse computed anew."""

from typing import Any

import pytest
import torch
from torch import Tensor

from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine
from quantale.quant.hessian import factorize
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor

OUT, IN, ROWS = 24, 48, 400


def correlated_inputs(seed: int, strength: float, rows: int = ROWS, width: int = IN) -> Tensor:
    """Rows whose columns share a few strong directions."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 6, generator=generator) @ torch.randn(6, width, generator=generator)
    return strength * shared + torch.randn(rows, width, generator=generator)


def stats_of(x: Tensor) -> LayerStats:
    stats = LayerStats(x.shape[1])
    stats.add(x)
    return stats


def plain(bits: int, group_size: int | str = "row", **settings: Any) -> Gptq:
    """The paper's algorithm: min-max grids, columns in their order."""
    paper = {"act_order": False, "clip": "none", "refine": 0, "scale_dtype": "float32"}
    return Gptq(bits, group_size, **{**paper, **settings})


def output_error(weight: Tensor, packed: PackedTensor, x: Tensor) -> float:
    return float(((packed.dequantize() - weight) @ x.t()).square().sum())


def brute_force(
    weight: Tensor, hessian: Tensor, method: Gptq, *, frozen: bool = False
) -> PackedTensor:
    """Optimal brain quantization in a fixed order: solve least squares anew after each column.

    After column j is fixed, the columns still free move to the exact minimum of the damped
    quadratic, which is -inv(H_FF) H_Fj times the error of column j. `frozen` is the defect of a
    public project: row j of the first inverse is used for every column.
    """
    layout = Affine(method.bits, method.group_size, method.symmetric, method.scale_dtype)
    width = weight.shape[1]
    hessian = hessian.double()
    hessian = hessian + method.damp * hessian.diagonal().mean() * torch.eye(width)
    size = layout.size(width)
    static = method.static_groups
    order = list(range(width))
    if method.act_order:
        active = hessian.diagonal().tolist()
        order.sort(key=lambda j: -active[j])
        if not static:
            parts = [active[start : start + size] for start in range(0, width, size)]
            order.sort(key=lambda j: -sum(parts[j // size]) / len(parts[j // size]))  # stable
    original = layout.minmax(layout.split(weight))
    scales, zeros = original.scale.clone(), original.zero_point.clone()
    current, codes = weight.double().clone(), torch.zeros_like(weight)
    for position, j in enumerate(order):
        group = j // size
        entered = position == 0 or order[position - 1] // size != group
        if not static and entered and layout.groups(width) > 1:
            part = current[:, group * size : (group + 1) * size].float().unsqueeze(1)
            grid = layout.minmax(part)
            scales[:, group], zeros[:, group] = grid.scale[:, 0], grid.zero_point[:, 0]
        scale, zero = (
            scales[:, min(group, scales.shape[1] - 1)],
            zeros[:, min(group, zeros.shape[1] - 1)],
        )
        code = torch.clamp(torch.round(current[:, j].float() / scale) + zero, 0, layout.top)
        codes[:, j] = code
        error = current[:, j] - ((code - zero) * scale).double()
        free = order[position + 1 :]
        if free and frozen:
            inverse = torch.linalg.inv(hessian)
            current[:, free] -= torch.outer(error, inverse[j, free] / inverse[j, j])
        elif free:
            free_part = hessian[free][:, free]
            current[:, free] += torch.outer(error, torch.linalg.solve(free_part, hessian[free, j]))
    final = type(original)(scales, zeros, layout.top)
    return layout.store(layout.split(codes), final, (weight.shape[0], width))


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", ["row", 16, 20])
def test_gptq_is_within_two_percent_of_brute_force(
    bits: int, static: bool, act_order: bool, group_size: int | str
) -> None:
    """Many rows: one code that falls the other way in float32 changes the rest of its row."""
    weight = torch.randn(400, IN, generator=torch.Generator().manual_seed(1))
    x = correlated_inputs(2, 0.5)
    method = plain(bits, group_size, static_groups=static, act_order=act_order, block_size=16)
    stats = stats_of(x)

    ours = output_error(weight, method.quantize(weight, stats), x)
    exact = output_error(weight, brute_force(weight, stats.hessian, method), x)

    assert ours == pytest.approx(exact, rel=0.02)


def strongly_correlated_ratios() -> tuple[float, float]:
    """Error that GPTQ and its frozen twin leave, each over that of round-to-nearest.

    The inputs have rank 6 and little noise.
    """
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    x = correlated_inputs(4, 3.0, rows=2000, width=64)
    method, stats = plain(4), stats_of(x)
    frozen = brute_force(weight, stats.hessian, method, frozen=True)
    nearest = output_error(weight, Rtn(4, scale_dtype="float32").quantize(weight), x)
    exact = output_error(weight, method.quantize(weight, stats), x)
    return exact / nearest, output_error(weight, frozen, x) / nearest


def test_on_correlated_inputs_little_is_left_and_a_frozen_inverse_is_caught() -> None:
    honest, broken = strongly_correlated_ratios()
    assert honest <= 0.35 < broken


@pytest.mark.parametrize("width", [48, 700])
def test_the_factor_multiplies_back_and_solves(width: int) -> None:
    """700 columns take two blocks of the factorization."""
    x = correlated_inputs(5, 1.0, width=width, rows=2 * width).double()
    hessian = x.t() @ x
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(width)
    factor = factorize(hessian, 0.01)
    unit = factor.unit.double()
    assert torch.equal(unit, unit.triu())
    scale = float(damped.diagonal().mean())
    product = unit @ (factor.power.double().unsqueeze(1) * unit.t())
    torch.testing.assert_close(product / scale, damped / scale, atol=1e-5, rtol=1e-4)
    right = torch.randn(3, width, generator=torch.Generator().manual_seed(8))
    expected = torch.linalg.solve(damped, right.double().t()).t()
    found = factor.solve(right).double()
    assert (found - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("act_order", [False, True])
def test_correction_starts_from_the_least_squares_fit_to_the_full_model(act_order: bool) -> None:
    """With 8 bits and little damping the result is nearly that fit, which lstsq finds too."""
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(1))
    reference = correlated_inputs(2, 0.5, rows=2000)
    x = reference + 0.3 * correlated_inputs(9, 0.5, rows=2000) * reference[:, :1]
    stats = LayerStats(IN)
    for part in (slice(0, 700), slice(700, 2000)):
        stats.add(x[part], reference[part])
    wanted = reference @ weight.t()
    best = torch.linalg.lstsq(x.double(), wanted.double()).solution.t()

    def left(correct: float) -> float:
        method = Gptq(8, act_order=act_order, damp=1e-6, correct=correct, scale_dtype="float32")
        got = method.quantize(weight, stats).dequantize()
        return float((x.double() @ got.double().t() - wanted).square().sum())

    least = float((x.double() @ best.t() - wanted).square().sum())
    assert left(1.0) <= 1.01 * least
    assert left(1.0) < left(0.5) < left(0.0)


def test_the_defaults_leave_less_than_the_papers_algorithm() -> None:
    """Correlated inputs of unequal strength, as in real models."""
    weight = torch.randn(OUT, 96, generator=torch.Generator().manual_seed(10))
    strength = torch.logspace(-1, 1, 96)[
        torch.randperm(96, generator=torch.Generator().manual_seed(12))
    ]
    x = correlated_inputs(11, 0.5, width=96) * strength
    stats = stats_of(x)
    for bits in (2, 3, 4):
        best = output_error(weight, Gptq(bits, 32).quantize(weight, stats), x)
        paper = output_error(weight, plain(bits, 32).quantize(weight, stats), x)
        assert best < 0.9 * paper


def test_blocks_of_columns_change_speed_and_not_the_result() -> None:
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(6))
    stats = stats_of(correlated_inputs(7, 0.5))
    whole = plain(4, 16, block_size=IN).quantize(weight, stats)
    small = plain(4, 16, block_size=16).quantize(weight, stats)
    same = (whole.tensors["weight"] == small.tensors["weight"]).float().mean()
    assert same > 0.99
