"""BitNet b1.58: weights of -1, 0 and 1 times the mean magnitude, inputs of 8 bits.

Ma et al., "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits", arXiv
2402.17764, equations 1 to 3 (absmean). Needs no data. Made for weights that were trained with
it: applied to others it costs most of their quality.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.quant.calibration import LayerStats
from quantale.quant.formats.ternary import Ternary
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows


@dataclass(frozen=True)
class Bitnet:
    """Settings of BitNet's absmean quantization."""

    group_size: int | str = "tensor"
    """"tensor" as in the paper; "row" or a number of columns for more scales."""
    scale_dtype: str = "float32"
    """Dtype in which scales are stored."""
    activation_bits: int | None = 8
    """8 as in the paper, or None for inputs that stay as they are."""

    needs_calibration = False

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        layout = Ternary(self.group_size, self.scale_dtype, self.activation_bits)
        return by_rows(layout, weight.detach(), lambda rows: self._rounded(layout, rows))

    def _rounded(self, layout: Ternary, weight: Tensor) -> PackedTensor:
        split = layout.split(weight.to(torch.float32))
        scale = layout.store_of_scales.rounded(self._absmean(split, weight.shape[1]))
        unit = split / torch.where(scale > 0, scale, 1.0).unsqueeze(-1)
        trits = torch.round(unit).clamp(-1, 1)
        return layout.store(trits, scale, (weight.shape[0], weight.shape[1]))

    def _absmean(self, split: Tensor, width: int) -> Tensor:
        """Return the mean magnitude of every group, the padding not counted."""
        if self.group_size == "tensor":
            return split.abs().mean(dtype=torch.float64).to(torch.float32).reshape(1, 1)
        _, count, size = split.shape
        sizes = torch.full((count,), float(size), device=split.device)
        sizes[-1] = width - (count - 1) * size
        return (split.abs().sum(-1, dtype=torch.float64) / sizes).to(torch.float32)
