"""NF4 through the bitsandbytes library: its codes, its scales, its double quantization.

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314, section 3.
For whoever wants exactly what that library stores; `nf4` needs no package and gives the same
codes. Differences from the library's layers: a width that is no multiple of the block is padded
with zeros row by row, where the library's blocks run on into the next row; the layer computes in
the dtype of its input, so that there is no compute type to choose.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import NumericalError, UsageError
from quantale.quant import bnb_library, groups
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.codebook import Codebook
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows

_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class BnbNf4:
    """Settings of bitsandbytes' NF4."""

    group_size: int | str = 64
    """The library's block size: 32 to 4096, a power of two."""
    double_quant: bool = True
    """Whether scales are quantized to 8 bits a second time."""

    needs_calibration = False

    def __post_init__(self) -> None:
        if self.group_size not in _BLOCKS:
            raise UsageError(
                f"bnb-nf4: group_size must be one of {', '.join(map(str, _BLOCKS))}, "
                f"{self.group_size!r} came"
            )
        bnb_library.require("bnb-nf4")

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        layout = Codebook("nf4", self.group_size, "float32", self.double_quant)
        return by_rows(layout, weight.detach(), lambda rows: self._looked_up(layout, rows))

    def _looked_up(self, layout: Codebook, weight: Tensor) -> PackedTensor:
        block, (rows, width) = int(self.group_size), weight.shape
        padded = functional.pad(weight.to(torch.float32), (0, -width % block))
        stored, state = bnb_library.functions().quantize_4bit(
            padded.contiguous(),
            blocksize=block,
            compress_statistics=self.double_quant,
            quant_type="nf4",
        )
        pairs = stored.view(rows, -1, block // 2)  # the first code of a pair in the high half
        codes = torch.stack([pairs >> 4, pairs & 15], -1).flatten(-2)
        codes = codes[..., : groups.size(block, width)]
        scales = {"scale": state.absmax.view(rows, -1)}
        if self.double_quant:
            scales |= {"scale_absmax": state.state2.absmax, "scale_mean": state.offset.reshape(1)}
        if not all(torch.isfinite(tensor).all() for tensor in scales.values()):
            raise NumericalError("the scales are too large for bitsandbytes")
        return layout.store(codes, scales, (rows, width))
