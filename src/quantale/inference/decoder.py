"""Writing one token for every row in use: the step that the engine repeats."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from quantale.core.errors import NumericalError
from quantale.inference.network import Network
from quantale.inference.row import Row
from quantale.inference.widths import agreeing_widths, check_cache

_LOG = logging.getLogger(__name__)


@dataclass
class Tally:
    """What speculation came to."""

    guessed: int = 0
    accepted: int = 0
    passes: int = 0
    """Checks, a row counted once in each."""
    near_ties: int = 0
    """Greedy tokens drawn where the two largest logits were closer than `speculative.NEAR`."""


class Decoder(Protocol):
    """Keeps the cached states of rows in slots 0, 1, ... and one of a row that is being read."""

    def try_out(self) -> None:
        """Check that the model can be decoded like this; raises ModelFileError."""
        ...

    def read(self, tokens: Sequence[int], start: int) -> Tensor:
        """Read a part of a prompt beside the slots; return the last logits, (vocabulary,)."""
        ...

    def place(self, slot: int, length: int) -> None:
        """Put what was read, `length` tokens, into a slot."""
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row of `length` tokens over another."""
        ...

    def step(self, rows: Sequence[Row]) -> None:
        """Let every row, which lie in the first slots in order, accept at least one token."""
        ...

    def clear(self) -> None:
        """Forget everything, after a step that broke."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of caches."""
        ...

    @property
    def tally(self) -> Tally | None:
        """What speculation came to; None without."""
        ...


class PlainDecoder:
    """One model, one token a step."""

    def __init__(self, model: Any, slots: int, context: int) -> None:
        self._slots = slots
        self._network = Network(model, slots + 1, context)
        self._widths: tuple[int, ...] = (slots,)

    def try_out(self) -> None:
        """Check the cache and find out which widths agree."""
        check_cache(self._network)
        self._widths = agreeing_widths(self._network, self._slots)
        _LOG.info("rows of a step: %s", self._widths)

    def read(self, tokens: Sequence[int], start: int) -> Tensor:
        """Read into the last slot, which no row in use ever has."""
        return self._network.forward(self._slots, [tokens], [start])[0, -1]

    def place(self, slot: int, length: int) -> None:
        """Copy from the last slot."""
        self._network.cache.move(self._slots, slot, length)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row of `length` tokens over another."""
        self._network.cache.move(source, target, length)

    def step(self, rows: Sequence[Row]) -> None:
        """Read each row's last token and accept what follows."""
        for first, part in in_parts(rows, self._widths):
            tokens, starts = filled_up(part, 1, self._widths)
            logits = self._network.forward(first, tokens, starts)
            for row, found in zip(part, logits[:, -1], strict=False):
                accept(row, found)

    def clear(self) -> None:
        """Zero the cache."""
        self._network.cache.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return self._network.cache.nbytes

    @property
    def tally(self) -> Tally | None:
        """None: nothing is guessed."""
        return None


def in_parts(rows: Sequence[Row], widths: Sequence[int]) -> list[tuple[int, Sequence[Row]]]:
    """Return rows that may be read together, and the slot of the first."""
    size = widths[-1]
    return [(first, rows[first : first + size]) for first in range(0, len(rows), size)]


def filled_up(
    rows: Sequence[Row], last: int, widths: Sequence[int]
) -> tuple[list[list[int]], list[int]]:
    """Return the last tokens of every row and where they start, and rows of zeros behind them."""
    width = next(width for width in widths if width >= len(rows))
    spare = width - len(rows)
    tokens = [row.tokens[-last:] for row in rows] + [[0] * last] * spare
    return tokens, [len(row.tokens) - last for row in rows] + [0] * spare


def accept(row: Row, logits: Tensor) -> int | None:
    """Let the row draw from logits (vocabulary,); end it with an error where they are broken."""
    if not bool(torch.isfinite(logits).all()):
        row.stream.fail(NumericalError("the model's logits are not finite"))
        return None
    return row.accept(logits)
