"""One forward pass over rows of a static cache, for any causal model of transformers.

Each row has its own length: positions and an additive mask of four dimensions say so, which
models take as they are. Layers with a sliding window get a mask of their own.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quantale.core.errors import ModelFileError
from quantale.inference.cache import SlotCache

_FULL, _SLIDING = "full_attention", "sliding_attention"
_STEP = 64
"""Columns read are a multiple of it, so that sums over them are made in the same order."""


class Network:
    """A model with a cache of `slots` rows of `context` tokens and `spare` ones behind them."""

    def __init__(self, model: Any, slots: int, context: int, spare: int = 0) -> None:
        self.model, self.context = model, context
        self.capacity = -(-(context + spare) // _STEP) * _STEP
        self._config = model.config.get_text_config(decoder=True)
        self._kinds = _kinds(self._config)
        self.vocabulary = int(self._config.vocab_size)
        self._last = context - 1
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.cache = SlotCache(self._config.num_hidden_layers, slots, self.capacity)

    def forward(
        self, first: int, tokens: Sequence[Sequence[int]], starts: Sequence[int], keep: int = 1
    ) -> Tensor:
        """Read tokens into slots from `first` on, each row at its own start.

        tokens: rows of the same length. Returns logits (rows, keep, vocabulary) float32 of the
        last `keep` tokens. Needs inference mode.
        """
        device = self.model.device
        ids = torch.tensor(tokens, dtype=torch.long, device=device)
        positions = torch.tensor(starts, dtype=torch.long, device=device)[:, None]
        positions = positions + torch.arange(ids.shape[1], device=device)
        aim = self.cache.aim
        aim.first, aim.starts = first, tuple(starts)
        aim.columns = min(self.capacity, -(-(max(starts) + ids.shape[1]) // _STEP) * _STEP)
        kept = {"logits_to_keep": keep} if self._keeps else {}
        out = self.model(
            input_ids=ids,
            attention_mask=self._masks(positions, aim.columns),
            position_ids=positions.clamp(max=self._last),
            past_key_values=self.cache,
            use_cache=True,
            **kept,
        )
        logits: Tensor = out.logits[:, -keep:].float()
        return logits

    def _masks(self, positions: Tensor, columns: int) -> Tensor | dict[str, Tensor]:
        masks = {kind: self._mask(kind, positions, columns) for kind in self._kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _mask(self, kind: str, positions: Tensor, columns: int) -> Tensor:
        """Return (rows, 1, tokens, columns): 0 where a token may look, the least number elsewhere.

        An added mask is one that eager and sdpa attention both take.
        """
        at = torch.arange(columns, device=positions.device)
        distance = positions[:, :, None] - at
        hidden = distance < 0
        if kind == _SLIDING:
            hidden = hidden | (distance >= self._config.sliding_window)
        mask = torch.zeros(hidden.shape, dtype=self.model.dtype, device=positions.device)
        return mask.masked_fill_(hidden, torch.finfo(self.model.dtype).min)[:, None]


def _kinds(config: Any) -> tuple[str, ...]:
    """Return the kinds of attention; raises ModelFileError for one that has no static cache."""
    named = getattr(config, "layer_types", None)
    if named is None:
        named = [_FULL if getattr(config, "sliding_window", None) is None else _SLIDING]
    kinds = tuple(sorted(set(named)))
    unknown = [kind for kind in kinds if kind not in (_FULL, _SLIDING)]
    if unknown:
        raise ModelFileError(
            f"{config.model_type}: layers of kind {unknown[0]!r} have no static cache here; "
            f"{_FULL} and {_SLIDING} have"
        )
    return kinds
