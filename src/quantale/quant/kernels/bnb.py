"""Products of the bitsandbytes library: NF4 and FP4 on CUDA, LLM.int8 on CUDA and AVX512.

bitsandbytes 0.50, functions `gemm_4bit` and `int8_mixed_scaled_mm`. The codes of 4 bits are
re-laid once, because the library keeps the first of two in the high half of a byte; the rows of
8 bits are read as they are stored. LLM.int8 on a processor without AVX512 is refused: there the
library converts the whole weight at every call, as the reference does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import EnvironmentLackingError
from quantale.quant import bnb_library, groups
from quantale.quant.formats.codebook import Codebook
from quantale.quant.formats.llm_int8 import LlmInt8
from quantale.quant.packed import PackedTensor

_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Bnb:
    """The library's products with 4-bit codebooks and LLM.int8 weights."""

    exact = False
    rank = 20
    needs = (
        "the package bitsandbytes; a CUDA device, or for LLM.int8 a processor with AVX512; "
        "the format codebook with nf4 or fp4, or llm-int8"
    )

    def lacks(self) -> list[str]:
        """Return what this machine has not."""
        try:
            bnb_library.functions()
        except EnvironmentLackingError as error:
            return [str(error)]
        if torch.cuda.is_available() or _integer_products():
            return []
        return ["needs a CUDA device or a processor with AVX512; this machine has neither"]

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        """Return why it cannot run on this input and weight."""
        reasons = [*self.lacks(), *unfit(packed)]
        eight, device = isinstance(packed.format, LlmInt8), x.device.type
        if device != "cuda" and not (eight and device == "cpu" and _integer_products()):
            reasons.append(f"needs a CUDA device; the input is on {device}")
        if packed.tensors["weight"].device != x.device:
            reasons.append("needs input and weight on one device")
        if x.dtype not in _DTYPES:
            reasons.append(f"needs an input of 16 or 32 bits; it is {x.dtype}")
        if x.requires_grad and torch.is_grad_enabled():
            reasons.append("has no gradient; the input asks for one")
        return reasons

    def prepare(self, packed: PackedTensor) -> tuple[Tensor, ...]:
        """Return codes in the library's order and float32 scales; nothing for LLM.int8."""
        layout = packed.format
        if not isinstance(layout, Codebook):
            return ()
        stored = packed.tensors["weight"]
        swapped = (stored >> 4) | (stored << 4)
        return swapped.view(-1, 1), layout.store_of_scales.read(packed.tensors).flatten()

    def linear(
        self, x: Tensor, packed: PackedTensor, bias: Tensor | None, prepared: tuple[Tensor, ...]
    ) -> Tensor:
        """Multiply: x (..., in) -> (..., out)."""
        flat, layout = x.reshape(-1, packed.shape[1]), packed.format
        bias = None if bias is None else bias.to(x.dtype)
        if not len(flat):
            out = flat.new_zeros(0, packed.shape[0])
        elif isinstance(layout, LlmInt8):
            out = _eight_bits(flat, packed, layout, bias)
        else:
            assert isinstance(layout, Codebook)
            block = groups.size(layout.group_size, packed.shape[1])
            out = torch.ops.bitsandbytes.gemm_4bit(
                flat, prepared[0], list(packed.shape), prepared[1], block, layout.table, bias
            )
        return out.to(x.dtype).view(*x.shape[:-1], packed.shape[0])


def unfit(packed: PackedTensor) -> list[str]:
    """Return why the stored weight has not the form that the library reads."""
    layout, width = packed.format, packed.shape[1]
    if isinstance(layout, LlmInt8):
        return []
    if not isinstance(layout, Codebook) or layout.table not in ("nf4", "fp4"):
        return ["reads nf4 and fp4 codebooks and llm-int8; the weight has another format"]
    if layout.group_size == "tensor":
        return ["needs a scale a block; there is one for the whole weight"]
    block = groups.size(layout.group_size, width)
    if block not in _BLOCKS or width % block:
        return [f"needs blocks of 32 to 4096 columns that divide the width; {block} of {width}"]
    return []


def _eight_bits(flat: Tensor, packed: PackedTensor, layout: LlmInt8, bias: Tensor | None) -> Tensor:
    """Multiply (rows, in) inputs as the library's LLM.int8 layer does."""
    library = bnb_library.functions()
    half = flat.to(torch.float16, copy=True)  # the library writes into it meanwhile
    codes, scale, columns = library.int8_vectorwise_quant(half, threshold=layout.threshold)
    stored, largest = layout.codes(packed), packed.tensors["scale"].squeeze(1)
    out, _ = torch.ops.bitsandbytes.int8_mixed_scaled_mm(
        flat, codes, stored, scale, largest, columns, bias
    )
    return out


def _integer_products() -> bool:
    """Say whether the library multiplies int8 by int8 on this processor."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
