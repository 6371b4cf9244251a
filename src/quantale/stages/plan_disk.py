"""The bytes that a training writes: its result, and the checkpoints that it keeps meanwhile."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quantale.models.sizes import file_bytes
from quantale.tuning.checkpoint import KEPT
from quantale.tuning.footprint import optimizer_bytes
from quantale.tuning.settings import TrainSettings

_STATES = 16 * 2**10
"""Random states and the record of a checkpoint, about."""
_LINE = 100
"""Bytes of a step in the log, about."""


def checkpoint_bytes(weights: Mapping[str, nn.Parameter], settings: TrainSettings) -> int:
    """Return the bytes of the checkpoints that lie beside a training at its end."""
    saved = (settings.steps - 1) // settings.checkpoint_every
    if saved < 1:
        return 0
    flat = {name: torch.empty(w.shape, device="meta") for name, w in weights.items()}
    both = file_bytes(flat, is_marked=False) * 2  # the weights, and the best until now
    one = both + _moments(flat, settings) + _STATES + _LINE * settings.steps
    return min(KEPT, saved) * one


def _moments(weights: Mapping[str, Tensor], settings: TrainSettings) -> int:
    """Return the bytes of the optimizer's file."""
    kept = optimizer_bytes([w.numel() for w in weights.values()], settings.optimizer)
    names = {
        f"{key}/{name}": torch.empty(0, device="meta")
        for name in weights
        for key in ("exp_avg", "exp_avg_sq", "step")
    }
    return kept + 4 * len(weights) + file_bytes(names, is_marked=False)
