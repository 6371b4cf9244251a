"""Speculative decoding: a smaller model guesses a few tokens, the model checks them in one pass.

Leviathan et al., arXiv 2211.17192, and Chen et al., arXiv 2302.01318, accept by a ratio of
probabilities. Here both models draw with the same noise, position by position, and a guess is right
when the model itself draws the same token; so texts, sampled ones too, are those that the model
writes alone. A pass over several tokens adds in another order than one over a single token:
where the two best tokens are nearly even, the last bits can decide, and that is counted.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from quantale.core.errors import UsageError
from quantale.inference.decoder import Tally, accept, filled_up, in_parts
from quantale.inference.network import Network
from quantale.inference.row import Row
from quantale.inference.widths import agreeing_widths, check_cache
from quantale.models.load import LoadedModel

NEAR = 1e-4
"""Two logits that are closer are a near-tie."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """The model that guesses."""

    loaded: LoadedModel
    ahead: int = 4
    """Tokens guessed before each check."""


class SpeculativeDecoder:
    """A model and its draft, whose caches hold the same rows in the same slots."""

    def __init__(self, model: Any, draft: Draft, slots: int, context: int) -> None:
        other = draft.loaded.model
        self._slots, self._ahead = slots, draft.ahead
        self._target = Network(model, slots + 1, context, draft.ahead)
        self._guesser = Network(other, slots + 1, context, draft.ahead)
        if self._target.vocabulary != self._guesser.vocabulary:
            raise UsageError(
                f"the draft ranks {self._guesser.vocabulary} tokens, the model "
                f"{self._target.vocabulary}; a draft has the model's tokenizer"
            )
        self._widths: tuple[int, ...] = (slots,)
        self._tally = Tally()

    def try_out(self) -> None:
        """Check both caches and find out which widths agree in the model."""
        for network in (self._target, self._guesser):
            check_cache(network)
        self._widths = agreeing_widths(self._target, self._slots)

    def read(self, tokens: Sequence[int], start: int) -> Tensor:
        """Read into the last slot of both."""
        self._guesser.forward(self._slots, [tokens], [start])
        return self._target.forward(self._slots, [tokens], [start])[0, -1]

    def place(self, slot: int, length: int) -> None:
        """Copy from the last slot."""
        self.move(self._slots, slot, length)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row of `length` tokens over another."""
        for network in (self._target, self._guesser):
            network.cache.move(source, target, length)

    def step(self, rows: Sequence[Row]) -> None:
        """Guess, check, and accept at least one token a row."""
        for first, part in in_parts(rows, self._widths):
            self._step(first, part)

    def clear(self) -> None:
        """Zero both caches."""
        for network in (self._target, self._guesser):
            network.cache.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of both caches."""
        return self._target.cache.nbytes + self._guesser.cache.nbytes

    @property
    def tally(self) -> Tally:
        """What came of the guesses until now."""
        return self._tally

    def _step(self, first: int, rows: Sequence[Row]) -> None:
        ahead = min(self._ahead, max(row.room for row in rows) - 1)
        guesses = self._guess(first, rows, ahead)
        tokens, starts = filled_up(rows, 1, self._widths)
        tokens = [last + guessed for last, guessed in zip(tokens, guesses, strict=True)]
        logits = self._target.forward(first, tokens, starts, keep=ahead + 1)
        for row, guessed, found in zip(rows, guesses, logits, strict=False):
            self._check(row, guessed, found)

    def _guess(self, first: int, rows: Sequence[Row], ahead: int) -> list[list[int]]:
        """Return `ahead` guesses for every row, and zeros for the rows that fill up.

        The last two tokens are read first: after a check that went well the draft has not yet
        read the one before the last.
        """
        tokens, starts = filled_up(rows, 2, self._widths)
        guesses: list[list[int]] = [[] for _ in tokens]
        for place in range(ahead):
            logits = self._guesser.forward(first, tokens, starts)[:, -1]
            drawn = [row.guess(found, place) for row, found in zip(rows, logits, strict=False)]
            starts = [start + len(tokens[0]) for start in starts]
            tokens = [[token] for token in drawn] + [[0]] * (len(guesses) - len(drawn))
            for guessed, (token,) in zip(guesses, tokens, strict=True):
                guessed.append(token)
        return guesses

    def _check(self, row: Row, guessed: Sequence[int], logits: Tensor) -> None:
        self._tally.passes += 1
        self._tally.guessed += len(guessed)
        for place, found in enumerate(logits):
            self._watch(row, found)
            token = accept(row, found)
            if not row.is_open or place == len(guessed) or token != guessed[place]:
                return
            self._tally.accepted += 1

    def _watch(self, row: Row, logits: Tensor) -> None:
        """Count and log a greedy choice between two nearly even tokens."""
        if not row.request.sampling.is_greedy:
            return
        best = logits.topk(2)
        gap = float(best.values[0] - best.values[1])
        if gap < NEAR:
            self._tally.near_ties += 1
            _LOG.info("near-tie at token %d: %s, %.2g apart", row.new_tokens, best.indices, gap)
