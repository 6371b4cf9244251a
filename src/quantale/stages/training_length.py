"""From a recipe's words to the numbers of a training: epochs and shares become steps."""

import math
from dataclasses import fields
from typing import Any

from quantale.core.errors import UsageError
from quantale.core.recipe_training import TrainSection
from quantale.tuning.settings import TrainData, TrainSettings

_COUNTED = {"steps", "warmup_steps", "evaluate_every", "checkpoint_every"}


def train_settings(section: TrainSection, seed: int, data: TrainData) -> TrainSettings:
    """Return the settings of the loop; raises UsageError for epochs of data of unknown length."""
    steps = section.steps or steps_of(section, section.epochs or 1.0, data)
    warmup = section.warmup_steps
    if section.warmup is not None:
        warmup = round(section.warmup * steps)
    every: dict[str, Any] = {
        name: steps_of(section, 1.0, data) if value == "epoch" else value
        for name in ("evaluate_every", "checkpoint_every")
        for value in [getattr(section, name)]
    }
    named = {field.name for field in fields(TrainSettings)} - _COUNTED
    values = section.model_dump(include=named)
    return TrainSettings(**values, **every, steps=steps, warmup_steps=min(warmup, steps), seed=seed)


def steps_of(section: TrainSection, epochs: float, data: TrainData) -> int:
    """Return the optimizer steps that read the training data this often, rounded up."""
    if data.epoch is None:
        raise UsageError("the length of these data is unknown: give steps and not epochs")
    return max(1, math.ceil(epochs * data.epoch / section.accumulation - 1e-9))


def epochs_of(section: TrainSection, steps: int, data: TrainData) -> float | None:
    """Return how often so many steps read the training data; None where that is unknown."""
    return None if data.epoch is None else steps * section.accumulation / data.epoch
