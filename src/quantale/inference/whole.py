"""Decoding without a cache, for models that no static cache fits: slow, and right for any of them.

State-space models keep other states than keys and values, and some attentions (ALiBi) want to be
told of padding in a form of their own. Such a model reads each text anew for every token.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quantale.inference.decoder import Tally, accept
from quantale.inference.row import Row


class WholeDecoder:
    """One model; every token is a pass over the whole text of its row alone."""

    def __init__(self, model: Any) -> None:
        self._model = model
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._more = {"logits_to_keep": 1} if keeps else {}
        self._prompt: list[int] = []

    def try_out(self) -> None:
        """Nothing can be wrong with a plain pass."""

    def read(self, tokens: Sequence[int], start: int) -> Tensor:
        """Read everything up to here."""
        self._prompt = [*self._prompt[:start], *tokens]
        return self._last_logits(self._prompt)

    def place(self, slot: int, length: int) -> None:
        """Keep nothing."""
        del slot, length

    def move(self, source: int, target: int, length: int) -> None:
        """Keep nothing."""
        del source, target, length

    def step(self, rows: Sequence[Row]) -> None:
        """Read each row alone."""
        for row in rows:
            accept(row, self._last_logits(row.tokens))

    def clear(self) -> None:
        """Nothing is kept."""

    @property
    def nbytes(self) -> int:
        """No cache, no bytes."""
        return 0

    @property
    def tally(self) -> Tally | None:
        """None: nothing is guessed."""
        return None

    def _last_logits(self, tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=self._model.device)
        logits: Tensor = self._model(ids, use_cache=False, **self._more).logits
        return logits[0, -1].float()
