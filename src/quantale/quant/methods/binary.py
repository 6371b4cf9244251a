"""Binary: the sign of every weight, times the mean magnitude of its group. One bit a weight.

Rastegari et al., "XNOR-Net", arXiv 1603.05279, section 3.1: for a fixed group the signs with the
mean magnitude are the least-squares solution (equations 4 to 6). With `symmetric=False` a group
has two free values instead, those of least squares: the best split of its sorted weights into
two parts, each at its mean, which also serves weights that are not centred on zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows


@dataclass(frozen=True)
class Binary:
    """Settings of binarization."""

    group_size: int | str = 64
    """Columns that share a scale, "row" or "tensor"."""
    symmetric: bool = True
    """Whether the two values of a group are opposite numbers."""
    scale_dtype: str = "float16"
    """Dtype in which scales (and floating zero points) are stored."""

    needs_calibration = False

    def __post_init__(self) -> None:
        if not self.symmetric and self.group_size == "tensor":
            raise UsageError("binary: two free values need groups or rows, not the whole tensor")

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        zero_dtype = None if self.symmetric else self.scale_dtype
        layout = Affine(1, self.group_size, self.symmetric, self.scale_dtype, zero_dtype)
        return by_rows(layout, weight.detach(), lambda rows: self._signed(layout, rows))

    def _signed(self, layout: Affine, weight: Tensor) -> PackedTensor:
        weight = weight.to(torch.float32)
        split = layout.split(weight)
        real = layout.split(torch.ones_like(weight[:1]))  # 0 where a group is padded
        grid = _signs(layout, split, real) if self.symmetric else _two_means(layout, split, real)
        return layout.store(grid.codes(split), grid, (weight.shape[0], weight.shape[1]))


def _signs(layout: Affine, split: Tensor, real: Tensor) -> Grid:
    """Return the grid of -mean |w| and mean |w|."""
    total, count = split.abs().sum(-1, dtype=torch.float64), real.sum(-1)
    if layout.group_size == "tensor":
        total = total.sum().reshape(1, 1)
        count = (count.sum() * split.shape[0]).reshape(1, 1)
    return layout.rounded((2 * total / count).to(torch.float32))


def _two_means(layout: Affine, split: Tensor, real: Tensor) -> Grid:
    """Return the grid whose two values leave the least squared error, tried at every split."""
    low, high, least = split.mean(-1), split.mean(-1), torch.full(split.shape[:2], float("inf"))
    ordered, _ = torch.where(real > 0, split, float("inf")).sort(-1)
    counts = real.sum(-1)  # (1, groups)
    ordered = torch.where(torch.isfinite(ordered), ordered, 0.0).to(torch.float64)
    sums = ordered.cumsum(-1)
    total = sums[..., -1]
    for size in range(1, split.shape[-1]):
        left, right = sums[..., size - 1] / size, counts - size
        rest = (total - sums[..., size - 1]) / right.clamp(min=1)
        gain = -(left.square() * size + rest.square() * right)
        won = (gain < least) & (right > 0)
        least = torch.where(won, gain, least.to(torch.float64))
        low = torch.where(won, left, low.to(torch.float64))
        high = torch.where(won, rest, high.to(torch.float64))
    return layout.grid(low.to(torch.float32), high.to(torch.float32))
