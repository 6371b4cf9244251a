"""LLM.int8 format: rows of int8 codes; inputs of 8 bits, but for columns with outliers.

Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", arXiv
2208.07339, sections 3.1 and 3.2. Every input vector is rounded to 127 steps of its largest
magnitude. Columns of the input in which any vector reaches the threshold are multiplied in full
precision instead, all vectors of the call together: a result depends on what is in its batch.

As in bitsandbytes, inputs are rounded to float16 before they are quantized, and the largest
magnitude of a vector leaves out its own outliers, not what else their columns hold. Difference:
one product of rounded inputs with dequantized weights, summed in float32, where bitsandbytes sums
whole numbers and multiplies them by 6.200124e-5 for 1 / 127^2 (1.8e-5 too much).

Stored tensors of an (out, in) weight:
  weight  (out, 1, in) uint8: int8 codes in two's complement, -127 to 127
  scale   (out, 1) float32: the largest magnitude of the row, for which code 127 stands
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import UsageError
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import joined

_TOP = 127
_STEP = 1 / 127
_LARGEST = 65504.0
"""Of float16."""


@dataclass(frozen=True)
class LlmInt8:
    """Settings of LLM.int8; raises UsageError for a threshold below zero."""

    threshold: float = 6.0
    """Input columns that reach this magnitude stay in full precision; 0: none do."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < float("inf"):
            raise UsageError(f"llm-int8: threshold must be 0 or more, {self.threshold} came")

    @property
    def rows_are_apart(self) -> bool:
        """Whether no two rows share a scale."""
        return True

    def settings(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return the shape and dtype of every stored tensor."""
        return {
            "weight": ((shape[0], 1, shape[1]), torch.uint8),
            "scale": ((shape[0], 1), torch.float32),
        }

    def store(self, codes: Tensor, scale: Tensor) -> PackedTensor:
        """Pack (out, in) int8 codes and the largest magnitude of each row, (out,) float32."""
        tensors = {
            "weight": codes.contiguous().view(torch.uint8).unsqueeze(1),
            "scale": scale.to(torch.float32).unsqueeze(1),
        }
        return PackedTensor(self, (codes.shape[0], codes.shape[1]), tensors)

    def codes(self, packed: PackedTensor) -> Tensor:
        """Return the (out, in) int8 codes, a view of what is stored."""
        return packed.tensors["weight"].view(torch.int8).squeeze(1)

    def dequantize(self, packed: PackedTensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight, computed in float32 and then cast."""
        codes, scale = self.codes(packed), packed.tensors["scale"]
        return joined(packed.shape, dtype, lambda rows: codes[rows] * scale[rows] * _STEP)

    def rows(self, packed: PackedTensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows of the weight without unpacking the others: (...) -> (..., in)."""
        return (self.codes(packed)[index] * packed.tensors["scale"][index] * _STEP).to(dtype)

    def apply(self, x: Tensor, packed: PackedTensor, bias: Tensor | None) -> Tensor:
        """Multiply (..., in) -> (..., out) in float32, with inputs rounded to 8 bits.

        Gradients pass the rounding as if it were not there (straight-through estimator).
        """
        exact = x.reshape(-1, packed.shape[1]).to(torch.float32)
        if len(exact):
            exact = exact + (self._rounded(exact.detach()) - exact.detach())
        out = functional.linear(exact, self.dequantize(packed))
        out = out if bias is None else out + bias
        return out.to(x.dtype).view(*x.shape[:-1], packed.shape[0])

    def _rounded(self, exact: Tensor) -> Tensor:
        """Return (rows, in) inputs as the product sees them."""
        half = exact.clamp(-_LARGEST, _LARGEST).to(torch.float16).to(torch.float32)
        outlier = half.abs() >= self.threshold if self.threshold else torch.zeros_like(half) > 0
        kept = torch.where(outlier, 0.0, half)
        largest = kept.abs().amax(-1, keepdim=True)
        inverse = _TOP / torch.where(largest > 0, largest, 1.0)
        rounded = torch.round(kept * inverse) * (largest * _STEP)
        return torch.where(outlier.any(0), exact, rounded)
