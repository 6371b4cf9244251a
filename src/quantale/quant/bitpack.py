"""Pack small unsigned integers into bytes and back, for any width from 1 to 8 bits.

Layout (version 1): the codes of the last axis form one little-endian bit stream; code `i` takes
the bits from `i * bits` upward, bit 0 being the lowest of byte 0. The stream of each row is
padded with zero bits to a whole byte. Eight codes take exactly `bits` bytes, so that a kernel
can read them with one unaligned 64-bit load.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from quantale.core.errors import UsageError
from quantale.quant import unpacked

_CHUNK = 2**20
"""Codes that are packed at a time."""


def packed_width(count: int, bits: int) -> int:
    """Return the bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes: (..., n) integer in [0, 2**bits) -> (..., ceil(n * bits / 8)) uint8.

    Raises UsageError for a width outside 1 to 8 or a code outside the range. In a block of
    `unpacked.codes` the codes come back as float32.
    """
    _check_bits(bits)
    if unpacked.are_wanted():
        return codes.to(torch.float32)
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= 1 << bits):
        raise UsageError(f"codes of {bits} bits lie in [0, {1 << bits}); others came")
    count = codes.shape[-1]
    width = packed_width(count, bits)
    if bits == 8:
        return codes.to(torch.uint8)
    return _in_chunks(codes, width, lambda part: _pack(part, bits))


def _pack(codes: Tensor, bits: int) -> Tensor:
    width = packed_width(codes.shape[-1], bits)
    octets = _split_last(codes.to(torch.int64), 8)  # (..., k, 8)
    words = (octets << (_steps(8, codes) * bits)).sum(-1, keepdim=True)  # (..., k, 1)
    stream = ((words >> (_steps(bits, codes) * 8)) & 0xFF).to(torch.uint8)
    return stream.flatten(-2)[..., :width].contiguous()


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Unpack the first `count` codes: (..., bytes) uint8 -> (..., count) uint8.

    Codes that were never packed stay float32.
    """
    _check_bits(bits)
    if bits == 8 or unpacked.are_in(packed):
        return packed[..., :count]
    if 8 % bits == 0:
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
        return ((packed.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)[..., :count]
    return _in_chunks(packed, count, lambda part: _unpack(part, bits, count))


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    octets = _split_last(packed, bits).to(torch.int64)  # (..., k, bits)
    words = (octets << (_steps(bits, packed) * 8)).sum(-1, keepdim=True)
    codes = (words >> (_steps(8, packed) * bits)) & ((1 << bits) - 1)
    return codes.to(torch.uint8).flatten(-2)[..., :count]


def _in_chunks(source: Tensor, width: int, work: Callable[[Tensor], Tensor]) -> Tensor:
    """Do the work, which takes 64-bit integers, for some rows of the last axis at a time."""
    if source.numel() <= _CHUNK:
        return work(source)
    rows = source.reshape(-1, source.shape[-1])
    step = max(1, _CHUNK // source.shape[-1])
    target = torch.empty(rows.shape[0], width, dtype=torch.uint8, device=source.device)
    for start in range(0, rows.shape[0], step):
        target[start : start + step] = work(rows[start : start + step])
    return target.reshape(*source.shape[:-1], width)


def _steps(count: int, like: Tensor) -> Tensor:
    """Return 0 to count - 1. Not a constant of the module: whoever imports it inside
    transformers' loading would make it a meta tensor."""
    return torch.arange(count, dtype=torch.int64, device=like.device)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise UsageError(f"bits must be 1 to 8, {bits} came")


def _split_last(tensor: Tensor, size: int) -> Tensor:
    """Pad the last axis with zeros to a multiple of `size` and split it: (..., k, size)."""
    amount = -tensor.shape[-1] % size
    padded = torch.nn.functional.pad(tensor, (0, amount)) if amount else tensor
    return padded.reshape(*tensor.shape[:-1], padded.shape[-1] // size, size)
