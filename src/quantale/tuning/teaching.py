"""The objective of methods that learn from a teacher: its distributions, mixed with the labels.

Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.data.batch import Batch
from quantale.tuning.losses import label_loss, logits_of, on_device, teacher_loss
from quantale.tuning.method import Start


@dataclass(frozen=True)
class Teaching:
    """KL from a teacher over given parameters; implements the loop's `Objective`."""

    teacher: PreTrainedModel
    """Frozen and in evaluation mode."""
    weights: Mapping[str, nn.Parameter]
    """What is trained, by name."""
    temperature: float
    """Of both distributions."""
    label_weight: float
    """Share of the cross-entropy in the loss; the rest is the teacher's."""
    dropout: bool = True
    """Whether the model's own dropout is on; noise that a packed model cannot make up for."""

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return what is trained, by name."""
        del model
        return dict(self.weights)

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Mean nats a scored target, computed in fp32."""
        if not self.dropout:
            model.eval()
        logits = logits_of(model, batch)
        mine = label_loss(logits, batch) if self.label_weight else logits.new_zeros(())
        if self.label_weight == 1:
            return mine
        with torch.no_grad():
            theirs = logits_of(on_device(self.teacher, logits.device), batch)
        taught = teacher_loss(logits, theirs, batch, self.temperature)
        return self.label_weight * mine + (1 - self.label_weight) * taught

    def at(self, share: float) -> None:
        """Do nothing: the loss is the same from the first step to the last."""
        del share


def check_teaching(owner: str, temperature: float, label_weight: float) -> None:
    """Raise UsageError, naming the method, for settings out of range."""
    if not 0 < temperature < float("inf"):
        raise UsageError(f"{owner}: temperature must be above 0, {temperature} came")
    if not 0 <= label_weight <= 1:
        raise UsageError(f"{owner}: label_weight lies in [0, 1], {label_weight} came")


def teacher_for(owner: str, start: Start) -> PreTrainedModel:
    """Return the teacher of a start; raises UsageError when its logits cannot be compared."""
    teacher = start.teacher
    if teacher is None:
        raise UsageError(f"the tuning method {owner} needs a teacher")
    mine, theirs = (model.config.get_text_config().vocab_size for model in (start.model, teacher))
    if mine != theirs:
        raise UsageError(
            f"the teacher has a vocabulary of {theirs} tokens and the model one of {mine}; "
            f"{owner} compares token by token, so take a teacher with the model's own tokenizer"
        )
    return teacher
