"""Full fine-tuning: every parameter learns to predict the next token."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Full:
    """Next-token cross-entropy over all parameters that the model shares out for training."""

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Parameters that the loop changes, by name, tied ones once."""
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def loss(self, model: Any, batch: torch.Tensor) -> torch.Tensor:
        """Mean nats a scored token, computed in fp32.

        batch: (rows, tokens + 1) int64; each column is the target of the one before it. Negative
        targets are not scored, so that rows may be filled up with -100 at their end.
        """
        inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:]
        logits = model(input_ids=inputs, use_cache=False).logits
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.clamp(min=-100).flatten(), ignore_index=-100
        )
