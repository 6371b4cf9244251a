"""bitsandbytes through its functional interface: NF4, FP4 and the weights of LLM.int8.

The quantization of activations that belongs to LLM.int8 is not in the dequantized model, so its
divergence here is a lower bound. The packing for CPUs, which damages weights, is never reached.
"""

from dataclasses import dataclass

import torch
from bitsandbytes import functional
from torch import Tensor

from benchmarks.peers.contract import Given, Made
from benchmarks.peers.weightwise import Packed, quantize_weights


@dataclass(frozen=True)
class Bitsandbytes:
    """Settings of bitsandbytes."""

    kind: str = "nf4"
    """"nf4", "fp4" or "int8"."""
    block_size: int = 64
    """Weights that share a scale, over the flattened weight; not for int8, which has rows."""
    double_quant: bool = False
    """Whether the scales are quantized to 8 bits."""

    distribution = "bitsandbytes"
    needs_calibration = False

    def run(self, given: Given) -> Made:
        """Quantize every linear layer."""
        if self.kind == "int8":
            return quantize_weights(given, _pack_int8, "without its quantization of activations")
        return quantize_weights(given, self._pack_4bit)

    def _pack_4bit(self, weight: Tensor) -> Packed:
        codes, state = functional.quantize_4bit(
            weight,
            blocksize=self.block_size,
            compress_statistics=self.double_quant,
            quant_type=self.kind,
        )
        tensors = {"weight": codes, "absmax": state.absmax}
        if self.double_quant:
            tensors |= {"nested": state.state2.absmax, "offset": state.offset.reshape(1)}
        return Packed(tensors, lambda: functional.dequantize_4bit(codes, state))


def _pack_int8(weight: Tensor) -> Packed:
    codes, scale, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
    tensors = {"weight": codes, "SCB": scale}
    return Packed(tensors, lambda: functional.int8_vectorwise_dequant(codes, scale))
