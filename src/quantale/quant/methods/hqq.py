"""HQQ: the zero points that leave a sparse error, found by half-quadratic splitting.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023
(https://mobiusml.github.io/hqq_blog, no paper): minimise |W - dequantized|_p with p < 1 by turns
over the error (generalized soft threshold, equation of sub-problem 1) and the zero point (mean,
sub-problem 2), the scale being that of the min-max grid. Needs no data. Zero points are floating.

Differences: codes are chosen last, against scale and zero point as stored; the iteration of the
least mean |error| is kept group by group, where the authors' package stops all groups together by
that measure, and the solver stops by chunks of rows; with axis 0 a group holds neighbouring rows
of a column, not rows that lie out / group_size apart. Widths need not be multiples of
the group. The penalty stays constant, as in the package (0.2.8); the article lets it grow by 1.01 a
turn, which leaves 3 % more error at one bit where |W| is near 1.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows

_CHUNK = 1 << 16
"""Weights that are worked on at a time, so that they stay in the cache."""
_ENOUGH = 1e-3
"""The solver stops when a turn lowers the error of a chunk by less than this share."""
_SMALLEST = 1e-9
"""Of a weight's error: its negative power stays finite."""


@dataclass(frozen=True)
class Hqq:
    """Settings of half-quadratic quantization."""

    bits: int
    """1 to 8."""
    group_size: int | str = 64
    """Columns that share scale and zero point, "row" or "tensor"."""
    scale_dtype: str = "float16"
    """Dtype in which scales and zero points are stored."""
    double_quant: bool = False
    """Whether scales are quantized to 8 bits a second time."""
    axis: int = 1
    """1: groups along the input, which kernels read fast; 0: along the output."""
    norm: float = 0.7
    """The p of the error's norm, above 0 and at most 1."""
    iterations: int = 20
    """Turns of the solver."""
    beta: float = 10.0
    """Weight of the splitting penalty at the start."""
    kappa: float = 1.0
    """Growth of the penalty a turn; 1.01 in the article, none in the package."""

    round_zero: bool | None = None
    """Whether the solver begins at whole zero points, so that 0 has a code of its own. It guards
    weights whose small columns meet large inputs. None: at 4 bits, as in the package."""

    needs_calibration = False

    def __post_init__(self) -> None:
        if not 0 < self.norm <= 1:
            raise UsageError(f"hqq: norm must lie in (0, 1], {self.norm} came")
        if self.group_size == "tensor":
            raise UsageError("hqq: zero points are one a group or row, not one a tensor")
        if self.iterations < 0 or self.beta <= 0 or self.kappa < 1:
            raise UsageError("hqq: iterations >= 0, beta > 0 and kappa >= 1 are wanted")

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        layout = Affine(
            self.bits,
            self.group_size,
            scale_dtype=self.scale_dtype,
            zero_dtype=self.scale_dtype,
            double_quant=self.double_quant,
            axis=self.axis,
        )
        return by_rows(layout, weight.detach(), lambda rows: self._solved(layout, rows))

    def _solved(self, layout: Affine, weight: Tensor) -> PackedTensor:
        weight = weight.to(torch.float32)
        split = layout.split(weight)
        line = weight[:1] if self.axis else weight[:, :1]
        real = layout.split(torch.ones_like(line))  # (1, groups, size), 0 where a group is padded
        start = self._start(layout, split, real)
        rows = max(1, _CHUNK // split[0].numel())
        found = [
            self._zero_points(part, Grid(scale, zero, layout.top), real)
            for part, scale, zero in zip(
                torch.split(split, rows),
                torch.split(start.scale, rows),
                torch.split(start.zero_point, rows),
                strict=True,
            )
        ]
        grid = layout.moved(start, torch.cat(found))
        return layout.store(grid.codes(split), grid, (weight.shape[0], weight.shape[1]))

    def _start(self, layout: Affine, split: Tensor, real: Tensor) -> Grid:
        """Return the min-max grid, the padding left out; its zero points whole where asked."""
        inside = real.expand_as(split) > 0
        low = torch.where(inside, split, float("inf")).amin(-1)
        high = torch.where(inside, split, -float("inf")).amax(-1)
        grid = layout.grid(low, high)
        is_whole = self.bits == 4 if self.round_zero is None else self.round_zero
        return replace(grid, zero_point=grid.zero_point.round()) if is_whole else grid

    def _zero_points(self, split: Tensor, grid: Grid, real: Tensor) -> Tensor:
        """Return the best zero points (out, groups) that the solver meets.

        All in units of the scale, where the error e is weight + zero - code, and the mean of the
        second sub-problem moves the zero by that of the part of e that the threshold cut off.
        They are rounded when the solver is done: rounded at every turn they would stand still.
        """
        wanted, members = split / grid.scale.unsqueeze(-1), real.sum(-1)
        padded = bool((members < real.shape[-1]).any())
        steepness = grid.scale.pow(self.norm - 2).unsqueeze(-1)
        zero = best = grid.zero_point
        beta, least = self.beta, torch.full_like(best, float("inf"))
        codes, size = torch.empty_like(wanted), torch.empty_like(wanted)
        for _ in range(self.iterations + 1):
            off = wanted + zero.unsqueeze(-1)
            torch.round(off, out=codes)
            off.sub_(codes.clamp_(0, grid.top))
            if padded:
                off.mul_(real)
            error = torch.abs(off, out=size).sum(-1)
            best, gained = torch.where(error < least, zero, best), (least - error) * grid.scale
            least = torch.minimum(error, least)
            if float(gained.clamp(min=0).sum()) <= _ENOUGH * float((least * grid.scale).sum()):
                break
            cut = torch.clamp(size, min=_SMALLEST, out=codes).pow_(self.norm - 1)
            cut = torch.minimum(cut.mul_(steepness / beta), size, out=codes).copysign_(off)
            zero = zero - cut.sum(-1) / members
            beta *= self.kappa
        return best
