"""LLM.int8 through the bitsandbytes library: rows of int8 codes, inputs of 8 bits, outliers apart.

Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", arXiv
2208.07339, section 3. Needs no data. As in the library, weights are rounded to float16 first: what
is smaller than 6e-8 becomes zero, and what is larger than 65504 is an error.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import NumericalError
from quantale.quant import bnb_library
from quantale.quant.calibration import LayerStats
from quantale.quant.formats.llm_int8 import LlmInt8
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows


@dataclass(frozen=True)
class BnbInt8:
    """Settings of LLM.int8."""

    threshold: float = 6.0
    """Input columns that reach this magnitude stay in full precision; 0: none do."""

    needs_calibration = False

    def __post_init__(self) -> None:
        LlmInt8(self.threshold)  # checks the threshold
        bnb_library.require("bnb-int8")

    def quantize(self, weight: Tensor, stats: LayerStats | None = None) -> PackedTensor:
        """Quantize weight: (out, in) float. `stats` is not used."""
        del stats
        return by_rows(LlmInt8(self.threshold), weight.detach(), self._rounded)

    def _rounded(self, weight: Tensor) -> PackedTensor:
        half = weight.to(torch.float16).contiguous()
        if not torch.isfinite(half).all():
            raise NumericalError(
                f"a weight of {float(weight.abs().max()):.3g} does not fit float16, in which "
                "LLM.int8 takes weights; use another method"
            )
        codes, scale, _ = bnb_library.functions().int8_vectorwise_quant(half)
        codes = torch.where(scale.unsqueeze(-1) > 0, codes, 0)  # the library divides by zero
        return LlmInt8(self.threshold).store(codes, scale)
