"""Quantization-aware training: the model learns with the weights that it will be stored with.

Jacob et al., arXiv 1712.05877, section 3, for any method that needs no calibration; with `bitnet`
it is BitNet b1.58 (Ma et al., arXiv 2402.17764, section 2; SubLN from Wang et al., arXiv
2310.11453, section 2.1). Weights pass through the straight-through estimator, see
tuning/straight_through.py. With a teacher it is quantization-aware distillation: the labels are
mixed with, or replaced by, the predictions of a model in full precision (Liu et al., "LLM-QAT",
arXiv 2305.17888, section 3.1; the teacher's text is not generated here).

The packed model at the end computes the logits of the trained one, bit for bit in float32.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.data.batch import Batch
from quantale.tuning import wrapping
from quantale.tuning.equalize import equalize_columns
from quantale.tuning.losses import (
    feature_loss,
    label_loss,
    logits_and_features,
    logits_of,
    on_device,
    teacher_loss,
)
from quantale.tuning.low_rank import Ranks, TermPlan
from quantale.tuning.method import Order, Start, Work
from quantale.tuning.straight_through import Strength, strength_at


@dataclass(frozen=True)
class Qat:
    """Settings of quantization-aware training; every parameter is trained."""

    warm_in: float = 0.0
    """Share of the steps over which the strength of the quantization grows from 0 to 1."""
    teacher_weight: float = 0.0
    """Share of the teacher in the loss: 0 are the labels alone, 1 the teacher alone."""
    temperature: float = 1.0
    """What both predictions are softened by before the teacher's is learned."""
    feature_weight: float = 0.0
    """Weight of the distance between the teacher's block outputs and the model's own, added to the
    loss; the teacher must have the model's shape."""
    sub_norm: bool = False
    """Whether every quantized linear layer of the blocks gets a norm of its inputs (SubLN)."""
    equalize: bool = False
    """Whether columns of linear layers are evened out first, their scales moved into the norms."""
    rank: int = 0
    """Of a low-rank term in 8 bits beside every quantized linear layer of the blocks; 0: none."""
    rank_pattern: str = ""
    """Layers with a rank of their own, with commas between: `**.0.*attn.*=96,**.down_proj=8`; the
    first pattern that fits decides."""

    order: ClassVar[Order] = "within"

    def __post_init__(self) -> None:
        if not 0 <= self.warm_in <= 1:
            raise UsageError(f"qat: warm_in is a share from 0 to 1, {self.warm_in} came")
        if not 0 <= self.teacher_weight <= 1:
            raise UsageError(f"qat: teacher_weight lies in [0, 1], {self.teacher_weight} came")
        if self.temperature <= 0:
            raise UsageError(f"qat: temperature is above 0, {self.temperature} came")
        if not 0 <= self.feature_weight < float("inf"):
            raise UsageError(f"qat: feature_weight is 0 or above, {self.feature_weight} came")
        wrapping.check_beside(sub_norm=self.sub_norm, terms=bool(self.ranks))

    @property
    def ranks(self) -> Ranks:
        """Which layers get a low-rank term; raises UsageError where that is not understood."""
        return Ranks(self.rank, self.rank_pattern)

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss looks at a teacher."""
        return self.teacher_weight > 0 or self.feature_weight > 0

    def begin(self, start: Start) -> Work:
        """Wrap every site that the methods quantize; raises UsageError where they cannot be."""
        if start.methods is None:
            raise UsageError(
                "qat needs a method to train through; give the variant one (method: bitnet), and "
                "start: scratch to train it from the beginning"
            )
        if start.teacher is not None:
            _check_vocabulary(start.model, start.teacher)
            if self.feature_weight > 0:
                _check_shape(start.model, start.teacher)
        equalized = equalize_columns(start.model) if self.equalize else None
        plan = TermPlan(self.ranks, start.sample, start.sample_mask, start.seed)
        terms = plan if self.ranks else None
        strength = wrapping.wrap(start.model, start.methods, sub_norm=self.sub_norm, terms=terms)
        objective = _Training(self, start.teacher, strength)
        said = {} if equalized is None else {"equalized_layers": equalized}
        return Work(start.model, objective, lambda: wrapping.unwrap(start.model), lambda: said)


class _Training:
    """The objective: labels, teacher, and a strength that follows the steps."""

    def __init__(self, settings: Qat, teacher: Any, strength: Strength) -> None:
        self._settings, self._teacher, self._strength = settings, teacher, strength

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Parameters that the loop changes, by name, tied ones once."""
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Mean nats a scored target: of the labels, of the divergence from the teacher, or both."""
        if self._settings.feature_weight > 0:
            return self._featured(model, batch)
        logits = logits_of(model, batch)
        if self._settings.teacher_weight == 0:
            return label_loss(logits, batch)
        with torch.no_grad():
            wanted = logits_of(on_device(self._teacher, batch.inputs.device), batch)
        return self._mixed(logits, wanted, batch)

    def _featured(self, model: Any, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted, theirs = logits_and_features(
                on_device(self._teacher, batch.inputs.device), batch
            )
        logits, ours = logits_and_features(model, batch)
        distance = feature_loss(ours, theirs, batch)
        return self._mixed(logits, wanted, batch) + self._settings.feature_weight * distance

    def _mixed(self, logits: Tensor, wanted: Tensor, batch: Batch) -> Tensor:
        share = self._settings.teacher_weight
        if share == 0:
            return label_loss(logits, batch)
        learned = teacher_loss(logits, wanted, batch, self._settings.temperature)
        return learned if share == 1 else share * learned + (1 - share) * label_loss(logits, batch)

    def at(self, share: float) -> None:
        """Set the strength of the quantization."""
        self._strength.value = strength_at(share, self._settings.warm_in)


def _check_vocabulary(model: PreTrainedModel, teacher: PreTrainedModel) -> None:
    ours, theirs = (_outputs(m.config) for m in (model, teacher))
    if ours != theirs:
        raise UsageError(
            f"the teacher predicts {theirs} and the model {ours}; a teacher must share the "
            "model's vocabulary and classes"
        )


def _check_shape(model: PreTrainedModel, teacher: PreTrainedModel) -> None:
    ours, theirs = (
        f"{config.num_hidden_layers} blocks of width {config.hidden_size}"
        for config in (model.config, teacher.config)
    )
    if ours != theirs:
        raise UsageError(
            f"the teacher has {theirs} and the model {ours}: feature_weight compares block by "
            "block; leave it out, or take a teacher of the model's shape"
        )


def _outputs(config: Any) -> str:
    classes = any("Classification" in name for name in config.architectures or ())
    return f"{config.num_labels} classes" if classes else f"{config.vocab_size} tokens"
