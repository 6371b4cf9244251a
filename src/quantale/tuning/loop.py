"""The training loop: AdamW, warm-up and cosine, accumulation, clipping, validation, checkpoints.

Every tuning method is an `Objective` (a loss and a set of trainable parameters) given to `train`.
The batch of a step is a function of the step, so that a resumed run reads what the killed one
would have read, and ends in the same bytes. `accelerate` finds the device, accumulates and clips.
bf16 is torch's autocast around the loss and not accelerate's `mixed_precision`, which is fixed for
the life of a process and would copy all logits to fp32 on their way out of the model.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from quantale.core.errors import DataError, EnvironmentLackingError, NumericalError
from quantale.core.progress import Progress
from quantale.data.batch import Batch
from quantale.tuning import checkpoint
from quantale.tuning.checkpoint import TrainState
from quantale.tuning.cost import CostMeter
from quantale.tuning.settings import Objective, TrainData, TrainResult, TrainSettings


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
    `checkpoints/`, `metrics.jsonl` (the same bytes in every run) and `timings.jsonl`. The random
    state of the process is changed. Raises NumericalError when a loss or gradient is not finite,
    and UsageError when a resume has other threads, another device or precision.
    """
    run = _Run(model, objective, settings)
    state = checkpoint.restore(
        folder,
        run.weights,
        run.optimizer,
        run.environment,
        allow_other_threads=allow_other_threads,
    )
    clock = _Clock(settings.steps, state)
    progress.stage("train", settings.steps)
    progress.advance(state.step)
    while state.step < settings.steps:
        loss, tokens = run.step(data.batches, state.step)
        state.metrics.append(_line(state.step + 1, "train", loss, run.rate))
        state.step += 1
        clock.count(tokens)
        if state.step % settings.evaluate_every == 0 or state.step == settings.steps:
            run.validate(data.validation, state)
            state.timings.append(clock.line(state.step))
        if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
            state.cost = clock.cost()
            checkpoint.save(folder, state, run.weights, run.optimizer, run.environment)
        progress.advance(1, loss=loss, **clock.fields(state.step))
    state.cost = clock.cost()
    checkpoint.write_logs(folder, state)
    run.keep_best(state)
    return TrainResult(
        steps=state.step,
        best_step=state.best_step,
        best_loss=state.best_loss,
        cost=state.cost,
        **run.environment,
    )


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Rate of the step with this number, from 0: linear up to the peak, then cosine down."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    rest = max(1, settings.steps - 1 - settings.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - settings.warmup_steps) / rest)))
    span = settings.learning_rate - settings.min_learning_rate
    return settings.min_learning_rate + share * span


class _Run:
    """Model, optimizer and device of one training in this process."""

    def __init__(self, model: nn.Module, objective: Objective, settings: TrainSettings) -> None:
        self._settings = settings
        self._objective = objective
        self._accelerator = Accelerator(
            cpu=settings.cpu,
            mixed_precision="no",
            gradient_accumulation_steps=settings.accumulation,
        )
        if self._accelerator.num_processes > 1:
            raise EnvironmentLackingError("training runs in one process; start it without torchrun")
        device = self._accelerator.device
        self._model = self._accelerator.prepare_model(model)
        self.weights = objective.trainable(model)
        self.optimizer = torch.optim.AdamW(
            _groups(self.weights, settings.weight_decay), betas=settings.betas, fused=True
        )
        self._bf16 = settings.precision == "bf16" or (
            settings.precision == "auto" and _computes_bf16(device.type)
        )
        self.environment: dict[str, Any] = {
            "device": device.type,
            "precision": "bf16" if self._bf16 else "fp32",
            "threads": torch.get_num_threads(),
        }
        self.rate = 0.0
        _seed_everything(settings.seed)

    def step(self, batches: Callable[[int], Batch], step: int) -> tuple[float, int]:
        """One optimizer step; returns its mean loss before the step and the positions seen."""
        self._model.train()
        self.rate = learning_rate(step, self._settings)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self._objective.at(step / self._settings.steps)
        accumulation, total = self._settings.accumulation, 0.0
        parts = [batches(step * accumulation + part) for part in range(accumulation)]
        scored = max(1, sum(part.scored for part in parts))
        for part in parts:
            weight = part.scored * accumulation / scored  # a token a vote, whatever its batch
            with self._accelerator.accumulate(self._model):
                loss = weight * self._loss(part.to(self._accelerator.device))
                self._accelerator.backward(loss)
            total += loss.item() / accumulation
        norm = self._accelerator.clip_grad_norm_(self.weights.values(), self._settings.clip)
        if not math.isfinite(total) or not math.isfinite(float(norm)):
            raise NumericalError(
                f"step {step + 1}: loss {total}, gradient norm {float(norm)}; "
                "lower the learning rate or train in fp32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, sum(part.positions for part in parts)

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch], state: TrainState) -> None:
        """Score the validation batches, a token a vote, and remember the best weights."""
        self._model.eval()
        self._objective.at(1.0)
        total, scored = 0.0, 0
        for batch in batches:
            if batch.scored:
                total += self._loss(batch.to(self._accelerator.device)).item() * batch.scored
            scored += batch.scored
        if scored == 0:
            raise DataError("the validation batches have no token to score; give longer documents")
        loss = total / scored
        if not math.isfinite(loss):
            raise NumericalError(f"step {state.step}: validation loss {loss}")
        state.metrics.append(_line(state.step, "validation", loss, self.rate))
        if loss < state.best_loss:
            state.best_step, state.best_loss = state.step, loss
            state.best_weights = {
                name: weight.detach().to("cpu", copy=True).contiguous()
                for name, weight in self.weights.items()
            }

    @torch.no_grad()
    def keep_best(self, state: TrainState) -> None:
        """Leave the model in evaluation mode with the best weights."""
        for name, weight in self.weights.items():
            weight.copy_(state.best_weights[name])
        self._model.eval()

    def _loss(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=self._bf16):
            return self._objective.loss(self._model, batch)


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


def _groups(weights: dict[str, nn.Parameter], decay: float) -> list[dict[str, Any]]:
    matrices = [weight for weight in weights.values() if weight.dim() >= 2]
    vectors = [weight for weight in weights.values() if weight.dim() < 2]
    groups = [(matrices, decay), (vectors, 0.0)]
    return [{"params": group, "weight_decay": rate} for group, rate in groups if group]


def _computes_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _line(step: int, split: str, loss: float, rate: float) -> str:
    values = {"step": step, "split": split, "loss": loss, "learning_rate": rate}
    return json.dumps(values, sort_keys=True) + "\n"
