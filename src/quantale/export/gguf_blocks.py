"""Weights as blocks of ggml: taken over where our grid is theirs, chosen anew by gguf-py elsewhere.

A packed weight is scale * whole number. Where the whole numbers and float16 scales fit the type and
no block lies in two groups, the block holds the very same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import gguf
import numpy as np
import torch
from torch import Tensor

from quantale.quant.packed import PackedTensor
from quantale.quant.parts import separable


@dataclass(frozen=True)
class Grid:
    """A weight as whole numbers times float16 scales."""

    units: Tensor
    """(out, in) float32, whole."""
    scale: Tensor
    """(out, blocks) float32 that float16 holds."""


@dataclass(frozen=True)
class _Kind:
    """Whole numbers that a type of ggml stores, and in which order."""

    block: int
    low: int
    high: int


_KINDS: Final = {"Q8_0": _Kind(32, -127, 127), "Q4_0": _Kind(32, -8, 7), "TQ2_0": _Kind(256, -1, 1)}
QUANTIZED: Final = tuple(_KINDS)
"""Types of blocks that can be written."""


def fits(kind: str, width: int) -> bool:
    """Say whether rows of this width can be stored in a type."""
    return kind not in _KINDS or width % _KINDS[kind].block == 0


def grid_of(packed: PackedTensor, kind: str) -> Grid | None:
    """Return a packed weight as a type of ggml stores it; None where its numbers do not fit."""
    layout = separable(packed.format)
    if layout is None or kind not in _KINDS:
        return None
    wanted, parts = _KINDS[kind], layout.take_apart(packed)
    rows, groups, size = parts.units.shape
    if parts.transposed or parts.width % wanted.block or (groups > 1 and size % wanted.block):
        return None
    units, scale = parts.units.to(torch.float32), parts.scale.expand(rows, groups)
    if parts.zero_point is not None:
        units = units - parts.zero_point.unsqueeze(-1)
    if bool((units != units.round()).any()):  # one bit stands for halves
        units, scale = units * 2, scale / 2
    whole = bool((units == units.round()).all())
    units = units.flatten(1)[:, : parts.width]
    in_range = bool((units >= wanted.low).all() and (units <= wanted.high).all())
    scale = scale.repeat_interleave(size // wanted.block if groups > 1 else 1, 1)
    scale = scale.expand(rows, -(-parts.width // wanted.block))[:, : parts.width // wanted.block]
    stored = scale.to(torch.float16).to(torch.float32)
    if not whole or not in_range or not torch.equal(stored, scale):
        return None
    return Grid(units, scale)


def stored(grid: Grid, kind: str) -> np.ndarray:
    """Return the bytes of a grid, (out, bytes of a row) uint8."""
    block = _KINDS[kind].block
    units = grid.units.reshape(-1, block).to(torch.int16).numpy()
    scale = grid.scale.reshape(-1, 1).to(torch.float16).numpy().view(np.uint8)
    return np.concatenate(_LAID[kind](units, scale), axis=-1).reshape(grid.units.shape[0], -1)


def chosen_anew(weight: Tensor, kind: str) -> np.ndarray:
    """Return what gguf-py makes of a float32 weight: bytes, or numbers of F32 and F16."""
    values = weight.to(torch.float32).contiguous().numpy()
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])


def values_of(data: np.ndarray, kind: str) -> Tensor:
    """Return the float32 numbers that stored data stand for."""
    values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _nibbles(codes: np.ndarray) -> np.ndarray:
    """Pack (blocks, 32): the first half of a block in the low halves of its bytes."""
    return codes[:, :16] | (codes[:, 16:] << 4)


def _quarters(codes: np.ndarray) -> np.ndarray:
    """Pack (blocks, 256): four runs of 32 in the four quarters of 32 bytes."""
    runs = codes.reshape(-1, 2, 4, 32) << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(runs, axis=2).reshape(-1, 64)


_LAID: Final[dict[str, Callable[[np.ndarray, np.ndarray], list[np.ndarray]]]] = {
    "Q8_0": lambda units, scale: [scale, units.astype(np.int8).view(np.uint8)],
    "Q4_0": lambda units, scale: [scale, _nibbles((units + 8).astype(np.uint8))],
    "TQ2_0": lambda units, scale: [_quarters((units + 1).astype(np.uint8)), scale],
}
"""Scale and codes of blocks in the order in which ggml stores them."""
