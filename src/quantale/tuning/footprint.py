"""The memory that a training needs, from a forward pass that computes nothing.

The model runs on torch's fake tensors, which have shapes and dtypes and no data: what autograd
would keep for the backward pass is then counted tensor by tensor, of a model of any size, in
seconds. Weights, gradients and optimizer follow from the trainable parameters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from quantale.core.recipe_training import Optimizer, Precision
from quantale.data.batch import Batch
from quantale.tuning.precision import Arithmetic
from quantale.tuning.recompute import recomputing
from quantale.tuning.settings import Objective

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


@dataclass(frozen=True)
class Footprint:
    """Bytes of one training, part by part."""

    weights: int
    """Of the model, trained or not."""
    gradients: int
    optimizer: int
    """Both moments."""
    best: int
    """The copy of the best weights until now."""
    activations: int
    """What the backward pass needs."""
    logits: int
    """Gradients of the logits, at the start of the backward pass."""
    others: int = 0
    """Other models, such as a teacher."""

    @property
    def peak(self) -> int:
        """Bytes at the fullest moment.

        The backward pass starts with all activations; with accumulation the gradients of earlier
        passes are there too. A validation that is the best until now keeps two copies of weights
        for a moment, without gradients and activations.
        """
        held = self.weights + self.optimizer + self.best + self.others
        return held + self.gradients + self.activations + self.logits


@contextmanager
def imagined() -> Iterator[None]:
    """Make all tensors of the block fake."""
    with torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def footprint(model: nn.Module, objective: Objective, step: Step) -> Footprint:
    """Return the memory of a training of a model that was made in `imagined`.

    Called in that same block. Raises RuntimeError where a layer asks for the value of a tensor.
    """
    trainable = objective.trainable(model)
    kept = _kept(model, objective, step, recompute=False)
    if step.gradient_checkpointing:
        kept = _kept_with_recomputing(model, objective, step, kept)
    sizes = [p.numel() for p in trainable.values()]
    return Footprint(
        weights=sum(p.nbytes for p in model.parameters()),
        gradients=4 * sum(sizes),
        optimizer=optimizer_bytes(sizes, step.optimizer),
        best=4 * sum(sizes),
        activations=kept,
        logits=_logit_gradients(model, step),
    )


def optimizer_bytes(sizes: list[int], optimizer: Optimizer) -> int:
    """Return the bytes of both moments of weights of these sizes."""
    if not optimizer.endswith("8bit"):
        return 8 * sum(sizes)
    return sum(2 * (n + 4 * -(-n // _BLOCK)) if n >= _LARGE else 8 * n for n in sizes)


def _kept(model: nn.Module, objective: Objective, step: Step, *, recompute: bool) -> int:
    """Return the bytes of all tensors but weights that autograd keeps."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage
        return tensor

    model.train()
    rows = torch.zeros(step.rows, step.tokens + 1, dtype=torch.long)
    batch = Batch.of_rows(rows)
    if step.classes:
        batch = Batch(batch.inputs, rows[:, 0])
    arithmetic = Arithmetic(step.precision, "cpu")
    with recomputing(model, recompute):
        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with hooks, arithmetic.autocast():
            loss = objective.loss(model, batch)
    del loss
    return sum(storage.nbytes() for storage in found.values())


def _kept_with_recomputing(model: Any, objective: Objective, step: Step, whole: int) -> int:
    """Return what is kept outside of the blocks, the blocks' inputs, and one block's inside."""
    outside = _kept(model, objective, step, recompute=True)
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    inputs = layers * step.rows * step.tokens * width * 4
    return outside + inputs + max(0, whole - outside) // layers


def _logit_gradients(model: Any, step: Step) -> int:
    """Return two fp32 copies of the logits: before and behind the softmax's derivative."""
    columns = model.config.num_labels if step.classes else model.config.vocab_size
    positions = step.rows if step.classes else step.rows * step.tokens
    return 2 * 4 * positions * columns


def describe(found: Footprint) -> Mapping[str, int]:
    """Return the parts by name, JSON-able."""
    return {**vars(found), "peak": found.peak}
