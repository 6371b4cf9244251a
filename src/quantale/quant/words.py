"""Codes in 32-bit words, as GPTQ and compressed-tensors store them: one little-endian bit stream.

Our own rows are the same stream in bytes (quant/bitpack.py), so that words are only another view.
"""

import torch
from torch import Tensor
from torch.nn import functional

from quantale.quant import bitpack


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes: (rows, n) integer -> (rows, ceil(n * bits / 32)) int32."""
    stream = bitpack.pack(codes, bits)
    padded = functional.pad(stream, (0, -stream.shape[-1] % 4))
    return _dense(padded).view(torch.int32)


def unpack(words: Tensor, bits: int, count: int) -> Tensor:
    """Unpack the first `count` codes: (rows, words) int32 -> (rows, count) uint8."""
    return bitpack.unpack(_dense(words).view(torch.uint8), bits, count)


def _dense(tensor: Tensor) -> Tensor:
    """Return a copy with ordinary strides; `contiguous` keeps odd ones of axes of length one."""
    return tensor.clone(memory_format=torch.contiguous_format)
