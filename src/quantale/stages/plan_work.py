"""A training of a recipe that has begun, on a model that nobody has trained or quantized yet.

On the device "meta" it takes neither memory nor time, and serves to count what the training will
take; with memory and blank numbers it serves to measure how fast it goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.recipe import Recipe
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import PRETRAINED, VariantSection
from quantale.models.adapter_record import is_adapted
from quantale.models.sizes import stored_tensors
from quantale.quant.blank import pack_blank
from quantale.quant.whole import Methods
from quantale.stages.planned_model import PlannedModel
from quantale.stages.tune import tuning_of
from quantale.stages.variants import make_methods
from quantale.tuning.footprint import Step
from quantale.tuning.live_bytes import materialize
from quantale.tuning.method import Start, Tuning, Work
from quantale.tuning.precision import precision_on
from quantale.tuning.wrapping import stored_beside


@dataclass(frozen=True)
class Training:
    """One training of a recipe."""

    name: str
    """"train" or "tune/NAME"."""
    recipe: Recipe
    section: TrainSection
    model: PlannedModel
    quantized: VariantSection | None = None
    """What quantizes the base before or in the training."""
    device: str = "cpu"
    """Where it will run: "cpu" or "cuda"."""

    @property
    def tuning(self) -> Tuning:
        """The tuning method."""
        return tuning_of(self.section)

    @property
    def methods(self) -> Methods | None:
        """The methods of `quantized`."""
        return None if self.quantized is None else make_methods(self.quantized)

    @property
    def dtype(self) -> torch.dtype:
        """Of what the file of the base keeps in full precision."""
        return stored_dtype(self.model, self.quantized)

    def step(self, tokens: int) -> Step:
        """Return what decides the memory of a step."""
        section = self.section
        return Step(
            section.batch_size,
            tokens,
            section.optimizer,
            precision_on(section.precision, self.device),
            section.gradient_checkpointing,
            self.model.classifies,
            section.accumulation,
        )


def stored_dtype(model: PlannedModel, variant: VariantSection | None) -> torch.dtype:
    """Return the dtype in which the file of a quantized model keeps the rest."""
    if variant is not None and variant.dtype is not None:
        found: torch.dtype = getattr(torch, variant.dtype)
        return found
    return model.dtype


@dataclass(frozen=True)
class Begun:
    """A training before its first step."""

    work: Work
    weights: Mapping[str, nn.Parameter]
    """What is trained."""
    teacher: PreTrainedModel | None
    written: Mapping[str, Tensor]
    """The tensors of the file that will come of it, by shape and dtype."""


def begin(training: Training) -> Begun:
    """Begin a training on "meta"; raises UsageError where method and model do not fit together."""
    with torch.device("meta"):
        start = _start(training)
        before = _written(start.model, training.dtype)
        work = training.tuning.begin(start)
        weights = work.objective.trainable(work.model)
        return Begun(work, weights, start.teacher, _result(training, work, before))


def begin_blank(training: Training) -> Work:
    """Begin a training on blank numbers, which take memory and time as others do."""
    with torch.device("meta"):
        start = _start(training)
    for model in (start.model, start.teacher):
        if model is not None:
            materialize(model, _blank)
    return training.tuning.begin(start)


def _blank(tensor: Tensor) -> Tensor:
    return torch.full(tensor.shape, 0.01 if tensor.is_floating_point() else 1, dtype=tensor.dtype)


def _start(training: Training) -> Start:
    tuning, methods = training.tuning, training.methods
    model = training.model.build()
    teacher = None
    if tuning.needs_teacher:
        teacher = training.model.build().requires_grad_(False).eval()
    if methods is not None and tuning.order == "quantize-first":
        pack_blank(model, methods)
    return Start(
        model,
        teacher,
        methods if tuning.order == "within" else None,
        training.recipe.seed,
        dtype=training.dtype,
        base=PRETRAINED,
    )


def _result(training: Training, work: Work, before: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return what is written at the end: an adapter, a packed model or one in full precision."""
    order, methods = training.tuning.order, training.methods
    if order == "quantize-first":
        if is_adapted(work.model):
            from quantale.models.adapters import adapter_parts  # peft takes a second to import

            return adapter_parts(work.model)
        return before
    if order == "within" and methods is not None:
        wanted = None if training.quantized is None else training.quantized.dtype
        dtype = getattr(torch, wanted or "float32")
        packed = packed_tensors(training.model, methods, dtype)
        return {**packed, **stored_beside(work.model, dtype)}
    if is_adapted(work.model):  # merged at the end
        return before
    return _written(work.model, torch.float32)


def packed_tensors(
    model: PlannedModel, methods: Methods, dtype: torch.dtype
) -> Mapping[str, Tensor]:
    """Return the tensors of the file of a quantized model, on "meta"."""
    with torch.device("meta"):
        built = model.build()
        pack_blank(built, methods)
        return _written(built, dtype)


def _written(model: Any, dtype: torch.dtype) -> Mapping[str, Tensor]:
    """Return the tensors of a model's file; parameters in that dtype, what is packed as it is."""
    cast = {name for name, _ in model.named_parameters()}
    return {
        name: tensor.to(dtype) if name in cast else tensor
        for name, tensor in stored_tensors(model).items()
    }
