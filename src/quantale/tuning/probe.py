"""The speed of a training, from ten steps on random tokens."""

import time
from typing import Any

import torch

from quantale.core.recipe_training import TrainSection
from quantale.data.batch import Batch
from quantale.tuning.method import Work
from quantale.tuning.optimizers import make_optimizer
from quantale.tuning.precision import Arithmetic
from quantale.tuning.recompute import recomputing
from quantale.tuning.settings import TrainSettings

STEPS = 10
_UNTIMED = 3
"""Steps that warm up."""
_MOST_WORK = 2e11
"""Floating-point operations of a step, about: of a larger batch only some rows are taken."""


def tokens_per_second(
    work: Work,
    section: TrainSection,
    config: Any,
    tokens: int,
    *,
    classifies: bool,
    device: str = "cpu",
) -> float:
    """Take ten steps with rows of so many tokens and return the speed of the last seven.

    The work's model goes to the device.
    """
    parameters = sum(p.numel() for p in work.model.parameters())
    rows = max(1, min(section.batch_size, int(_MOST_WORK / (6 * parameters * tokens))))
    work.model.to(device)
    weights = work.objective.trainable(work.model)
    optimizer = make_optimizer(weights, _settings(section), device)
    arithmetic = Arithmetic(section.precision, device)
    batch = _batch(config, rows, tokens, classifies=classifies).to(torch.device(device))
    times = []
    work.model.train()
    with recomputing(work.model, section.gradient_checkpointing):
        for step in range(STEPS):
            started = time.perf_counter()
            work.objective.at(step / STEPS)
            with arithmetic.autocast():
                loss = work.objective.loss(work.model, batch)
            arithmetic.backward(loss)
            arithmetic.step(optimizer, weights.values(), section.clip)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return rows * tokens * (STEPS - _UNTIMED) / sum(times[_UNTIMED:])


def _settings(section: TrainSection) -> TrainSettings:
    return TrainSettings(
        steps=STEPS,
        learning_rate=section.learning_rate,
        min_learning_rate=0.0,
        warmup_steps=0,
        evaluate_every=STEPS,
        checkpoint_every=STEPS,
        optimizer=section.optimizer,
    )


def _batch(config: Any, rows: int, tokens: int, *, classifies: bool) -> Batch:
    """Return random tokens, with random classes for a classifier."""
    batch = Batch.of_rows(torch.randint(config.vocab_size, (rows, tokens + 1)))
    if classifies:
        return Batch(batch.inputs, torch.randint(config.num_labels, (rows,)))
    return batch
