"""HQQ: the zero points that leave a sparse error, found by half-quadratic splitting.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023
(https://mobiusml.github.io/hqq_blog, no paper): minimise |W - dequantized|_p with p < 1 by turns
over the error (generalized soft threshold, equation of sub-problem 1) and the zero point (mean,
sub-problem 2), the scale being that of the min-max grid. Needs no data. Zero points are floating.

Differences: codes are chosen last, against scale and zero point as stored; the best iteration is
kept group by group instead of stopping all groups together; with axis 0 a group holds neighbouring
rows of a column, not rows that lie out / group_size apart; no zero point is rounded to a whole
number. Widths need not be multiples of the group.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor


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
    kappa: float = 1.01
    """Growth of the penalty a turn."""

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
        weight = weight.detach().to(torch.float32)
        split = layout.split(weight)
        real = layout.split(torch.ones_like(weight))[:1]  # 0 where a group is padded
        grid = self._solved(layout, split, real)
        return layout.store(grid.codes(split), grid, (weight.shape[0], weight.shape[1]))

    def _solved(self, layout: Affine, split: Tensor, real: Tensor) -> Grid:
        """Return the grid after the solver, from the min-max grid of the same scales."""
        inside = real.expand_as(split) > 0
        low = torch.where(inside, split, float("inf")).amin(-1)
        high = torch.where(inside, split, -float("inf")).amax(-1)
        grid = layout.grid(low, high)
        best, least, beta = grid, self._error(grid, split, real), self.beta
        for _ in range(self.iterations):
            grid = layout.rounded(grid.scale, self._zero_point(grid, split, real, beta))
            error = self._error(grid, split, real)
            won = error < least
            zero = torch.where(won, grid.zero_point, best.zero_point)
            best, least = layout.rounded(best.scale, zero), torch.where(won, error, least)
            beta *= self.kappa
        return best

    def _zero_point(self, grid: Grid, split: Tensor, real: Tensor, beta: float) -> Tensor:
        """Return the zero points (out, groups) of one turn: both sub-problems."""
        codes, scale = grid.codes(split), grid.scale.unsqueeze(-1)
        wrong = split - grid.values(codes)
        shrunk = wrong.abs() - wrong.abs().clamp(min=1e-12).pow(self.norm - 1) / beta
        error = wrong.sign() * shrunk.clamp(min=0)
        return ((codes - (split - error) / scale) * real).sum(-1) / real.sum(-1)

    def _error(self, grid: Grid, split: Tensor, real: Tensor) -> Tensor:
        """Return the p-norm error of every group, (out, groups)."""
        wrong = (grid.values(grid.codes(split)) - split).abs() * real
        return wrong.pow(self.norm).sum(-1)
