"""Dropout of transformers' models at half of torch's cost, while they are trained on a CPU.

GPT-2 and its like are fine-tuned with dropout in the attention, for which torch has no fast kernel
on a CPU. What nanoGPT here has of its own (`models/attention.py`) is lent to them for the time of a
training: the same function with other random bits. Models without dropout are left alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from quantale.models.attention import Dropout, written_out_attention

_NAME = "quantale_training"


@contextmanager
def quick_dropout(model: nn.Module, device: str) -> Iterator[None]:
    """Change dropout and attention of the model while the block lasts, on a CPU."""
    slow = [module for module in model.modules() if type(module) is nn.Dropout and module.p > 0]
    inner = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    if device != "cpu" or not slow:
        yield
        return
    config = None if inner is None else inner.config
    attends = config is not None and config._attn_implementation == "sdpa"
    for module in slow:
        module.__class__ = Dropout
    if config is not None and attends:
        _register()
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        for module in slow:
            module.__class__ = nn.Dropout
        if config is not None and attends:
            config._attn_implementation = "sdpa"


def _register() -> None:
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend by our own code with dropout and heads that are not grouped, else by torch's."""
    is_plain = key.shape[1] == query.shape[1] and getattr(module, "is_causal", True)
    if dropout > 0 and module.training and is_plain:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return written_out_attention(
            module, query, key, value, attention_mask, scale, dropout=dropout
        )
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    return attend(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )
