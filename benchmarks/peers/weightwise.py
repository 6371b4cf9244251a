"""The loop of peers that look at one weight at a time and need no data."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.peers.contract import Given, Made, peak_rss
from benchmarks.peers.linears import (
    block_linears,
    cropped,
    file_size,
    load,
    out_in,
    own_layout,
    padded,
    rest,
)


@dataclass(frozen=True)
class Packed:
    """One weight as a peer keeps it."""

    tensors: Mapping[str, Tensor]
    """What its arithmetic needs: codes and scales, but no constants and no metadata."""
    dequantize: Callable[[], Tensor]
    """Gives the (out, in) weight."""


def quantize_weights(given: Given, pack: Callable[[Tensor], Packed], note: str = "") -> Made:
    """Pack every linear layer of the blocks, (out, in) float32; all the rest counts as float16."""
    model = load(given.folder)
    linears = block_linears(model)
    started = time.perf_counter()
    with torch.no_grad():
        packed = {name: pack(out_in(module)) for name, module in linears.items()}
    seconds, peak = time.perf_counter() - started, peak_rss()
    stored = {
        f"{name}.{part}": tensor
        for name, one in packed.items()
        for part, tensor in one.tensors.items()
    }
    plain = {name: tensor.to(torch.float16) for name, tensor in rest(model).items()}
    weights = {
        f"{name}.weight": own_layout(linears[name], one.dequantize())
        for name, one in packed.items()
    }
    return Made(
        weights | {name: tensor.to(torch.float32) for name, tensor in plain.items()},
        seconds,
        peak,
        file_size(stored | plain, given.scratch),
        sum(tensor.nbytes for tensor in stored.values()),
        note,
    )


def quantize_padded(
    given: Given, multiple: int, pack: Callable[[Tensor], Packed], note: str = ""
) -> Made:
    """Do the same on a copy whose MLP width is a multiple; the padding counts in the sizes."""
    folder = padded(given.folder, multiple, given.scratch)
    made = quantize_weights(replace(given, folder=folder), pack, note)
    return replace(made, parameters=cropped(made.parameters, load(given.folder)))
