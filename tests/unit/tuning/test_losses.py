"""The shared losses against sums written out."""

import math

import pytest
import torch

from quantale.data.batch import Batch
from quantale.tuning.losses import label_loss, teacher_loss

BATCH = Batch(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1, 0, -100], [2, -100, -100]]))
LOGITS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
TEACHER = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
PLACES = [(0, 0), (0, 1), (1, 0)]


def test_the_label_loss_is_a_mean_over_scored_targets() -> None:
    wanted = [-math.log(LOGITS[r, t].softmax(-1)[BATCH.targets[r, t]]) for r, t in PLACES]
    assert label_loss(LOGITS, BATCH).item() == pytest.approx(sum(wanted) / 3, rel=1e-5)


def test_classes_are_scored_a_row_at_a_time() -> None:
    batch = Batch(BATCH.inputs, torch.tensor([3, -100]))
    wanted = -math.log(LOGITS[0, 0].softmax(-1)[3])
    assert label_loss(LOGITS[:, 0], batch).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_teacher_loss_is_the_mean_divergence_of_softened_distributions(
    temperature: float,
) -> None:
    total = 0.0
    for r, t in PLACES:
        theirs = (TEACHER[r, t] / temperature).softmax(-1)
        ours = (LOGITS[r, t] / temperature).softmax(-1)
        total += sum(float(p * math.log(p / q)) for p, q in zip(theirs, ours, strict=True))
    found = teacher_loss(LOGITS, TEACHER, BATCH, temperature)
    assert found.item() == pytest.approx(temperature**2 * total / 3, rel=1e-5)
    assert teacher_loss(TEACHER, TEACHER, BATCH, temperature).item() == pytest.approx(0, abs=1e-6)
