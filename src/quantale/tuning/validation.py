"""The score of a model on the validation batches, and which of two scores is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quantale.core.errors import DataError, UsageError
from quantale.data.batch import Batch
from quantale.tuning.distribution import Group
from quantale.tuning.losses import logits_of
from quantale.tuning.precision import Arithmetic
from quantale.tuning.settings import Objective


@dataclass(frozen=True)
class Score:
    """Of one validation; every scored target has one vote, whatever its batch."""

    loss: float
    """Mean of the tuning method's loss."""
    accuracy: float | None = None
    """Share of right classes; None where the loss decides."""

    def is_better_than(self, other: "Score | None") -> bool:
        """Compare accuracies where there are any; of equal ones the lower loss wins."""
        if other is None:
            return True
        if self.accuracy != other.accuracy:
            return (self.accuracy or 0.0) > (other.accuracy or 0.0)
        return self.loss < other.loss


@dataclass(frozen=True)
class Scoring:
    """How a model is scored."""

    objective: Objective
    arithmetic: Arithmetic
    group: Group
    counts_classes: bool

    @torch.no_grad()
    def score(self, model: Any, batches: Sequence[Batch]) -> Score:
        """Score all batches, shared among the processes.

        Raises DataError where nothing is scored, and UsageError where classes are to be counted
        and there are none.
        """
        sums = torch.zeros(3, dtype=torch.float64)  # loss, right, scored
        for batch in batches:
            own = self.group.share(batch)
            if own.scored:
                with self.arithmetic.autocast():
                    loss = self.objective.loss(model, own)
                right = self._right(model, own) if self.counts_classes else 0.0
                sums += torch.tensor([loss.item() * own.scored, right, own.scored])
        loss_sum, right_sum, scored = self.group.add(sums).tolist()
        if scored == 0:
            raise DataError("the validation batches have no token to score; give longer documents")
        return Score(loss_sum / scored, right_sum / scored if self.counts_classes else None)

    def _right(self, model: Any, batch: Batch) -> float:
        if batch.targets.dim() != 1:
            raise UsageError("best_by accuracy is for classifiers; write best_by: loss")
        with self.arithmetic.autocast():
            chosen = logits_of(model, batch).argmax(-1)
        return float((chosen == batch.targets).sum())
