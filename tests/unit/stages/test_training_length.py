"""Epochs and shares as steps, and what a recipe may say of the length of a training."""

from typing import Any

import pytest
from pydantic import ValidationError

from quantale.core.errors import UsageError
from quantale.core.recipe_training import TrainSection
from quantale.data.batch import Batch
from quantale.stages.training_length import epochs_of, train_settings
from quantale.tuning.settings import TrainData, TrainSettings


def section(**changes: Any) -> TrainSection:
    values = {
        "batch_size": 4,
        "learning_rate": 1e-3,
        "evaluate_every": 10,
        "checkpoint_every": 10,
        **changes,
    }
    return TrainSection(**values)


def data(epoch: float | None) -> TrainData:
    def none(number: int) -> Batch:
        raise AssertionError(number)

    return TrainData(none, [], epoch)


def settings(epoch: float | None, **changes: Any) -> TrainSettings:
    return train_settings(section(**changes), 3, data(epoch))


@pytest.mark.parametrize(
    ("epochs", "epoch", "accumulation", "steps"),
    [(1.0, 10.0, 1, 10), (3.0, 10.5, 1, 32), (1.0, 10.0, 4, 3), (0.01, 10.0, 1, 1)],
)
def test_epochs_become_whole_steps(
    epochs: float, epoch: float, accumulation: int, steps: int
) -> None:
    found = settings(epoch, epochs=epochs, accumulation=accumulation)
    assert found.steps == steps


def test_events_can_follow_epochs_and_the_warm_up_can_be_a_share() -> None:
    found = settings(
        20.0,
        epochs=3.0,
        accumulation=2,
        evaluate_every="epoch",
        checkpoint_every="epoch",
        warmup=0.1,
    )
    assert (found.evaluate_every, found.checkpoint_every, found.warmup_steps) == (10, 10, 3)
    assert epochs_of(section(epochs=3.0, accumulation=2), 30, data(20.0)) == 3.0


def test_steps_need_no_length_of_the_data() -> None:
    assert settings(None, steps=7, warmup_steps=2).steps == 7
    assert epochs_of(section(steps=7), 7, data(None)) is None
    with pytest.raises(UsageError, match="give steps and not epochs"):
        settings(None, epochs=2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "as steps or as epochs"),
        ({"steps": 3, "epochs": 1.0}, "as steps or as epochs"),
        ({"steps": 3, "warmup_steps": 4}, "longer than the training"),
        ({"steps": 3, "warmup_steps": 1, "warmup": 0.1}, "given twice"),
        ({"steps": 3, "min_learning_rate": 1.0}, "above the peak"),
        ({"steps": 3, "optimizer": "sgd"}, "adamw-8bit"),
        ({"steps": 3, "evaluate_every": "day"}, "epoch"),
    ],
)
def test_what_a_recipe_may_not_say(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        section(**changes)
