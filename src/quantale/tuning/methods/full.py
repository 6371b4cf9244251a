"""Full fine-tuning: every parameter learns to predict the next token, or the class of a text."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from quantale.data.batch import Batch
from quantale.tuning.losses import label_loss, logits_of
from quantale.tuning.method import Order, Start, Work


@dataclass(frozen=True)
class Full:
    """Cross-entropy over all parameters that the model shares out for training."""

    order: ClassVar[Order] = "tune-first"
    needs_teacher: ClassVar[bool] = False

    def begin(self, start: Start) -> Work:
        """Train the model itself."""
        return Work(start.model, self, lambda: start.model)

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Parameters that the loop changes, by name, tied ones once."""
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Mean nats a scored target, computed in fp32."""
        return label_loss(logits_of(model, batch), batch)

    def at(self, share: float) -> None:
        """Do nothing: the loss is the same from the first step to the last."""
        del share
