"""Distillation: the mixture of its loss, and the student that is written."""

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_gpt2, windows

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.load import load
from quantale.tuning.loop import train
from quantale.tuning.losses import label_loss, logits_of, teacher_loss
from quantale.tuning.method import Start
from quantale.tuning.methods.distill import Distill
from quantale.tuning.settings import TrainData, TrainSettings

BATCH = Batch.of_rows(windows(2, 17))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_the_stated_mixture_of_teacher_and_labels(weight: float) -> None:
    teacher = tiny_gpt2().requires_grad_(False)
    work = Distill("1", temperature=3.0, label_weight=weight).begin(Start(tiny_gpt2(), teacher))
    logits = logits_of(work.model, BATCH)
    taught = teacher_loss(logits, logits_of(teacher, BATCH), BATCH, 3.0)
    wanted = weight * label_loss(logits, BATCH) + (1 - weight) * taught
    found = work.objective.loss(work.model, BATCH)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert work.objective.trainable(work.model).keys() == dict(work.model.named_parameters()).keys()


def test_a_student_of_all_layers_begins_without_divergence() -> None:
    teacher = tiny_gpt2()
    work = Distill(2, label_weight=0.0).begin(Start(tiny_gpt2(), teacher))
    assert work.objective.loss(work.model, BATCH).item() == pytest.approx(0.0, abs=1e-6)


def test_the_student_learns_and_is_an_ordinary_model(tmp_path: Path) -> None:
    teacher = tiny_gpt2().requires_grad_(False)
    work = Distill(1, label_weight=0.0, temperature=1.0).begin(Start(tiny_gpt2(), teacher))
    settings = TrainSettings(
        steps=12,
        learning_rate=1e-2,
        min_learning_rate=1e-3,
        warmup_steps=1,
        evaluate_every=12,
        checkpoint_every=12,
        precision="fp32",
        cpu=True,
    )
    before = work.objective.loss(work.model, BATCH).item()
    data = TrainData(lambda step: Batch.of_rows(windows(4, 17, seed=step)), [BATCH])
    result = train(work.model, work.objective, data, settings, tmp_path, Silent())
    assert result.best_loss < 0.7 * before
    student = work.finish()
    student.save_pretrained(tmp_path / "student")
    loaded = load(tmp_path / "student").model
    assert loaded.config.n_layer == 1
    assert type(loaded) is type(teacher)
    with torch.no_grad():
        assert torch.equal(logits_of(loaded, BATCH), logits_of(student, BATCH))


def test_layers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"like 0,2,5; 'a,b' came"):
        Distill("a,b")
    with pytest.raises(UsageError, match="needs a teacher"):
        Distill().begin(Start(tiny_gpt2()))
