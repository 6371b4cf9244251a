"""The searched grid against a dense search over every scale and zero point."""

import pytest
import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant import fit
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.methods.rtn import Rtn


def drawn(rows: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator)
    return torch.where(torch.rand(rows, width, generator=generator) < 0.03, 4 * weight, weight)


def error(grid: Grid, split: Tensor, importance: Tensor) -> Tensor:
    return ((grid.values(grid.codes(split)) - split).square() * importance).sum(-1)


def dense(layout: Affine, split: Tensor, importance: Tensor) -> Tensor:
    """Least error of every group over 400 scales and all zero points."""
    extent = split.abs().amax(-1)
    best = torch.full(extent.shape, float("inf"))
    for step in range(1, 401):
        scale = layout.rounded(2 * extent * step / 400 / max(layout.top, 1)).scale
        for zero in [layout.middle] if layout.symmetric else range(layout.top + 1):
            grid = Grid(scale, torch.full_like(scale, float(zero)), layout.top)
            best = torch.minimum(best, error(grid, split, importance))
    return best


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_search_leaves_little_more_than_a_dense_one(bits: int, symmetric: bool) -> None:
    layout = Affine(bits, 32, symmetric, "float32")
    split = layout.split(drawn(12, 64, 1))
    importance = torch.rand(2, 32, generator=torch.Generator().manual_seed(2)) + 0.1
    found = error(fit.fitted(layout, split, importance), split, importance)
    assert float(found.sum()) <= 1.15 * float(dense(layout, split, importance).sum())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("zero_dtype", [None, "float16"])
@pytest.mark.parametrize("group_size", [16, "row", "tensor"])
def test_no_group_becomes_worse_than_on_the_min_max_grid(
    bits: int, zero_dtype: str | None, group_size: int | str
) -> None:
    layout = Affine(bits, group_size, zero_dtype=zero_dtype)
    split = layout.split(drawn(9, 50, 3))
    importance = fit.columns(torch.rand(50, generator=torch.Generator().manual_seed(4)), group_size)
    searched = error(fit.fitted(layout, split, importance), split, importance)
    plain = error(layout.minmax(split), split, importance)
    if group_size == "tensor":
        searched, plain = searched.sum(), plain.sum()
    assert (searched <= plain * (1 + 1e-5) + 1e-9).all()


def test_a_group_of_dead_inputs_is_searched_as_if_all_columns_counted() -> None:
    layout = Affine(3, 16)
    split = layout.split(drawn(4, 32, 5))
    dead = torch.ones(2, 16)
    dead[1] = 0
    alike = fit.fitted(layout, split)
    assert torch.equal(fit.fitted(layout, split, dead).scale, alike.scale)


def test_an_unknown_search_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="clip must be one of none, mse, activations"):
        Rtn(4, clip="best")
