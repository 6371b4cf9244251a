"""GPTQ: round column by column and let each column make up for the errors before it.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv 2210.17323, algorithm 1, written as LDLQ (see quant/hessian.py), which is the
same rounding without an inverse of the Hessian.

- `act_order`: columns in the order of falling Hessian diagonal, as in the authors' code. Differs:
  no index of columns is stored. With static groups the order is free; otherwise whole groups are
  ordered, and columns inside their group, so that the grid of a group can still be chosen from
  its updated weights (GPTQModel calls this `act_group_aware`).
- `clip`: the grid of each group is searched for the smallest error that the Hessian's diagonal
  sees (quant/fit.py) instead of spanning the extremes.
- `correct`: the layer is fitted to the outputs of the full-precision model although its inputs
  come from quantized layers. Li et al., "GPTAQ", arXiv 2504.02692, and Zhang et al., "Qronos",
  arXiv 2505.11695: the sweep starts from W + W C H^-1, C = E[(r - x) xT], r being the input in
  full precision; that is the exact minimum which Qronos rounds from.
- `refine`: after the sweep, passes of coordinate descent over codes and scales (quant/descent.py).
- Dead columns (inputs always zero) are rounded to nearest instead of being zeroed.

The defaults are what serves best at equal bytes (docs/quantization.md). The paper's own algorithm
is `act_order=False, clip="none", refine=0`.

Layers are calibrated in the order of execution on what the quantized ones before them give
("true sequential"), see quant/sequential.py.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant import fit
from quantale.quant.calibration import LayerStats
from quantale.quant.descent import Quadratic, descend
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.hessian import MAX_DAMP, Factor, factorize
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows

_SWEPT = 2**24
"""Weights that are swept together; rows do not depend on one another."""


@dataclass(frozen=True)
class Gptq:
    """Settings of GPTQ."""

    bits: int
    """1 to 8."""
    group_size: int | str = "row"
    """Columns that share a scale, "row" or "tensor"."""
    symmetric: bool = False
    """Whether the grid is centred on zero."""
    act_order: bool = True
    """Quantize columns by falling diagonal of the Hessian."""
    static_groups: bool = False
    """Choose all grids from the original weights; implied by `double_quant`."""
    clip: str = "activations"
    """"none", "mse" or "activations": how the grid of a group is searched."""
    correct: float = 0.0
    """0 to 1: how much of the error of quantized inputs the layer makes up for."""
    refine: int = 2
    """Passes of coordinate descent after the sweep."""
    damp: float = 0.01
    """Share of the mean diagonal that is added to the diagonal."""
    block_size: int = 128
    """Columns whose errors are gathered before they reach the rest; changes only speed."""
    scale_dtype: str = "float16"
    """Dtype in which scales are stored."""
    zero_dtype: str | None = None
    """Dtype of floating zero points; None: whole numbers."""
    double_quant: bool = False
    """Whether scales are quantized to 8 bits a second time."""

    needs_calibration = True

    def __post_init__(self) -> None:
        fit.check_clip("gptq", self.clip)
        if not 0 < self.damp <= MAX_DAMP:
            raise UsageError(f"gptq: damp must lie in (0, {MAX_DAMP:g}], {self.damp} came")
        if self.block_size < 1:
            raise UsageError(f"gptq: block_size must be at least 1, {self.block_size} came")
        if self.refine < 0:
            raise UsageError(f"gptq: refine must be at least 0, {self.refine} came")
        if not 0 <= self.correct <= 1:
            raise UsageError(f"gptq: correct must lie in [0, 1], {self.correct} came")

    @property
    def needs_reference(self) -> bool:
        """Whether the statistics must hold the inputs in full precision too."""
        return self.correct > 0

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float, with the Hessian of its inputs.

        Raises UsageError without statistics, NumericalError when no damping helps.
        """
        if stats is None:
            raise UsageError("gptq needs calibration data; none was given")
        layout = Affine(
            self.bits,
            self.group_size,
            self.symmetric,
            self.scale_dtype,
            self.zero_dtype,
            self.double_quant,
        )
        order = self._order(layout, stats.hessian.diagonal())
        factor = factorize(stats.hessian, self.damp, order)
        weight = self._target(weight.detach().to(torch.float32), stats, factor, order)

        def rounded(rows: Tensor) -> PackedTensor:
            grids = self._grids(layout, rows, stats)
            codes = _sweep(rows.t()[order], factor, order, grids, self.block_size)
            codes, grid = codes[torch.argsort(order)], grids.joined()
            if self.refine:
                cost = Quadratic(rows.t().contiguous(), stats.hessian, factor.damp)
                codes, grid = descend(layout, cost, codes, grid, self.refine)
            shape = (rows.shape[0], rows.shape[1])
            return layout.store(layout.split(codes.t()), grid, shape)

        return by_rows(layout, weight, rounded, _SWEPT)

    @property
    def _static(self) -> bool:
        """Whether all grids are chosen before the sweep."""
        return self.static_groups or self.double_quant

    def _order(self, layout: Affine, diagonal: Tensor) -> Tensor:
        """Return the columns in the order of the sweep, (in,)."""
        if not self.act_order:
            return torch.arange(diagonal.shape[0])
        order = torch.argsort(diagonal, descending=True, stable=True)
        if self._static:
            return order
        group = torch.arange(diagonal.shape[0]) // layout.size(diagonal.shape[0])
        count = layout.groups(diagonal.shape[0])
        strength = torch.zeros(count).index_add(0, group, diagonal) / torch.bincount(group)
        rank = torch.argsort(torch.argsort(strength, descending=True, stable=True))
        return order[torch.argsort(rank[group[order]], stable=True)]

    def _target(self, weight: Tensor, stats: LayerStats, factor: Factor, order: Tensor) -> Tensor:
        """Return the weight that the sweep starts from."""
        if not self.correct:
            return weight
        if stats.cross is None:
            raise UsageError("gptq with correct > 0 needs the inputs in full precision")
        moved = factor.solve((weight @ stats.cross)[:, order])
        return weight + self.correct * moved[:, torch.argsort(order)]

    def _grids(self, layout: Affine, weight: Tensor, stats: LayerStats) -> "_Grids":
        importance = None
        if self.clip != "none":
            power = torch.ones_like(stats.absmax) if self.clip == "mse" else stats.power()
            importance = fit.columns(power, self.group_size)
        return _Grids(layout, weight, importance, moving=not self._static)


class _Grids:
    """The grid of every group: all from the original weight, or each when its turn comes."""

    def __init__(
        self, layout: Affine, weight: Tensor, importance: Tensor | None, *, moving: bool
    ) -> None:
        self._layout, self._importance = layout, importance
        self.size = layout.size(weight.shape[1])
        self.count = layout.groups(weight.shape[1])
        self.moving = moving and self.count > 1
        self._seen: dict[int, Grid] = {}
        self._whole = None if self.moving else self._choose(layout.split(weight), importance)

    def at(self, group: int) -> Grid:
        """Return the grid of a group, (out, 1) or (1, 1) tensors."""
        return self._seen[group] if self._whole is None else self._whole.column(group)

    def enter(self, group: int, where: Tensor, columns: Tensor) -> None:
        """Choose the grid of a group from its (columns, out) weights as updated so far.

        where: (columns,), which columns of the weight they are.
        """
        split = columns.new_zeros(columns.shape[1], self.size)
        split[:, where - group * self.size] = columns.t()
        importance = self._importance
        self._seen[group] = self._choose(
            split.unsqueeze(1), None if importance is None else importance[group : group + 1]
        )

    def joined(self) -> Grid:
        """Return the grids of all groups side by side."""
        if self._whole is not None:
            return self._whole
        ordered = [self._seen[group] for group in range(self.count)]
        scale = torch.cat([grid.scale for grid in ordered], dim=1)
        zero = torch.cat([grid.zero_point for grid in ordered], dim=1)
        return Grid(scale, zero, self._layout.top)

    def _choose(self, split: Tensor, importance: Tensor | None) -> Grid:
        if importance is None:
            return self._layout.minmax(split)
        return fit.fitted(self._layout, split, importance)


def _sweep(weight: Tensor, factor: Factor, order: Tensor, grids: _Grids, block_size: int) -> Tensor:
    """Return the codes (in, out) float32 of (in, out) weights, both in the order of the sweep.

    Errors of earlier blocks reach a block by one product, those inside it one by one. Blocks end
    where groups end if grids move, so that a group is up to date when its grid is chosen.
    """
    feedback = factor.unit.t()  # (in, in): row k holds what errors before it ask of column k
    groups = (order // grids.size).tolist()
    errors, codes = torch.zeros_like(weight), torch.empty_like(weight)
    for first, last in _runs(groups) if grids.moving else [(0, len(groups))]:
        if grids.moving:
            ahead = weight[first:last] + feedback[first:last, :first] @ errors[:first]
            grids.enter(groups[first], order[first:last], ahead)
        for start in range(first, last, block_size):
            stop = min(start + block_size, last)
            block = weight[start:stop] + feedback[start:stop, :start] @ errors[:start]
            inside = feedback[start:stop, start:stop]
            found = [grids.at(group) for group in groups[start:stop]]
            codes[start:stop], values = _round_block(block, weight[start:stop], inside, found)
            errors[start:stop] = weight[start:stop] - values
    return codes


def _runs(groups: list[int]) -> list[tuple[int, int]]:
    """Return where columns of one group start and end."""
    starts = [k for k, group in enumerate(groups) if not k or group != groups[k - 1]]
    return list(pairwise([*starts, len(groups)]))


def _round_block(
    block: Tensor, weight: Tensor, feedback: Tensor, grids: list[Grid]
) -> tuple[Tensor, Tensor]:
    """Return codes and values of some columns, rounded one by one.

    block: (columns, out), the weights with the feedback of earlier blocks; weight: without it.
    """
    codes, values, errors = (torch.empty_like(block) for _ in range(3))
    for k, grid in enumerate(grids):
        scale, zero = grid.scale[:, 0], grid.zero_point[:, 0]
        wanted = torch.addmv(block[k], errors[:k].t(), feedback[k, :k]) if k else block[k]
        codes[k] = torch.round(wanted / scale + zero).clamp_(0, grid.top)
        values[k] = (codes[k] - zero) * scale
        errors[k] = weight[k] - values[k]
    return codes, values
