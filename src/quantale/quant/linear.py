"""The modules that run packed weights: a linear layer, an embedding, and a head tied to one.

One class serves every format. The codes are a buffer called `weight` of three dimensions, on
purpose: a program that does not know this project finds the name it expects with a shape that it
must refuse, instead of a missing name that it would fill with random numbers.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from quantale.quant.dispatch import select
from quantale.quant.packed import Format, PackedTensor


class PackedModule(nn.Module):
    """Holds one PackedTensor as buffers, whose dtypes never change with `.to()`."""

    def __init__(self, packed: PackedTensor) -> None:
        super().__init__()
        self.format: Format = packed.format
        self.shape = packed.shape
        self._names = tuple(packed.tensors)
        for name, tensor in packed.tensors.items():
            self.register_buffer(name, tensor)

    @property
    def packed(self) -> PackedTensor:
        """The stored weight; its tensors are the module's buffers."""
        tensors = {name: self.get_buffer(name) for name in self._names}
        return PackedTensor(self.format, self.shape, tensors)

    def extra_repr(self) -> str:
        """Describe the module in a printed model."""
        return f"out={self.shape[0]}, in={self.shape[1]}, {self.format}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedModule":
        kept = {name: self.get_buffer(name) for name in self._names}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self.get_buffer(name)
            if after.dtype != before.dtype:
                setattr(self, name, before.to(after.device))
        return self


class QuantLinear(PackedModule):
    """A linear layer over a packed (out, in) weight; replaces Linear and Conv1D alike."""

    def __init__(self, packed: PackedTensor, bias: Tensor | None) -> None:
        super().__init__(packed)
        self.out_features, self.in_features = packed.shape
        self.nf, self.nx = packed.shape  # the names that users of Conv1D know
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., in) -> (..., out)."""
        packed = self.packed
        return select(x, packed)[1].linear(x, packed, self.bias)


class QuantEmbedding(PackedModule):
    """An embedding over a packed (entries, width) weight; unpacks only the rows it needs."""

    def __init__(self, packed: PackedTensor, dtype: torch.dtype) -> None:
        super().__init__(packed)
        self.num_embeddings, self.embedding_dim = packed.shape
        self.register_buffer("_dtype_probe", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Look up: (...) integer -> (..., width) in the model's dtype."""
        dtype = self.get_buffer("_dtype_probe").dtype
        return self.format.rows(self.packed, index, dtype)


class TiedHead(nn.Module):
    """A head that multiplies by the packed weight of an embedding and stores nothing but a bias."""

    def __init__(self, embedding: QuantEmbedding, bias: Tensor | None) -> None:
        super().__init__()
        self._embedding = (embedding,)  # in a tuple: not a child module, so not stored twice
        self.out_features, self.in_features = embedding.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """The codes of the embedding."""
        return self._embedding[0].get_buffer("weight")

    @weight.setter
    def weight(self, value: Tensor) -> None:
        if value is not self.weight:
            raise ValueError("the head is tied to its packed embedding and has no weight to set")

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., width) -> (..., entries)."""
        packed = self._embedding[0].packed
        return select(x, packed)[1].linear(x, packed, self.bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TiedHead":
        embedding = copy.deepcopy(self._embedding[0], memo)
        return TiedHead(embedding, copy.deepcopy(self.bias, memo))
