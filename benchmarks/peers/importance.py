"""llama.cpp's importance matrix: the mean square of every input of every linear layer."""

import ctypes
from collections.abc import Mapping
from functools import partial
from typing import Any

import llama_cpp
import torch
from torch import Tensor, nn

from benchmarks.peers.linears import block_linears

_AT_ONCE = 8


def mean_squares(model: Any, windows: Tensor) -> dict[str, Tensor]:
    """Return (in,) float32 by the names of the linear layers, over (samples, length) tokens."""
    sums: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(partial(_add, sums, name))
        for name, module in block_linears(model).items()
    ]
    with torch.no_grad():
        for start in range(0, len(windows), _AT_ONCE):
            model(windows[start : start + _AT_ONCE])
    for hook in hooks:
        hook.remove()
    return {name: (total / windows.numel()).to(torch.float32) for name, total in sums.items()}


def as_array(found: Mapping[str, Tensor]) -> Any:
    """Return what llama.cpp wants: an array of (GGUF name, values), ended by an empty entry.

    The tensors must be contiguous float32 and outlive the array.
    """
    entries = [
        llama_cpp.llama_model_imatrix_data(
            name.encode(),
            ctypes.cast(values.data_ptr(), ctypes.POINTER(ctypes.c_float)),
            values.numel(),
        )
        for name, values in found.items()
    ]
    kind = llama_cpp.llama_model_imatrix_data * (len(entries) + 1)
    return kind(*entries, llama_cpp.llama_model_imatrix_data(None, None, 0))


def _add(sums: dict[str, Tensor], name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
    del module
    squares = inputs[0].to(torch.float64).flatten(0, -2).square().sum(0)
    sums[name] = sums.get(name, torch.zeros_like(squares)) + squares
