"""GPTQ: quantize column by column and let the columns still free make up for each error.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv 2210.17323, algorithm 1. With H = sum of x xT over the layer's inputs, the
error of column j, divided by the diagonal of the upper Cholesky factor U of H^-1, is spread over
the later columns along row j of U. The factor holds every inverse that optimal brain
quantization would compute after removing a column, which is what makes one pass enough.

Differences: `act_order` uses grids of the original column groups, chosen before any update
("static groups"), so that no index of columns is stored; dead columns (inputs always zero) are
rounded to nearest instead of being zeroed; damping grows tenfold until the factorisation works.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import NumericalError, UsageError
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor

_MAX_DAMP = 10.0


@dataclass(frozen=True)
class Gptq:
    """Settings of GPTQ."""

    bits: int
    """2 to 8."""
    group_size: int | str = "row"
    """Columns that share a scale, "row" or "tensor"."""
    symmetric: bool = False
    """Whether the grid is centred on zero."""
    act_order: bool = False
    """Quantize columns by falling diagonal of the Hessian."""
    static_groups: bool = False
    """Choose all grids from the original weights; implied by `act_order`."""
    damp: float = 0.01
    """Share of the mean diagonal that is added to the diagonal."""
    block_size: int = 128
    """Columns after which the error is spread over the rest of the matrix; changes only speed."""
    scale_dtype: str = "float16"
    """Dtype in which scales are stored."""

    needs_calibration = True

    def __post_init__(self) -> None:
        if not 0 < self.damp <= _MAX_DAMP:
            raise UsageError(f"gptq: damp must lie in (0, {_MAX_DAMP:g}], {self.damp} came")
        if self.block_size < 1:
            raise UsageError(f"gptq: block_size must be at least 1, {self.block_size} came")

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float, with the Hessian of its inputs.

        Raises UsageError without statistics, NumericalError when no damping helps.
        """
        if stats is None:
            raise UsageError("gptq needs calibration data; none was given")
        layout = Affine(self.bits, self.group_size, self.symmetric, self.scale_dtype)
        weight = weight.detach().to(torch.float32)
        order = self._order(stats.hessian)
        hessian = stats.hessian[order][:, order]
        factor = inverse_factor(hessian, self.damp).to(torch.float32)
        grids = _Grids(layout, weight, moving=not (self.static_groups or self.act_order))
        codes = _sweep(weight[:, order], factor, order.tolist(), grids, self.block_size)
        codes = codes[:, torch.argsort(order)]
        return layout.store(layout.split(codes), grids.joined(), (weight.shape[0], weight.shape[1]))

    def _order(self, hessian: Tensor) -> Tensor:
        if self.act_order:
            return torch.argsort(hessian.diagonal(), descending=True, stable=True)
        return torch.arange(hessian.shape[0])


def inverse_factor(hessian: Tensor, damp: float) -> Tensor:
    """Return the upper Cholesky factor U with UT U = H^-1, in float64.

    hessian: (in, in), positive semi-definite; not changed. Dead columns get a unit diagonal.
    Raises NumericalError when it is not finite or stays singular under all damping.
    """
    hessian = hessian.to(torch.float64)
    if not torch.isfinite(hessian).all():
        raise NumericalError(
            "gptq: the Hessian is not finite; look for overflow in the activations"
        )
    diagonal = hessian.diagonal().clone()
    dead = diagonal <= 0
    mean = diagonal[~dead].mean() if bool((~dead).any()) else torch.ones((), dtype=torch.float64)
    diagonal[dead] = mean
    while damp <= _MAX_DAMP:
        damped = hessian.clone()
        damped.diagonal().copy_(diagonal + damp * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                return upper
        damp *= 10
    raise NumericalError(
        "gptq: the Hessian stays singular; use more calibration data or raise damp"
    )


class _Grids:
    """The grid of every group: all from the original weight, or each when its turn comes."""

    def __init__(self, layout: Affine, weight: Tensor, *, moving: bool) -> None:
        self._layout = layout
        self.size = layout.size(weight.shape[1])
        self._whole = layout.minmax(layout.split(weight))
        self.moving = moving and layout.groups(weight.shape[1]) > 1
        self._seen: dict[int, Grid] = {}

    def at(self, column: int, weight: Tensor) -> Grid:
        """Return the grid of an original column; `weight` is the matrix as updated so far."""
        group = column // self.size
        if not self.moving:
            return self._whole.column(group)
        if group not in self._seen:
            part = weight[:, group * self.size : (group + 1) * self.size].unsqueeze(1)
            self._seen[group] = self._layout.minmax(part)
        return self._seen[group]

    def joined(self) -> Grid:
        """Return the grids of all groups side by side."""
        if not self.moving:
            return self._whole
        ordered = [self._seen[group] for group in sorted(self._seen)]
        scale = torch.cat([grid.scale for grid in ordered], dim=1)
        zero = torch.cat([grid.zero_point for grid in ordered], dim=1)
        return Grid(scale, zero, self._whole.top)


def _sweep(
    weight: Tensor, factor: Tensor, columns: list[int], grids: _Grids, block_size: int
) -> Tensor:
    """Return the codes (out, in) float32, columns in the order given; `weight` is copied.

    Errors reach the rest of a block at once and the rest of the matrix after the block. Blocks
    end where groups end, so that a moving grid sees its whole group up to date.
    """
    weight = weight.clone()
    block_size = max(1, block_size // grids.size) * grids.size if grids.moving else block_size
    codes = torch.empty_like(weight)
    width = weight.shape[1]
    for start in range(0, width, block_size):
        stop = min(start + block_size, width)
        errors = torch.zeros(weight.shape[0], stop - start)
        for j in range(start, stop):
            grid = grids.at(columns[j], weight)
            value = weight[:, j : j + 1]
            code = grid.codes(value.unsqueeze(1))
            codes[:, j] = code[:, 0, 0]
            error = (value - grid.values(code)[:, 0]) / factor[j, j]
            weight[:, j:stop] -= error * factor[j, j:stop]
            errors[:, j - start] = error[:, 0]
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes
