"""How close decoding comes to reading every weight once at the speed of memory.

A decoded token must read all weights that products use (the batch shares the reading). The bound
is that many bytes over the rate at which this very process, a moment later, sums a buffer of the
same size: a model that fits the cache is held against the cache. Williams, Waterman and Patterson,
"Roofline: an insightful visual performance model", CACM 52(4), 2009, with one roof: bandwidth.
The cache of keys and values and the activations are left out.
"""

import time

import torch
from torch import Tensor, nn

from quantale.quant.linear import QuantEmbedding, TiedHead

_READS = 12
"""Of the buffer; the fastest counts, as disturbance only slows."""
_SMALLEST = 1 << 20
"""Bytes of the smallest buffer; below, starting threads takes longer than reading."""


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes that a decoded token reads: all parameters and buffers, each stored once.

    Tables of embeddings of which a token reads one row are left out, unless a head shares them.
    """
    sizes: dict[int, int] = {}
    for module in model.modules():
        if isinstance(module, (nn.Embedding, QuantEmbedding)):
            continue
        for tensor in _tensors(module):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return the tensors of a module itself, and those that a packed tied head borrows."""
    found = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [*found, *module.packed.tensors.values()] if isinstance(module, TiedHead) else found


def read_bandwidth(size: int, device: torch.device) -> float:
    """Return bytes a second at which a buffer of `size` bytes is summed on a device."""
    buffer = torch.ones(max(size, _SMALLEST) // 4, dtype=torch.float32, device=device)
    return buffer.numel() * 4 / min(_seconds(buffer) for _ in range(_READS))


def _seconds(buffer: Tensor) -> float:
    started = time.perf_counter()
    float(buffer.sum())  # waits for an accelerator too
    return time.perf_counter() - started
