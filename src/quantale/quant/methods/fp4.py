"""FP4: the nearest of fifteen values with one sign, two exponent and one mantissa bit.

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314, section 4,
which compares it with NF4. Needs no data. Codes and scales equal those of bitsandbytes where the
group divides the width; elsewhere a group ends with its row, which bitsandbytes' blocks do not.
"""

from dataclasses import dataclass

from torch import Tensor

from quantale.quant.calibration import LayerStats
from quantale.quant.formats.codebook import Codebook
from quantale.quant.lookup import quantize_absmax
from quantale.quant.packed import PackedTensor


@dataclass(frozen=True)
class Fp4:
    """Settings of FP4."""

    group_size: int | str = 64
    """Columns that share a scale, "row" or "tensor"."""
    scale_dtype: str = "float32"
    """Dtype in which scales are stored."""
    double_quant: bool = False
    """Whether scales are quantized to 8 bits a second time."""

    needs_calibration = False

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        layout = Codebook("fp4", self.group_size, self.scale_dtype, self.double_quant)
        return quantize_absmax(layout, weight)
