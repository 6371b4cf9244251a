"""Rates of the schedules beside the cosine, which `test_loop` follows."""

import pytest

from quantale.core.recipe_training import Schedule
from quantale.tuning.schedules import learning_rate
from quantale.tuning.settings import TrainSettings


def rates(schedule: Schedule, warmup: int = 2, steps: int = 7) -> list[float]:
    settings = TrainSettings(
        steps=steps,
        learning_rate=1.0,
        min_learning_rate=0.2,
        warmup_steps=warmup,
        evaluate_every=1,
        checkpoint_every=1,
        schedule=schedule,
    )
    return [learning_rate(step, settings) for step in range(steps)]


def test_linear_falls_by_equal_amounts() -> None:
    assert rates("linear") == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_constant_stays_at_the_peak() -> None:
    assert rates("constant") == pytest.approx([0.5, 1, 1, 1, 1, 1, 1])


def test_cosine_is_half_way_in_the_middle() -> None:
    found = rates("cosine", warmup=0, steps=5)
    assert found[::2] == pytest.approx([1.0, 0.6, 0.2])
    assert found[1] > 0.8


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_one_step_is_taken_at_the_peak(schedule: Schedule) -> None:
    assert rates(schedule, warmup=0, steps=1) == [1.0]
