"""A static cache of keys and values in which every row stands at a place of its own.

transformers' `StaticCache` has one length for the whole batch. Here a row is a slot: its tokens
lie at columns 0, 1, ... whatever the others hold, so that rows can join, leave and be rolled back
one by one. What is behind a row's length is hidden by the mask and overwritten later.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass
class Aim:
    """Where the next forward pass writes and how far it reads."""

    first: int = 0
    """The first slot; the pass's rows are this one and those behind it."""
    starts: tuple[int, ...] = (0,)
    """By row, the column of its first token."""
    columns: int = 0
    """How many columns are read."""


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, (slots, heads, capacity, width)."""

    is_sliding = False

    def __init__(self, aim: Aim, slots: int, capacity: int) -> None:
        super().__init__()
        self._aim, self._slots, self._capacity = aim, slots, capacity

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the memory; zeros, since a NaN would get through a mask."""
        self.keys, self.values = (
            states.new_zeros(self._slots, states.shape[1], self._capacity, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the new states (rows, heads, tokens, width); return what the rows may read."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        aim, rows = self._aim, key_states.shape[0]
        found = []
        for store, states in ((self.keys, key_states), (self.values, value_states)):
            part = store[aim.first : aim.first + rows]
            _write(part, states, aim.starts)
            found.append(part[:, :, : aim.columns])
        return found[0], found[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of what is read."""
        del query_length
        return self._aim.columns, 0

    def get_seq_length(self) -> int:
        """Return the longest row's length before this pass; rows carry positions of their own."""
        return max(self._aim.starts)

    def get_max_length(self) -> int:
        """Return the capacity."""
        return self._capacity


class SlotCache(Cache):  # type: ignore[misc]
    """One `SlotLayer` a layer, which all look where `aim` says."""

    def __init__(self, layers: int, slots: int, capacity: int) -> None:
        self.aim = Aim()
        super().__init__(layers=[SlotLayer(self.aim, slots, capacity) for _ in range(layers)])

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` columns of one slot over another."""
        for store in self._stores():
            store[target, :, :length] = store[source, :, :length]

    def clear(self) -> None:
        """Zero everything, so that a broken pass leaves nothing behind."""
        for store in self._stores():
            store.zero_()

    @property
    def nbytes(self) -> int:
        """Bytes that it holds once it is in use."""
        return sum(store.nbytes for store in self._stores())

    def _stores(self) -> list[Tensor]:
        return [store for layer in self.layers if layer.is_initialized for store in _both(layer)]


def _both(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.keys, layer.values


def _write(part: Tensor, states: Tensor, starts: tuple[int, ...]) -> None:
    tokens = states.shape[2]
    if len(set(starts)) == 1:
        part[:, :, starts[0] : starts[0] + tokens] = states
        return
    columns = torch.tensor(starts, device=part.device)[:, None]
    columns = columns + torch.arange(tokens, device=part.device)
    rows = torch.arange(len(starts), device=part.device)[:, None]
    part[rows, :, columns] = states.transpose(1, 2)
