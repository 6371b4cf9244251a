"""HQQ through its own layer, after Conv1D became Linear.

Scales and zero points are kept in float16, as its default compute type does; the weights are
dequantized in float32 from them. Its packing loses rows when a weight has a number of groups that
does not fill whole bytes; then the MLP is padded with zeros, and counts as padded.
"""

from dataclasses import dataclass

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear, Quantizer
from torch import Tensor, nn

from benchmarks.peers.contract import Given, Made
from benchmarks.peers.linears import block_linears, load, out_in
from benchmarks.peers.weightwise import Packed, quantize_padded, quantize_weights


@dataclass(frozen=True)
class Hqq:
    """Settings of HQQ."""

    bits: int = 4
    """8, 4, 3, 2 or 1 (5 and 6 are stored as 8)."""
    group_size: int = 64
    """Must divide the number of weights; groups may cross rows."""
    axis: int = 1
    """1: groups along the inputs; 0: along the outputs."""

    distribution = "hqq"
    needs_calibration = False

    def run(self, given: Given) -> Made:
        """Quantize every linear layer."""
        weights = [out_in(module) for module in block_linears(load(given.folder)).values()]
        if self.axis == 0 or all(self._fills_bytes(weight.numel()) for weight in weights):
            return quantize_weights(given, self._pack)
        return quantize_padded(given, self.group_size, self._pack)

    def _fills_bytes(self, elements: int) -> bool:
        return self.bits == 3 or (elements // self.group_size) % (8 // self.bits) == 0

    def _pack(self, weight: Tensor) -> Packed:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data = weight
        config = BaseQuantizeConfig(self.bits, self.group_size, axis=self.axis)
        layer = HQQLinear(linear, config, compute_dtype=torch.float16, device="cpu")
        meta = layer.meta
        tensors = {"W_q": layer.W_q.data, "scale": meta["scale"], "zero": meta["zero"]}
        exact = {"compute_dtype": torch.float32}
        exact |= {key: meta[key].to(torch.float32) for key in ("scale", "zero")}
        return Packed(tensors, lambda: Quantizer.dequantize(layer.W_q.data, meta | exact))
