"""The section of a recipe that describes a training."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quantale.core.recipe_base import Count, Rate, Scalar, Section, Share, Text, broken_rule


class TrainSection(Section):
    """A training: a tuning method, and AdamW with warm-up and cosine decay."""

    method: Text = "full"
    """Plug-in name of the tuning method."""
    settings: Mapping[str, Scalar] = {}
    """The tuning method's own settings, such as rank."""
    teacher: Text | None = None
    """Model of methods that need a teacher: fp32, pretrained, a folder or a Hub name; None: the
    base that variants are compared with."""
    steps: Count
    """Optimizer steps."""
    batch_size: Count
    """Windows a forward pass."""
    accumulation: Count = 1
    """Forward passes an optimizer step."""
    learning_rate: Rate
    """Peak rate, reached at the end of the warm-up."""
    min_learning_rate: Annotated[float, Field(ge=0)]
    """Rate at the last step."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps of linear warm-up."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay of the two moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay, of weights with two dimensions only."""
    clip: Rate = 1.0
    """Largest gradient norm."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto`: bf16 autocast where the device computes it natively."""
    evaluate_every: Count
    """Steps between two validations; the best one is kept."""
    evaluate_documents: Count = 64
    """Validation documents a validation."""
    checkpoint_every: Count
    """Steps between two checkpoints; what a kill can cost."""

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> Self:
        if self.warmup_steps > self.steps:
            raise broken_rule("warmup_steps", f"longer than the training of {self.steps} steps")
        if self.min_learning_rate > self.learning_rate:
            raise broken_rule("min_learning_rate", "above the peak learning_rate")
        return self
