"""Round to nearest: every weight takes the closest value of a min-max grid. Needs no data.

There is no paper: rounding is what every other method is measured against. It is the naive
method of product recipe R1 with `symmetric=True, group_size="row", bits=8`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine
from quantale.quant.packed import PackedTensor


@dataclass(frozen=True)
class Rtn:
    """Settings of round-to-nearest."""

    bits: int
    """2 to 8."""
    group_size: int | str = "row"
    """Columns that share a scale, "row" or "tensor"."""
    symmetric: bool = False
    """Whether the grid is centred on zero."""
    scale_dtype: str = "float16"
    """Dtype in which scales are stored."""

    needs_calibration = False

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        layout = Affine(self.bits, self.group_size, self.symmetric, self.scale_dtype)
        split = layout.split(weight.detach().to(torch.float32))
        grid = layout.minmax(split)
        return layout.store(grid.codes(split), grid, (weight.shape[0], weight.shape[1]))
