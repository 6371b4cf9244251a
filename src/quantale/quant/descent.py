"""Improve rounded weights: change one column, then one scale at a time, as long as that pays.

The damage of a row is e H eT with e = w - q and H the damped Hessian. With everything else held
fixed it is a parabola in the value of one column, so its nearest code is the best one, and a
parabola in the scale of one group, whose lowest point is a closed form. Damage therefore never
grows, whereas GPTQ's single sweep never comes back to a column that it has left.
Behdin et al., "QuantEase", arXiv 2309.01885, algorithm 1, is the descent over columns.
Differs: it starts from GPTQ's codes, also moves scales, and keeps no outliers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.scales import DTYPES

_BLOCK = 128
"""Columns whose changes are gathered before they reach the rest."""


@dataclass(frozen=True)
class Quadratic:
    """What rounding a weight costs: e (H + damp I) eT, row by row."""

    weight: Tensor
    """(in, out) float32: the values that would cost nothing."""
    hessian: Tensor
    """(in, in) float32."""
    damp: float
    """Added to the diagonal."""

    def slope(self, columns: slice, errors: Tensor) -> Tensor:
        """Return half the derivative of the damage, (columns, out), for errors (in, out)."""
        return torch.addmm(errors[columns], self.hessian[columns], errors, beta=self.damp)

    def bend(self, columns: slice, level: Tensor) -> Tensor:
        """Return how the slope of some columns changes with their values, both (columns, out)."""
        return torch.addmm(level, self.hessian[columns, columns], level, beta=self.damp)

    def among(self, columns: slice) -> Tensor:
        """Return the damped Hessian of some columns, (columns, columns)."""
        inner = self.hessian[columns, columns].clone()
        inner.diagonal().add_(self.damp)
        return inner


def descend(
    layout: Affine, cost: Quadratic, codes: Tensor, grid: Grid, passes: int
) -> tuple[Tensor, Grid]:
    """Return better codes (in, out) float32 and a better grid after so many passes.

    Scales that are quantized a second time stay as they are.
    """
    moving = not layout.double_quant
    size, grids = layout.size(codes.shape[0]), list(_columns(grid))
    codes, errors = codes.clone(), cost.weight.clone()
    for group, columns in _groups(codes.shape[0], size):
        errors[columns] -= _values(codes[columns], grids[group])
    for _ in range(passes):
        for group, columns in _groups(codes.shape[0], size):
            if moving:
                grids[group] = _scaled(layout, cost, columns, codes, errors, grids[group])
            for start in range(columns.start, columns.stop, _BLOCK):
                block = slice(start, min(start + _BLOCK, columns.stop))
                _round_again(cost, block, codes, errors, grids[group])
    if not moving:
        return codes, grid
    scale = torch.cat([one.scale for one in grids], dim=1)
    return codes, replace(grid, scale=scale, stored=None)


def _groups(width: int, size: int) -> Iterator[tuple[int, slice]]:
    for group, start in enumerate(range(0, width, size)):
        yield group, slice(start, min(start + size, width))


def _columns(grid: Grid) -> Iterator[Grid]:
    for group in range(grid.scale.shape[1]):
        yield grid.column(group)


def _values(codes: Tensor, grid: Grid) -> Tensor:
    return (codes - grid.zero_point[:, 0]) * grid.scale[:, 0]


def _scaled(
    layout: Affine, cost: Quadratic, columns: slice, codes: Tensor, errors: Tensor, grid: Grid
) -> Grid:
    """Return the grid of a group with the best scale for its codes; bring its errors up to date."""
    level = codes[columns] - grid.zero_point[:, 0]
    slope = (cost.slope(columns, errors) * level).sum(0)
    bend = (cost.bend(columns, level) * level).sum(0)
    if layout.group_size == "tensor":
        slope, bend = slope.sum(0, keepdim=True), bend.sum(0, keepdim=True)
    old = grid.scale[:, 0]
    wanted = old + torch.where(bend > 0, slope / bend, 0)
    wanted = torch.where(wanted > 0, wanted, old).clamp(
        max=torch.finfo(DTYPES[layout.scale_dtype]).max
    )
    new = layout.rounded(wanted.unsqueeze(1), grid.zero_point).scale[:, 0]
    step = new - old
    step = torch.where(step * (step * bend - 2 * slope) < 0, step, 0)
    errors[columns] -= level * step
    return replace(grid, scale=(old + step).unsqueeze(1), stored=None)


def _round_again(
    cost: Quadratic, columns: slice, codes: Tensor, errors: Tensor, grid: Grid
) -> None:
    """Give some columns, one by one, their best codes; bring their errors up to date."""
    slope, inner = cost.slope(columns, errors), cost.among(columns)
    curvature = inner.diagonal().tolist()
    scale, zero = grid.scale[:, 0], grid.zero_point[:, 0]
    weight, before = cost.weight[columns], errors[columns]
    moves, found = torch.empty_like(before), torch.empty_like(before)
    for k, bend in enumerate(curvature):
        pull = torch.addmv(slope[k], moves[:k].t(), inner[k, :k]) if k else slope[k]
        best = weight[k] - before[k] + pull / bend
        found[k] = torch.round(best / scale + zero).clamp_(0, grid.top)
        moves[k] = weight[k] - (found[k] - zero) * scale - before[k]
    codes[columns] = found
    errors[columns] = before + moves
