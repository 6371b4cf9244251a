"""Work on large weights some rows at a time, so that what is computed on the way stays small."""

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor

from quantale.quant.packed import Format, PackedTensor

CHUNK: Final = 2**22
"""Weights that are worked on at a time; 16 MiB in float32."""


def chunks(rows: int, width: int, limit: int | None = None) -> Iterator[slice]:
    """Yield slices that cover the rows, each of at most `limit` numbers but at least one row.

    limit: `CHUNK` unless it is given.
    """
    step = max(1, (limit or CHUNK) // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def are_apart(layout: Format) -> bool:
    """Say whether rows of a format share nothing, so that parts of a weight can be joined.

    A format says so by an attribute `rows_are_apart`; without one it is worked on as a whole.
    """
    return bool(getattr(layout, "rows_are_apart", False))


def by_rows(
    layout: Format,
    weight: Tensor,
    quantize: Callable[[Tensor], PackedTensor],
    limit: int | None = None,
) -> PackedTensor:
    """Quantize an (out, in) weight in parts of some rows, where the format allows it."""
    shape = (weight.shape[0], weight.shape[1])
    parts = list(chunks(*shape, limit))
    if len(parts) <= 1 or not are_apart(layout):
        return quantize(weight)
    tensors: dict[str, Tensor] = {}
    for rows in parts:
        for name, tensor in quantize(weight[rows]).tensors.items():
            if name not in tensors:
                tensors[name] = tensor.new_empty(shape[0], *tensor.shape[1:])
            tensors[name][rows] = tensor
    return PackedTensor(layout, shape, tensors)


def joined(shape: tuple[int, int], dtype: torch.dtype, values: Callable[[slice], Tensor]) -> Tensor:
    """Return the (out, in) tensor whose rows a function computes, in parts."""
    parts = list(chunks(*shape))
    if len(parts) <= 1:
        return values(slice(0, shape[0])).to(dtype)
    first = values(parts[0])
    whole = torch.empty(shape, dtype=dtype, device=first.device)
    whole[parts[0]] = first
    for rows in parts[1:]:
        whole[rows] = values(rows)
    return whole


def all_finite(weight: Tensor) -> bool:
    """Say whether a tensor of two dimensions holds finite numbers only."""
    return all(bool(torch.isfinite(weight[rows]).all()) for rows in chunks(*weight.shape))
