"""What a training is given and what it gives back: objective, settings, data, result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import torch
from torch import nn

from quantale.core.heap import KEPT
from quantale.core.recipe_training import Optimizer, Precision, Schedule
from quantale.data.batch import Batch
from quantale.tuning.cost import TrainCost

_MAPPED: Final = 2**20
"""Bytes; parts of weights that are dequantized and dropped between activations otherwise leave
holes, which took a 1B model from 3.5 to 5.5 GB."""


def mapped_from(maps: bool, optimizer: Optimizer) -> int:
    """Return from how many bytes on the C library maps a block in a training.

    maps: see `Work.maps`. bitsandbytes makes five copies of each weight that it updates.
    """
    return _MAPPED if maps or optimizer != "adamw" else KEPT


class Objective(Protocol):
    """What a tuning method is to the loop."""

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters to change, by name, tied ones once."""

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """The scalar to minimise: a mean over the scored targets of the batch."""

    def at(self, share: float) -> None:
        """Hear which share of the steps is done, before each of them; 1 before a validation."""


@dataclass(frozen=True)
class TrainSettings:
    """The numbers of one training."""

    steps: int
    """Optimizer steps."""
    learning_rate: float
    """Peak rate, reached at the end of the warm-up."""
    min_learning_rate: float
    """Rate at the last step; a constant schedule never gets there."""
    warmup_steps: int
    """Steps of linear warm-up."""
    evaluate_every: int
    """Steps between two validations; the last step is always followed by one."""
    checkpoint_every: int
    """Steps between two checkpoints; what a kill can cost."""
    accumulation: int = 1
    """Batches an optimizer step."""
    schedule: Schedule = "cosine"
    """How the rate goes on behind the warm-up."""
    optimizer: Optimizer = "adamw"
    """What takes the steps; see `tuning/optimizers.py`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's two moments."""
    weight_decay: float = 0.1
    """Decoupled decay, of weights with at least two dimensions only."""
    clip: float = 1.0
    """Largest gradient norm."""
    precision: Precision = "auto"
    """`auto`: bf16 autocast where the device computes it natively; fp16 scales its gradients."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed a second time instead of being kept for the backward pass."""
    best_by: Literal["loss", "accuracy"] = "loss"
    """What makes a validation the best; of two equal accuracies the lower loss wins."""
    patience: int | None = None
    """Validations without a new best after which the training ends."""
    maps: bool = False
    """Whether large tensors come and go between those that stay; see `Work.maps`."""
    seed: int = 1337
    """Of the dropout; the data has a seed of its own."""
    cpu: bool = False
    """Whether to leave a GPU alone."""


@dataclass(frozen=True)
class TrainData:
    """What is read."""

    batches: Callable[[int], Batch]
    """The n-th training batch; step s reads the batches s * accumulation and following."""
    validation: Sequence[Batch]
    """The same fixed batches at every validation."""
    epoch: float | None = None
    """Batches in one pass over the training data, not always a whole number; None: unknown."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What was read and what was left out, for the run's summary."""


@dataclass(frozen=True)
class TrainResult:
    """What happened; the model itself now holds the best weights."""

    steps: int
    """Optimizer steps of the whole training, also those before a resume; fewer than planned after
    an early stop."""
    best_step: int
    """Step whose weights were kept."""
    best_loss: float
    """Its validation loss, nats a token."""
    best_accuracy: float | None
    """Its share of right classes; None where `best_by` is the loss."""
    precision: str
    """"bf16", "fp16" or "fp32", as it was computed."""
    device: str
    """Where, as torch names it."""
    threads: int
    """CPU threads of each process."""
    processes: int
    """Processes that shared every batch."""
    cost: TrainCost
    """Of all processes that worked on this training."""
