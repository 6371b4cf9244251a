"""The losses that tuning methods share; each a mean over the scored targets, in fp32."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quantale.data.batch import UNSCORED, Batch


def logits_of(model: Any, batch: Batch) -> Tensor:
    """Return fp32 logits: (rows, tokens, vocabulary), or (rows, classes) of a classifier."""
    mask = {} if batch.mask is None else {"attention_mask": batch.mask}
    return model(input_ids=batch.inputs, use_cache=False, **mask).logits.float()


def on_device(model: Any, device: torch.device) -> Any:
    """Return a model on a device; one that is there is not walked through."""
    return model if model.device == device else model.to(device)


def label_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the scored targets, nats; of tokens or of classes.

    Without a scored target it is zero.
    """
    total = functional.cross_entropy(
        logits.flatten(0, -2), batch.targets.flatten(), ignore_index=UNSCORED, reduction="sum"
    )
    return total / _scored(batch).sum().clamp(min=1)


def teacher_loss(logits: Tensor, teacher: Tensor, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Return the mean KL from teacher to student over the scored targets, nats.

    Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2:
    both distributions are softened by the temperature and the loss is multiplied by its square,
    so that its gradient does not shrink. logits, teacher: of `logits_of` on the same batch.
    Without a scored target it is zero.
    """
    ours = (logits.flatten(0, -2) / temperature).log_softmax(-1)
    theirs = (teacher.flatten(0, -2) / temperature).log_softmax(-1)
    found = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
    scored = _scored(batch)
    return (found * scored).sum() / scored.sum().clamp(min=1) * temperature**2


def _scored(batch: Batch) -> Tensor:
    """Return where a target is scored; nothing is read off the device."""
    return batch.targets.flatten() >= 0
