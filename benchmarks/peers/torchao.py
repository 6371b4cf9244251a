"""torchao's weight-only configurations.

The intx ones keep every code in an int8, whatever its width; here they count as if they were
packed at their width, which favours torchao, and the note says how much it really stores.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchao.quantization import (
    Int4WeightOnlyConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    PerGroup,
    quantize_,
)
from torchao.quantization.quant_primitives import MappingType

from benchmarks.peers.contract import Given, Made
from benchmarks.peers.weightwise import Packed, quantize_padded, quantize_weights

_NOTE = "intx is counted as packed; it keeps each code in an int8"


@dataclass(frozen=True)
class Torchao:
    """Settings of torchao."""

    kind: str = "intx"
    """"int8" (a scale a row), "intx" or "int4"."""
    bits: int = 4
    """1 to 8, for intx."""
    group_size: int = 64
    """Columns that share a scale, for intx and int4; must divide the width."""
    symmetric: bool = False
    """Whether intx stores no zero points."""

    distribution = "torchao"
    needs_calibration = False

    def run(self, given: Given) -> Made:
        """Quantize every linear layer."""
        if self.kind == "int8":
            return quantize_weights(given, self._pack)
        note = (
            "counted as packed; torchao keeps each code in an int8" if self.kind == "intx" else ""
        )
        return quantize_padded(given, self.group_size, self._pack, note)

    def _pack(self, weight: Tensor) -> Packed:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data = weight
        quantize_(linear, self._config())
        made: Any = linear.weight
        codes = made.qdata
        tensors = {"qdata": codes, "scale": made.scale}
        if self.kind == "intx":
            tensors["qdata"] = _as_packed(codes, self.bits)
        if self.kind == "intx" and not self.symmetric:
            tensors["zero_point"] = _as_packed(made.zero_point, self.bits)
        return Packed(tensors, made.dequantize)

    def _config(self) -> Int8WeightOnlyConfig | Int4WeightOnlyConfig | IntxWeightOnlyConfig:
        if self.kind == "int8":
            return Int8WeightOnlyConfig()
        if self.kind == "int4":
            return Int4WeightOnlyConfig(group_size=self.group_size)
        mapping = MappingType.SYMMETRIC if self.symmetric else MappingType.ASYMMETRIC
        return IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{self.bits}"),
            granularity=PerGroup(self.group_size),
            mapping_type=mapping,
            scale_dtype=torch.float16,
        )


def _as_packed(codes: Tensor, bits: int) -> Tensor:
    """Return as many bytes as the codes take at their width; their values do not matter."""
    return torch.zeros(-(-codes.numel() * bits // 8), dtype=torch.uint8)
