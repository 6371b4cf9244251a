"""The losses that tuning methods share; each a mean over the scored targets, in fp32."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quantale.data.batch import UNSCORED, Batch

_SMALLEST = 1e-6
"""Of a squared norm that something is divided by."""


def logits_of(model: Any, batch: Batch) -> Tensor:
    """Return fp32 logits: (rows, tokens, vocabulary), or (rows, classes) of a classifier."""
    return _outputs(model, batch).logits.float()


def logits_and_features(model: Any, batch: Batch) -> tuple[Tensor, Sequence[Tensor]]:
    """Return what `logits_of` does, and the outputs of every block: (rows, tokens, width) each.

    The last block's come after the final norm.
    """
    found = _outputs(model, batch, output_hidden_states=True)
    return found.logits.float(), found.hidden_states[1:]


def _outputs(model: Any, batch: Batch, **wanted: bool) -> Any:
    mask = {} if batch.mask is None else {"attention_mask": batch.mask}
    return model(input_ids=batch.inputs, use_cache=False, **mask, **wanted)


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


def feature_loss(ours: Sequence[Tensor], theirs: Sequence[Tensor], batch: Batch) -> Tensor:
    """Return the squared distance of a teacher's features, as a share of their own square.

    Mean over the blocks and the scored targets; of `logits_and_features` on the same batch. After
    Jiao et al., "TinyBERT", arXiv 1909.10351, equation 8, which takes the plain mean square: here
    a token or block of large numbers counts no more than another.
    """
    scored = _scored(batch)
    shares = [
        (mine.float() - wanted.float()).square().sum(-1)
        / wanted.float().square().sum(-1).clamp(min=_SMALLEST)
        for mine, wanted in zip(ours, theirs, strict=True)
    ]
    found = torch.stack(shares).mean(0).flatten()
    return (found * scored).sum() / scored.sum().clamp(min=1)


def _scored(batch: Batch) -> Tensor:
    """Return where a target is scored; nothing is read off the device."""
    return batch.targets.flatten() >= 0
