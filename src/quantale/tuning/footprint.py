"""The memory that a training needs, from one step that computes nothing.

The model runs forward and backward on tensors that have shapes and dtypes and no data (see
`tuning/live_bytes.py`): what is there at the fullest moment is then known for a model of any size,
method and format, with what autograd keeps, what comes and goes on the way, packed weights that are
dequantized and blocks that are computed again. Moments and the best weights follow from the
trainable parameters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from quantale.core.heap import KEPT
from quantale.core.recipe_training import Optimizer, Precision
from quantale.data.batch import Batch
from quantale.tuning.live_bytes import LiveBytes, counting, materialize
from quantale.tuning.method import Work
from quantale.tuning.precision import Arithmetic
from quantale.tuning.recompute import recomputing
from quantale.tuning.settings import mapped_from

_UPDATED = 5
"""Copies of a weight in fp32 while bitsandbytes updates it: both moments, the gradient, the root of
the second moment and that root corrected (`backends/cpu/ops.py` of its version 0.50)."""
_LARGE = 4096
"""Numbers from which 8-bit optimizers keep a weight's moments in 8 bits."""
_BLOCK = 256
"""Numbers of these that share an fp32 scale."""


@dataclass(frozen=True)
class Step:
    """What decides the memory of a step besides model and objective."""

    rows: int
    """Of one forward pass."""
    tokens: int
    """Of a row."""
    optimizer: Optimizer = "adamw"
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    classes: bool = False
    """Whether a row has a class in place of a target a token."""
    accumulation: int = 1
    """Forward passes an optimizer step."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one training, part by part."""

    weights: int
    """Of the model, trained or not, with its buffers."""
    gradients: int
    """Of all trainable weights."""
    optimizer: int
    """Both moments."""
    best: int
    """The copy of the best weights until now."""
    activations: int
    """What the backward pass begins with: what autograd keeps, the logits, the loss."""
    step: int
    """The most that a step adds: activations, gradients, and what comes and goes."""
    validation: int
    """The most that a validation adds, with a second copy of the best weights."""
    holes: int
    """What the C library's heap holds besides, between tensors that stay."""
    others: int = 0
    """Weights of other models, such as a teacher."""

    @property
    def tensors(self) -> int:
        """Bytes of all tensors at the fullest moment."""
        held = self.weights + self.optimizer + self.best + self.others
        return held + max(self.step, self.validation)

    @property
    def peak(self) -> int:
        """Bytes that the process holds then."""
        return self.tensors + self.holes

    def on_gpu(self) -> "Footprint":
        """Return what of it lies on a GPU where one trains: the best weights are kept beside it."""
        return replace(self, best=0, validation=self.validation - self.best, holes=0)


def footprint(work: Work, step: Step, teacher: nn.Module | None = None) -> Footprint:
    """Return the memory of a training whose model and teacher were built on the device "meta".

    Both are used up. Raises RuntimeError where a layer asks for more than a number of a tensor.
    """
    old = work.objective.trainable(work.model)
    threshold = mapped_from(work.maps, step.optimizer)
    with counting(threshold) as live:
        renewed = materialize(work.model)
        trainable = [renewed[id(weight)] for weight in old.values()]
        weights = live.now
        if teacher is not None:
            materialize(teacher)
        others = live.now - weights
        training = _Imagined(live, work, trainable, step)
        if threshold < KEPT:  # no holes, so that the order of things does not matter
            training.go_on()
        else:
            training.take()
        training.take()
        sizes = [weight.numel() for weight in trainable]
        found = Footprint(
            weights=weights,
            gradients=training.gradients,
            optimizer=optimizer_bytes(sizes, step.optimizer),
            best=sum(weight.nbytes for weight in trainable),
            activations=training.activations,
            step=training.step,
            validation=training.validation,
            holes=0,
            others=others,
        )
        return replace(found, holes=max(0, live.heap.peak - found.tensors))


class _Imagined:
    """The steps of a training, each with a validation that is the best until now."""

    def __init__(
        self, live: LiveBytes, work: Work, weights: list[nn.Parameter], step: Step
    ) -> None:
        self._live, self._work, self._weights, self._step = live, work, weights, step
        self._batch = _batch(step)
        self._moments: list[torch.Tensor] = []
        self._best: list[torch.Tensor] = []
        self.gradients = self.activations = self.step = self.validation = 0

    def take(self) -> None:
        """Take a step, score a batch and keep the weights; `step` is right where moments are."""
        before = self._live.now
        self._live.restart()
        for _ in range(min(2, self._step.accumulation)):
            self._pass()
        self._optimize()
        self._update()
        self.step = self._live.peak - before
        self.gradients = sum(w.grad.nbytes for w in self._weights if w.grad is not None)
        for weight in self._weights:
            weight.grad = None
        before = self._live.now
        self._live.restart()
        self._score()
        self._best = [torch.empty_like(weight) for weight in self._weights]
        self.validation = self._live.peak - before

    def go_on(self) -> None:
        """Be a training that has taken steps before."""
        self._optimize()
        self._best = [torch.empty_like(weight) for weight in self._weights]

    def _optimize(self) -> None:
        if not self._moments:
            self._moments = list(_moments(self._weights, self._step.optimizer))

    def _update(self) -> None:
        """Make what an optimizer of bitsandbytes makes of one weight at a time on a CPU."""
        if self._step.optimizer == "adamw":
            return
        for weight in self._weights:
            tensors = [torch.empty(weight.shape) for _ in range(_UPDATED)]
            del tensors

    def _pass(self) -> None:
        model: Any = self._work.model
        model.train()
        before = self._live.now
        with recomputing(model, self._step.gradient_checkpointing):
            with Arithmetic(self._step.precision, "cpu").autocast():
                loss = self._work.objective.loss(model, self._batch)
            self.activations = self._live.now - before
            loss.backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _score(self) -> None:
        model: Any = self._work.model
        model.eval()
        with Arithmetic(self._step.precision, "cpu").autocast():
            self._work.objective.loss(model, self._batch)


def _moments(weights: list[nn.Parameter], optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """Yield tensors as large as the optimizer's, two a weight."""
    for weight in weights:
        for _ in range(2):
            yield torch.empty(optimizer_bytes([weight.numel()], optimizer) // 2, dtype=torch.uint8)


def optimizer_bytes(sizes: list[int], optimizer: Optimizer) -> int:
    """Return the bytes of both moments of weights of these sizes."""
    if not optimizer.endswith("8bit"):
        return 8 * sum(sizes)
    return sum(2 * (n + 4 * -(-n // _BLOCK)) if n >= _LARGE else 8 * n for n in sizes)


def _batch(step: Step) -> Batch:
    batch = Batch.of_rows(torch.zeros(step.rows, step.tokens + 1, dtype=torch.long))
    if not step.classes:
        return batch
    return Batch(batch.inputs, torch.zeros(step.rows, dtype=torch.long))
