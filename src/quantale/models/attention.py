"""Attention and dropout written out, for training on a CPU, where they beat torch's own.

Measured on one thread with AMX, for 32 x 6 heads x 256 tokens x 32, forward and backward: with
dropout 0.25 s against 0.78 s of `scaled_dot_product_attention`, in bf16 without dropout 0.14 s
against 0.23 s. In fp32 without dropout torch's flash kernel wins (0.13 s against 0.36 s).
"""

from typing import Any

import torch
from torch import nn

_RANDOM_STEPS = 2**16
_STRIP = 64
"""Queries that are worked on together in a training."""


class Dropout(nn.Dropout):
    """Inverted dropout that draws 16 random bits a number on a CPU, at half of torch's cost.

    The probability is rounded to a multiple of 2**-16. The bits come from torch's CPU generator.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Zero numbers at random and enlarge the others; without training, nothing changes."""
        return dropout(values, self.p) if self.training else values


def dropout(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero each number with the probability and divide the others by what remains."""
    if probability == 0.0 or values.device.type != "cpu":
        return nn.functional.dropout(values, probability)
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    kept = bits >= round(probability * _RANDOM_STEPS) - _RANDOM_STEPS // 2
    return values * kept.to(values.dtype).mul_(1 / (1 - probability))


def written_out_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Causal attention and its weights, by transformers' interface for attention functions.

    query, key, value: (B, H, T or keys, D). attention_mask: (B or 1, 1, T, keys), bool (True may
    be seen) or to be added; None means causal. `dropout` among the options acts on the weights.
    Returns (B, T, H, D) and (B, H, T, keys). A training without a mask works in strips of queries,
    which leave out keys that none of them may see; then there are no weights to return.
    """
    rate = options.get("dropout", 0.0) if module.training else 0.0
    tokens, keys = query.shape[2], key.shape[2]
    if attention_mask is None and module.training and tokens == keys > _STRIP:
        return _in_strips(query, key, value, scaling, rate).transpose(1, 2), None
    if attention_mask is None and tokens > 1:
        attention_mask = _causal(tokens, keys, query.device)
    output, weights = _attend(query * scaling, key, value, attention_mask, rate)
    return output.transpose(1, 2), weights


def _in_strips(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, rate: float
) -> torch.Tensor:
    """Return (B, H, T, D); of four strips the first reads a quarter of the keys, and so on."""
    query, parts = query * scaling, []
    for start in range(0, query.shape[2], _STRIP):
        end = min(start + _STRIP, query.shape[2])
        mask = _causal(end - start, end, query.device)
        seen = (key[:, :, :end], value[:, :, :end])
        parts.append(_attend(query[:, :, start:end], *seen, mask, rate)[0])
    return torch.cat(parts, dim=2)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    rate: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return output and weights for scaled queries."""
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + _to_add(mask, scores.dtype)
    weights = scores.softmax(-1)
    seen = dropout(weights, rate) if rate > 0 else weights
    return seen.to(value.dtype) @ value, weights


def _causal(tokens: int, keys: int, device: torch.device) -> torch.Tensor:
    """True where a token may look; the last token sees every key."""
    return torch.ones(tokens, keys, dtype=torch.bool, device=device).tril(keys - tokens)


def _to_add(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add: the lowest finite number keeps rows of padding free of NaN."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )
