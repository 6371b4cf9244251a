"""The learning rate of every step: linear warm-up, then cosine, linear or constant."""

import math
from collections.abc import Callable, Mapping

from quantale.tuning.settings import TrainSettings

_SHAPES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _: 1.0,
}
"""Share of the way from the lowest to the peak rate, by the share of the steps that are done.

The cosine is that of Loshchilov and Hutter, arXiv 1608.03983, equation 5, without restarts.
"""


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Return the rate of the step with this number, from 0: linear up to the peak, then down."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    rest = max(1, settings.steps - 1 - settings.warmup_steps)
    share = _SHAPES[settings.schedule](min(1.0, (step - settings.warmup_steps) / rest))
    span = settings.learning_rate - settings.min_learning_rate
    return settings.min_learning_rate + share * span
