"""Choose the grid of a group by the error that its weights will have, not by their extremes.

Two searches on top of the min-max grid, both with a weight for every column:
- shrinking: the range is cut by up to `CUT`, as in OMNIQUANT's and GPTQ's clipping searches;
- refitting: with codes held fixed, scale and zero point of least squares (closed form), then new
  codes, a few times. It is Lloyd's algorithm on an evenly spaced grid, and never makes the error
  larger: a group keeps the best grid that it has seen.
The error of a group is sum over columns of importance * (weight - value)^2.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant import groups
from quantale.quant.formats.affine import Affine, Grid

CLIPS = ("none", "mse", "activations")
"""No search; every weight counts alike; weights count by the mean square of their input."""
_CUT, _STEPS, _REFITS = 0.7, 14, 3
_CHUNK = 1 << 16
"""Weights that are searched at a time, so that they stay in the cache."""


@dataclass(frozen=True)
class _Best:
    """The best grid of every group so far, and its error."""

    scale: Tensor
    zero_point: Tensor
    error: Tensor

    def better(self, grid: Grid, error: Tensor) -> "_Best":
        """Take the new grid where its error is smaller."""
        won = error < self.error
        return _Best(
            torch.where(won, grid.scale, self.scale),
            torch.where(won, grid.zero_point, self.zero_point),
            torch.where(won, error, self.error),
        )


def check_clip(owner: str, clip: str) -> None:
    """Raise UsageError for what is no clip search."""
    if clip not in CLIPS:
        raise UsageError(f"{owner}: clip must be one of {', '.join(CLIPS)}, {clip!r} came")


def fitted(layout: Affine, split: Tensor, importance: Tensor | None = None) -> Grid:
    """Return the grid of the smallest error found for (out, groups, size) float32 weights.

    importance: (groups, size), not negative; None: all columns count alike.
    """
    if layout.group_size == "tensor":
        return _fitted_whole(layout, split, importance)
    weight = torch.ones_like(split[0]) if importance is None else _usable(importance)
    single = replace(layout, double_quant=False)  # scales are quantized together, at the end
    rows = max(1, _CHUNK // split[0].numel())
    found = [_searched(single, part, weight) for part in torch.split(split, rows)]
    scale = torch.cat([best.scale for best in found])
    return layout.rounded(scale, torch.cat([best.zero_point for best in found]))


def columns(importance: Tensor, group_size: int | str) -> Tensor:
    """View importances (in,) as (groups, size), the padding with importance zero."""
    return groups.split(importance.unsqueeze(0), group_size)[0]


def _searched(layout: Affine, split: Tensor, weight: Tensor) -> _Best:
    first = layout.minmax(split)
    best = _Best(first.scale, first.zero_point, _error(first, split, weight))
    return _refitted(layout, split, weight, _shrunk(layout, split, weight, best))


def _usable(importance: Tensor) -> Tensor:
    """A group whose inputs are all dead is searched as if its columns counted alike."""
    dead = importance.sum(-1, keepdim=True) <= 0
    return torch.where(dead, torch.ones_like(importance), importance)


def _error(grid: Grid, split: Tensor, weight: Tensor) -> Tensor:
    """Return the error of every group, (out, groups)."""
    wrong = grid.values(grid.codes(split)).sub_(split)
    return wrong.square_().mul_(weight).sum(-1)


def _shrunk(layout: Affine, split: Tensor, weight: Tensor, best: _Best) -> _Best:
    low, high = split.amin(-1), split.amax(-1)
    for step in range(1, _STEPS + 1):
        keep = 1 - _CUT * step / _STEPS
        grid = layout.grid(low * keep, high * keep)
        best = best.better(grid, _error(grid, split, weight))
    return best


def _refitted(layout: Affine, split: Tensor, weight: Tensor, best: _Best) -> _Best:
    for _ in range(_REFITS):
        now = Grid(best.scale, best.zero_point, layout.top)
        codes = now.codes(split)
        scale, zero = _least_squares(layout, split, codes, weight, now)
        grid = layout.rounded(scale, zero)
        best = best.better(grid, _error(grid, split, weight))
    return best


def _least_squares(
    layout: Affine, split: Tensor, codes: Tensor, weight: Tensor, now: Grid
) -> tuple[Tensor, Tensor]:
    """Return scale and zero point (out, groups) that are best for fixed codes.

    A symmetric grid, or one of whole zero points, keeps its zero point and fits the scale alone.
    """
    if layout.zero_dtype is None:
        level = codes - now.zero_point.unsqueeze(-1)
        power = (weight * level.square()).sum(-1)
        scale = (weight * level * split).sum(-1) / power.clamp(min=1e-30)
        return torch.where((power > 0) & (scale > 0), scale, now.scale), now.zero_point
    total = weight.sum(-1)
    mean_code, mean = (weight * codes).sum(-1) / total, (weight * split).sum(-1) / total
    off = codes - mean_code.unsqueeze(-1)
    power = (weight * off.square()).sum(-1)
    scale = (weight * off * split).sum(-1) / power.clamp(min=1e-30)
    usable = (power > 0) & (scale > 0)
    scale = torch.where(usable, scale, now.scale)
    return scale, torch.where(usable, mean_code - mean / scale, now.zero_point)


def _fitted_whole(layout: Affine, split: Tensor, importance: Tensor | None) -> Grid:
    """Return the one grid of a whole tensor: the best shrinking."""
    weight = torch.ones_like(split[0]) if importance is None else _usable(importance)
    low, high = split.amin(-1), split.amax(-1)
    kept = [1 - _CUT * step / _STEPS for step in range(_STEPS + 1)]
    grids = [layout.grid(low * keep, high * keep) for keep in kept]
    return min(grids, key=lambda grid: float(_error(grid, split, weight).sum(dtype=torch.float64)))
