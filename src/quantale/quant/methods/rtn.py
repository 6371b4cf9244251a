"""Round to nearest: every weight takes the closest value of its group's grid.

There is no paper: rounding is what every other method is measured against. It is the naive
method of product recipe R1 with `symmetric=True, group_size="row", bits=8`. The grid spans the
extremes of the group, or is searched: `clip="mse"` needs no data, `clip="activations"` weighs
each column with the mean square of its input, as AWQ's clipping does (Lin et al., arXiv
2306.00978, section 3.2; there without weights, over the layer's outputs).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import NumericalError, UsageError
from quantale.quant import fit
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows


@dataclass(frozen=True)
class Rtn:
    """Settings of round-to-nearest."""

    bits: int
    """1 to 8."""
    group_size: int | str = "row"
    """Columns that share a scale, "row" or "tensor"."""
    symmetric: bool = False
    """Whether the grid is centred on zero."""
    scale_dtype: str = "float16"
    """Dtype in which scales are stored."""
    zero_dtype: str | None = None
    """Dtype of floating zero points; None: whole numbers."""
    double_quant: bool = False
    """Whether scales are quantized to 8 bits a second time."""
    clip: str = "none"
    """"none", "mse" or "activations": how the grid of a group is searched."""

    def __post_init__(self) -> None:
        fit.check_clip("rtn", self.clip)

    @property
    def needs_calibration(self) -> bool:
        """Only for the search that weighs columns by their inputs."""
        return self.clip == "activations"

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` matter to `clip="activations"` alone."""
        layout = Affine(
            self.bits,
            self.group_size,
            self.symmetric,
            self.scale_dtype,
            self.zero_dtype,
            self.double_quant,
        )

        def rounded(rows: Tensor) -> PackedTensor:
            split = layout.split(rows.to(torch.float32))
            grid = self._grid(layout, split, stats)
            return layout.store(grid.codes(split), grid, (rows.shape[0], rows.shape[1]))

        return by_rows(layout, weight.detach(), rounded)

    def _grid(self, layout: Affine, split: Tensor, stats: LayerStats | None) -> Grid:
        if self.clip == "none":
            return layout.minmax(split)
        if self.clip == "mse":
            return fit.fitted(layout, split)
        if stats is None:
            raise UsageError('rtn with clip="activations" needs calibration data; none was given')
        power = stats.power()
        if not torch.isfinite(power).all():
            raise NumericalError("the inputs are not finite; look for overflow in the activations")
        return fit.fitted(layout, split, fit.columns(power, self.group_size))
