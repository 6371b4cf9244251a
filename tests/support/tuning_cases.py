"""Every tuning method that the registry finds, with what it begins from and how it is trained.

A new plug-in is covered without a change here, unless a setting that has no default is called by
a name that `VALUES` does not know yet.
"""

import copy
import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from packing import pack
from tiny_models import VOCABULARY, tiny_family
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import NumericalError, UsageError
from quantale.core.progress import Silent
from quantale.core.registry import TUNINGS
from quantale.data.batch import Batch
from quantale.quant.methods.rtn import Rtn
from quantale.quant.save import write_model
from quantale.quant.whole import Methods
from quantale.tuning.loop import train
from quantale.tuning.method import Start, Tuning, Work
from quantale.tuning.settings import TrainData, TrainSettings

VALUES: dict[str, tuple[Any, ...]] = {"teacher_weight": (0.5,), "warm_in": (0.5,), "rank": (2,)}
"""What is tried for a field beside its default; refused values are left out."""
FAMILY = "GPT2"
"""It has dropout, biases, Conv1D and a tied head."""
SETTINGS = TrainSettings(
    steps=6,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=1,
    evaluate_every=2,
    checkpoint_every=2,
    precision="fp32",
    cpu=True,
)
STOP = 4
"""A step whose batch ends a training that is to be resumed."""


def tuning_cases() -> list[tuple[str, Tuning]]:
    """Return (id, method) for every tuning method, one field varied at a time."""
    return [
        (f"{name}-{_shown(case)}", case) for name in TUNINGS.names() for case in _cases_of(name)
    ]


def start_of(tuning: Tuning) -> Start:
    """Return a new beginning of a tuning method, equal at every call."""
    model, teacher = tiny_family(FAMILY), None
    if tuning.needs_teacher:
        teacher = copy.deepcopy(model).requires_grad_(False).eval()
    if tuning.order == "quantize-first":
        pack(model)
    methods = Methods(Rtn(3, 16), Rtn(4, 16)) if tuning.order == "within" else None
    return Start(model, teacher, methods, seed=3, sample=batch_of(0).inputs)


def batch_of(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    return Batch.of_rows(torch.randint(VOCABULARY, (2, 17), generator=generator))


def trained(work: Work, folder: Path, *, stop: bool = False) -> None:
    """Train for a few steps, from a checkpoint in the folder if there is one.

    stop: end with NumericalError in the step `STOP`, as a kill would.
    """
    folder.mkdir(exist_ok=True)
    objective = _Stops(work.objective) if stop else work.objective
    data = TrainData(batch_of, [batch_of(1000)])
    train(work.model, objective, data, SETTINGS, folder, Silent())


def interrupted(tuning: Tuning, folder: Path) -> None:
    """Train until the step that stops, and forget the model."""
    try:
        trained(tuning.begin(start_of(tuning)), folder, stop=True)
    except NumericalError:
        return
    raise AssertionError("the training was not stopped")


def finished(tuning: Tuning, folder: Path) -> PreTrainedModel:
    """Train to the end, write the model into `folder / "model"` and return it."""
    work = tuning.begin(start_of(tuning))
    trained(work, folder)
    model: PreTrainedModel = work.finish()
    write_model(model, None, folder / "model")
    return model


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@dataclasses.dataclass(frozen=True)
class _Stops:
    """An objective whose loss is no number in one step."""

    objective: Any

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        found: dict[str, nn.Parameter] = self.objective.trainable(model)
        return found

    def loss(self, model: Any, batch: Batch) -> Tensor:
        bad = torch.equal(batch.inputs, batch_of(STOP).inputs)
        found: Tensor = self.objective.loss(model, batch) * (float("nan") if bad else 1.0)
        return found

    def at(self, share: float) -> None:
        self.objective.at(share)


@cache
def _cases_of(name: str) -> tuple[Tuning, ...]:
    kind = TUNINGS.get(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    needed = {
        key
        for key, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert needed <= set(VALUES), f"{name}: add {needed - set(VALUES)} to VALUES"
    plain = {key: VALUES[key][0] for key in needed}
    switches = {k: (not f.default,) for k, f in fields.items() if isinstance(f.default, bool)}
    tried = {key: values for key, values in {**VALUES, **switches}.items() if key in fields}
    grid = [plain] + [{**plain, key: value} for key, values in tried.items() for value in values]
    made = tuple(_accepted(kind, grid))
    assert made, f"{name}: no setting was accepted"
    return made


def _accepted(kind: Any, grid: list[dict[str, Any]]) -> Iterator[Tuning]:
    for number, settings in enumerate(grid):
        if settings in grid[:number]:
            continue
        try:
            tuning: Tuning = kind(**settings)
            tuning.begin(start_of(tuning))
        except UsageError:
            continue
        yield tuning


def _shown(tuning: Tuning) -> str:
    fields = dataclasses.fields(tuning)  # type: ignore[arg-type]
    changed = [f.name for f in fields if getattr(tuning, f.name) != f.default]
    return "-".join(changed) or "plain"
