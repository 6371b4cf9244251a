"""Distillation: a model, often a smaller one, learns a teacher's distributions.

Hinton et al., arXiv 1503.02531, section 2: KL at a temperature, mixed with the cross-entropy of
the text. A smaller student begins with some of the layers of the model that it is cut from, as
DistilBERT and DistilGPT2 did (Sanh et al., arXiv 1910.01108, section 3: "taking one layer out of
two"), and with the channels, heads and columns that give out most, as Minitron does (see
`models/narrow.py`). DistilBERT's third loss, the cosine of hidden states, is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.models.narrow import Widths, narrow
from quantale.models.shorten import evenly, shorten
from quantale.tuning.method import Order, Start, Work
from quantale.tuning.teaching import Teaching, check_teaching, teacher_for


@dataclass(frozen=True)
class Distill:
    """Settings of distillation."""

    layers: int | str | None = None
    """Blocks that the student keeps: how many, evenly spaced, or their numbers from 0, as "0,2,5".
    None: all, the student is the model that is given."""
    width: int | None = None
    """Channels that the student keeps; None: all."""
    heads: int | None = None
    """Heads that it keeps; None: as many as the width's share."""
    mlp: int | None = None
    """Columns of the MLP that it keeps; None: the width's share."""
    temperature: float = 2.0
    """Of both distributions."""
    label_weight: float = 0.5
    """Share of the cross-entropy of the text in the loss."""

    order: ClassVar[Order] = "tune-first"
    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_teaching("distill", self.temperature, self.label_weight)
        if isinstance(self.layers, str) and not all(
            part.strip().isdecimal() for part in self.layers.split(",")
        ):
            raise UsageError(f"distill: layers are a number or like 0,2,5; {self.layers!r} came")

    def begin(self, start: Start) -> Work:
        """Cut the student out of the model; raises UsageError for parts that it has not."""
        teacher = teacher_for("distill", start)
        student = self._smaller(start)
        weights = {name: p for name, p in student.named_parameters() if p.requires_grad}
        objective = Teaching(teacher, weights, self.temperature, self.label_weight)
        return Work(student, objective, lambda: student)

    def _smaller(self, start: Start) -> PreTrainedModel:
        student = start.model
        if self.width is not None or self.heads is not None or self.mlp is not None:
            width = self.width or int(student.config.get_text_config().hidden_size)
            student = narrow(student, Widths(width, self.heads, self.mlp), start.sample)
        return student if self.layers is None else shorten(student, self._kept(student))

    def _kept(self, model: nn.Module) -> tuple[int, ...]:
        if isinstance(self.layers, str):
            return tuple(int(part) for part in self.layers.split(","))
        return evenly(model, int(self.layers or 0))
