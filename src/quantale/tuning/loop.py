"""The training loop: steps with accumulation and clipping, validation, checkpoints, early stopping.

Every tuning method is an `Objective` (a loss and a set of trainable parameters) given to `train`.
The batch of a step is a function of the step, so that a resumed run reads what the killed one
would have read, and ends in the same bytes. Optimizers, schedules, precision and the sharing of
batches among processes have modules of their own.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from quantale.core import heap
from quantale.core.errors import NumericalError, UsageError
from quantale.core.progress import Progress
from quantale.data.batch import Batch
from quantale.tuning import checkpoint
from quantale.tuning.checkpoint import TrainState
from quantale.tuning.cost import CostMeter
from quantale.tuning.distribution import Group
from quantale.tuning.optimizers import make_optimizer
from quantale.tuning.precision import Arithmetic
from quantale.tuning.recompute import recomputing
from quantale.tuning.schedules import learning_rate
from quantale.tuning.settings import (
    Objective,
    TrainData,
    TrainResult,
    TrainSettings,
    mapped_from,
)
from quantale.tuning.validation import Score, Scoring

_OTHER_RANK = 2**31
"""Distance of the dropout's seeds of two processes."""


def train(
    model: nn.Module,
    objective: Objective,
    data: TrainData,
    settings: TrainSettings,
    folder: Path,
    progress: Progress,
    *,
    allow_other_threads: bool = False,
) -> TrainResult:
    """Train in a staging folder, from its newest valid checkpoint if there is one.

    The model ends in evaluation mode with the weights of the best validation. The folder gets
    `checkpoints/`, `metrics.jsonl` (the same bytes in every run) and `timings.jsonl`, of several
    processes by the first. The random state of the process is changed. Raises NumericalError when
    a loss or gradient is not finite, and UsageError when a resume has other threads, processes,
    another device or precision.
    """
    run = _Run(model, objective, settings)
    state = run.restored(folder, allow_other_threads=allow_other_threads)
    clock = _Clock(settings.steps, state)
    progress.stage("train", settings.steps)
    progress.advance(state.step)
    threshold = mapped_from(settings.maps, settings.optimizer)
    with heap.mapping(threshold), recomputing(model, settings.gradient_checkpointing):
        while state.step < settings.steps:
            loss, tokens = run.step(data.batches, state.step)
            state.metrics.append(_line(state.step + 1, "train", loss=loss, learning_rate=run.rate))
            state.step += 1
            clock.count(tokens)
            if state.step % settings.evaluate_every == 0 or state.step == settings.steps:
                run.validate(data.validation, state)
                state.timings.append(clock.line(state.step))
            progress.advance(1, loss=loss, **clock.fields(state.step))
            if settings.patience is not None and state.stale >= settings.patience:
                progress.note(f"step {state.step}: no better than step {state.best_step}, ended")
                break
            if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
                state.cost = clock.cost()
                run.save(folder, state)
    state.cost = clock.cost()
    run.keep_best(folder, state)
    return TrainResult(
        steps=state.step,
        best_step=state.best_step,
        best_loss=state.best_loss,
        best_accuracy=state.best_accuracy,
        cost=state.cost,
        **run.environment,
    )


class _Run:
    """Model, optimizer and device of one training in this process."""

    def __init__(self, model: nn.Module, objective: Objective, settings: TrainSettings) -> None:
        self._settings = settings
        self._objective = objective
        self._group = Group(cpu=settings.cpu)
        device = self._group.device
        self._model = model.to(device)
        self.weights = objective.trainable(model)
        self._optimizer = make_optimizer(self.weights, settings, device.type)
        self._arithmetic = Arithmetic(settings.precision, device.type)
        self._scoring = Scoring(
            objective, self._arithmetic, self._group, settings.best_by == "accuracy"
        )
        self.environment: dict[str, Any] = {
            "device": device.type,
            "precision": self._arithmetic.name,
            "threads": torch.get_num_threads(),
            "processes": self._group.count,
        }
        self.rate = 0.0
        self._group.same_start(self.weights.values())
        _seed_everything(settings.seed, self._group.rank)

    def restored(self, folder: Path, *, allow_other_threads: bool) -> TrainState:
        """Return the state of the newest checkpoint, or of a new training."""
        state = checkpoint.restore(
            folder,
            self.weights,
            self._optimizer,
            self.environment,
            allow_other_threads=allow_other_threads,
        )
        if int(self._group.add(torch.tensor(state.step))) != state.step * self._group.count:
            raise UsageError(
                "the processes do not find the same checkpoint: to resume on several machines give "
                "them one folder, or begin anew"
            )
        if state.step:
            self._arithmetic.restore(state.scale)
            self._group.restore_random(state.ranks)
        return state

    def save(self, folder: Path, state: TrainState) -> None:
        """Write a checkpoint."""
        state.ranks, state.scale = self._group.random_states(), self._arithmetic.state()
        if self._group.is_first:
            checkpoint.save(folder, state, self.weights, self._optimizer, self.environment)

    def step(self, batches: Callable[[int], Batch], step: int) -> tuple[float, int]:
        """One optimizer step; returns its mean loss before the step and the positions seen."""
        self._model.train()
        self.rate = learning_rate(step, self._settings)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        self._objective.at(step / self._settings.steps)
        accumulation = self._settings.accumulation
        parts = [batches(step * accumulation + part) for part in range(accumulation)]
        loss = self._backward(parts)
        self._group.add_gradients(self.weights.values())
        norm = self._arithmetic.step(self._optimizer, self.weights.values(), self._settings.clip)
        if not math.isfinite(loss) or self._arithmetic.is_lost(norm):
            raise NumericalError(
                f"step {step + 1}: loss {loss}, gradient norm {norm}; "
                "lower the learning rate or train in fp32"
            )
        return loss, sum(part.positions for part in parts)

    def _backward(self, parts: Sequence[Batch]) -> float:
        """Add up gradients, a scored target a vote, whatever its batch; returns the mean loss."""
        counts = [part.scored for part in parts]
        scored = max(1, sum(counts))
        total = torch.zeros((), dtype=torch.float64)
        for part, count in zip(parts, counts, strict=True):
            own = self._group.share(part)
            votes = count if own is part else own.scored
            if votes:
                with self._arithmetic.autocast():
                    loss = self._objective.loss(self._model, own)
                    loss = loss if votes == scored else loss * (votes / scored)
                self._arithmetic.backward(loss)
                total = total.to(loss.device) + loss.detach()
        return float(self._group.add(total))

    def validate(self, batches: Sequence[Batch], state: TrainState) -> None:
        """Score the validation batches and remember the best weights."""
        self._model.eval()
        self._objective.at(1.0)
        score = self._scoring.score(self._model, batches)
        if not math.isfinite(score.loss):
            raise NumericalError(f"step {state.step}: validation loss {score.loss}")
        more = {} if score.accuracy is None else {"accuracy": score.accuracy}
        state.metrics.append(
            _line(state.step, "validation", loss=score.loss, learning_rate=self.rate, **more)
        )
        state.stale += 1
        best = Score(state.best_loss, state.best_accuracy) if state.best_weights else None
        if score.is_better_than(best):
            state.best_step, state.stale = state.step, 0
            state.best_loss, state.best_accuracy = score.loss, score.accuracy
            state.best_weights = {
                name: weight.detach().to("cpu", copy=True).contiguous()
                for name, weight in self.weights.items()
            }

    @torch.no_grad()
    def keep_best(self, folder: Path, state: TrainState) -> None:
        """Write the logs, and leave the model in evaluation mode with the best weights."""
        if self._group.is_first:
            checkpoint.write_logs(folder, state)
        for name, weight in self.weights.items():
            weight.copy_(state.best_weights[name])
        self._model.eval()


class _Clock(CostMeter):
    """Cost of this process, added to what earlier processes spent, and how it goes on."""

    def __init__(self, steps: int, state: TrainState) -> None:
        super().__init__(state.cost)
        self._steps, self._first = steps, state.step

    def fields(self, step: int) -> dict[str, float]:
        left = self.own_seconds / max(1, step - self._first) * (self._steps - step)
        return {"tokens_per_second": self.own_tokens_per_second, "seconds_left": left}

    def line(self, step: int) -> str:
        seconds = self.cost().seconds
        values = {
            "step": step,
            "seconds": seconds,
            "tokens_per_second": self.own_tokens_per_second,
        }
        return json.dumps(values, sort_keys=True) + "\n"


def _seed_everything(seed: int, rank: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed((seed + rank * _OTHER_RANK) % 2**63)


def _line(step: int, split: str, **values: float) -> str:
    return json.dumps({"step": step, "split": split, **values}, sort_keys=True) + "\n"
