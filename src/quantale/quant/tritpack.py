"""Pack numbers of three values, five a byte, and back: 1.6 bits each.

Five trits t0 ... t4 in {0, 1, 2} (the value plus one) are the digits of the number
n = ((((t0 * 3 + t1) * 3 + t2) * 3 + t3) * 3 + t4) below 243. The stored byte is
ceil(n * 256 / 243): the fraction n / 243 in fixed point, rounded up. A kernel then needs no
division: the first digit is the carry of byte * 3 over 256, and the low byte of that product
holds the remaining digits in the same way. The idea is that of llama.cpp's TQ1_0.
"""

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import UsageError
from quantale.quant import unpacked

PER_BYTE = 5
_COUNT = 3**PER_BYTE


def packed_width(count: int) -> int:
    """Return the bytes that `count` trits take."""
    return -(-count // PER_BYTE)


def pack(trits: Tensor) -> Tensor:
    """Pack trits: (..., n) of -1, 0, 1 -> (..., ceil(n / 5)) uint8; the rest of a byte is zeros.

    In a block of `unpacked.codes` the trits come back as float32.
    """
    if unpacked.are_wanted():
        return trits.to(torch.float32)
    if trits.numel() and float(trits.abs().max()) > 1:
        raise UsageError("trits are -1, 0 or 1; others came")
    padded = functional.pad(trits.to(torch.int32), (0, -trits.shape[-1] % PER_BYTE))
    digits = padded.reshape(*trits.shape[:-1], -1, PER_BYTE) + 1
    number = torch.zeros_like(digits[..., 0])
    for place in range(PER_BYTE):
        number = number * 3 + digits[..., place]
    return ((number * 256 + _COUNT - 1) // _COUNT).to(torch.uint8)


def unpack(packed: Tensor, count: int) -> Tensor:
    """Unpack the first `count` trits: (..., bytes) uint8 -> (..., count) int8 of -1, 0, 1.

    Trits that were never packed stay float32.
    """
    if unpacked.are_in(packed):
        return packed[..., :count]
    rest = packed.to(torch.int32)
    digits = []
    for _ in range(PER_BYTE):
        tripled = rest * 3
        digits.append(tripled >> 8)
        rest = tripled & 0xFF
    return (torch.stack(digits, -1).flatten(-2)[..., :count] - 1).to(torch.int8)
