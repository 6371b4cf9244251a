"""The section of a recipe that describes a training."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quantale.core.recipe_base import Count, Rate, Scalar, Section, Share, Text, broken_rule

Optimizer = Literal["adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit"]
"""AdamW of torch (fused), or of bitsandbytes: with moments in 8 bits, in pages that may leave a GPU
for the host's memory, or both."""
Schedule = Literal["cosine", "linear", "constant"]
"""How the rate goes on behind the warm-up."""
Precision = Literal["auto", "bf16", "fp16", "fp32"]
"""`auto`: bf16 autocast where the device computes it natively, else fp32."""
Every = Count | Literal["epoch"]
"""Steps between two events, or one pass over the training data."""


class TrainSection(Section):
    """A training: a tuning method, an optimizer with a schedule, and how long it goes on."""

    method: Text = "full"
    """Plug-in name of the tuning method."""
    settings: Mapping[str, Scalar] = {}
    """The tuning method's own settings, such as rank."""
    teacher: Text | None = None
    """Model of methods that need a teacher: fp32, pretrained, a folder or a Hub name; None: the
    base that variants are compared with."""
    steps: Count | None = None
    """Optimizer steps; or `epochs`."""
    epochs: Rate | None = None
    """Passes over the training data, in place of `steps`; the last step may begin another."""
    batch_size: Count
    """Windows a forward pass."""
    accumulation: Count = 1
    """Forward passes an optimizer step."""
    learning_rate: Rate
    """Peak rate, reached at the end of the warm-up."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Rate at the last step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up; or `warmup`."""
    warmup: Share | None = None
    """Warm-up as a share of all steps, in place of `warmup_steps`."""
    schedule: Schedule = "cosine"
    """From the peak to `min_learning_rate`, or constantly the peak."""
    optimizer: Optimizer = "adamw"
    """What takes the steps; all but adamw need bitsandbytes."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay of the two moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay, of weights with two dimensions only."""
    clip: Rate = 1.0
    """Largest gradient norm."""
    precision: Precision = "auto"
    """What layers compute in; weights and optimizer stay as they are loaded, in fp32."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed a second time instead of being kept for the backward pass."""
    evaluate_every: Every
    """Steps between two validations, or `epoch`; the best one is kept."""
    best_by: Literal["loss", "accuracy"] = "loss"
    """What makes a validation the best; accuracy is that of a classifier."""
    patience: Count | None = None
    """Validations without a new best after which the training ends; None: it never ends early."""
    evaluate_documents: Count = 64
    """Validation documents a validation."""
    checkpoint_every: Every
    """Steps between two checkpoints, or `epoch`; what a kill can cost."""

    @model_validator(mode="after")
    def _length_is_given_once(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise broken_rule("steps", "give the length once, as steps or as epochs")
        return self

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> Self:
        if self.warmup_steps and self.warmup is not None:
            raise broken_rule("warmup", "the warm-up is given twice, in steps and as a share")
        if self.steps is not None and self.warmup_steps > self.steps:
            raise broken_rule("warmup_steps", f"longer than the training of {self.steps} steps")
        if self.min_learning_rate > self.learning_rate:
            raise broken_rule("min_learning_rate", "above the peak learning_rate")
        return self
