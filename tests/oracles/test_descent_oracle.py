"""Coordinate descent against trying every single change of code, and scales against lstsq."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.oracles.test_gptq_oracle import correlated_inputs
from torch import Tensor

from quantale.quant.calibration import LayerStats
from quantale.quant.descent import Quadratic, descend
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.methods.gptq import Gptq

OUT, DAMP = 6, 0.05


def problem(layout: Affine, width: int, seed: int) -> tuple[Quadratic, Tensor, Grid]:
    """A weight on correlated inputs, rounded to nearest."""
    x = correlated_inputs(seed, 0.7, width=width)
    weight = torch.randn(OUT, width, generator=torch.Generator().manual_seed(seed + 1))
    split = layout.split(weight)
    grid = layout.minmax(split)
    codes = grid.codes(split).flatten(1)[:, :width].t().contiguous()
    return Quadratic(weight.t().contiguous(), x.t() @ x / len(x), DAMP), codes, grid


def values(layout: Affine, codes: Tensor, grid: Grid) -> Tensor:
    """Return (out, in) float64."""
    groups = torch.arange(codes.shape[0]) // layout.size(codes.shape[0])
    spread = replace(grid, scale=grid.scale[:, groups], zero_point=grid.zero_point[:, groups])
    return ((codes.t() - spread.zero_point) * spread.scale).double()


def damage(cost: Quadratic, found: Tensor) -> Tensor:
    """Return the damage of every row in float64, (out,)."""
    errors = cost.weight.t().double() - found
    damped = cost.hessian.double() + cost.damp * torch.eye(found.shape[1])
    return ((errors @ damped) * errors).sum(1)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize(("group", "width"), [(16, 40), ("row", 150), ("tensor", 30)])
@pytest.mark.parametrize("settings", [{}, {"symmetric": True}, {"zero_dtype": "float32"}])
def test_no_single_change_of_code_or_scale_is_left_that_helps(
    bits: int, group: int | str, width: int, settings: dict[str, Any]
) -> None:
    layout = Affine(bits, group, scale_dtype="float32", **settings)
    cost, start, first = problem(layout, width, seed=bits)
    codes, grid = descend(layout, cost, start, first, passes=200)
    least = damage(cost, values(layout, codes, grid))
    slack = 1e-4 * least + 1e-6
    assert (least <= damage(cost, values(layout, start, first)) + slack).all()
    for column, step in itertools.product(range(width), (-1, 1)):
        other = codes.clone()
        other[column] = (other[column] + step).clamp(0, layout.top)
        assert (damage(cost, values(layout, other, grid)) >= least - slack).all()
    for factor in (0.995, 1.005):
        other_grid = replace(grid, scale=grid.scale * factor)
        assert damage(cost, values(layout, codes, other_grid)).sum() >= (least - slack).sum()


def test_the_scale_is_that_of_least_squares() -> None:
    """With eight bits' codes held by their coarse grid, one group, one row: a line through zero."""
    layout = Affine(2, "row", scale_dtype="float32")
    cost, start, first = problem(layout, 24, seed=9)
    codes, grid = descend(layout, cost, start, first, passes=200)
    root = torch.linalg.cholesky(cost.hessian.double() + DAMP * torch.eye(24))
    for row in range(OUT):
        level = (codes[:, row] - grid.zero_point[row]).double()
        wanted = root.t() @ cost.weight[:, row].double()
        best = torch.linalg.lstsq((root.t() @ level).unsqueeze(1), wanted.unsqueeze(1)).solution
        assert float(grid.scale[row]) == pytest.approx(float(best), rel=1e-3)


def test_it_is_close_to_the_best_of_all_codes() -> None:
    """Eight columns at one bit a code: all 256 roundings of each row can be tried."""
    layout = Affine(1, "row", symmetric=True, scale_dtype="float32")
    found, best = torch.zeros(()), torch.zeros(())
    for seed in range(5):
        cost, start, first = problem(layout, 8, seed)
        codes, grid = descend(layout, cost, start, first, passes=50)
        found = found + damage(cost, values(layout, codes, grid)).sum()
        every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)))
        tried = [
            damage(cost, values(layout, one.unsqueeze(1).expand(8, OUT), grid)) for one in every
        ]
        best = best + torch.stack(tried).amin(0).sum()
    assert best <= found <= 1.05 * best


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("double_quant", [False, True])
def test_gptq_loses_less_with_it(bits: int, double_quant: bool) -> None:
    x = correlated_inputs(3, 0.7, width=96)
    stats = LayerStats(96)
    stats.add(x)
    weight = torch.randn(32, 96, generator=torch.Generator().manual_seed(4))

    def left(refine: int) -> float:
        method = Gptq(bits, 32, refine=refine, double_quant=double_quant)
        off = method.quantize(weight, stats).dequantize() - weight
        return float((x @ off.t()).square().sum())

    assert left(2) < 0.97 * left(0)
