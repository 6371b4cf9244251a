"""A quantized weight as it is stored: a format, a shape and named tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

LAYOUT_VERSION = 1
"""Raised when the meaning of stored bytes changes; see docs/storage.md."""


class Format(Protocol):
    """What stored bits mean, and the arithmetic of a layer that uses them."""

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return the shape and dtype of every stored tensor of an (out, in) weight."""
        ...

    def dequantize(self, packed: "PackedTensor", dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight that the stored bits stand for."""
        ...

    def rows(self, packed: "PackedTensor", index: Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows of the weight: (...) integer -> (..., in)."""
        ...

    def apply(self, x: Tensor, packed: "PackedTensor", bias: Tensor | None) -> Tensor:
        """Define the layer's result: (..., in) -> (..., out)."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return the JSON-able fields from which the format is made again."""
        ...


@dataclass(frozen=True)
class PackedTensor:
    """Stored form of one (out, in) weight. Several modules may share it."""

    format: Format
    shape: tuple[int, int]
    tensors: Mapping[str, Tensor]
    """By name; "weight" holds the codes as (out, groups, bytes) uint8."""

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors, padding included."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over the weights that are really there."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight."""
        return self.format.dequantize(self, dtype)
