"""What a recipe will need, before it starts: memory, time and disk of every model that is made.

Memory of a training comes from a step on tensors without data (`tuning/footprint.py`), its time
from ten real steps on random tokens, cut to few rows where a whole batch is large. Quantizing is
tried on a model of one block, and its time is taken times the number of blocks. Bytes on disk are
those of the files that would be written. Measuring and the page are not part of it.

Where there is a GPU, trainings run there: their memory is then that of the GPU, and the memory of
their process, which holds the driver too, is not predicted.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from quantale.core.recipe import Recipe
from quantale.core.recipe_variants import VariantSection
from quantale.evaluation.memory import resident
from quantale.stages.plan_quantizing import predict_quantizing
from quantale.stages.plan_training import predict_training
from quantale.stages.plan_work import Training
from quantale.stages.planned_model import PlannedModel, planned_model
from quantale.stages.train import set_threads
from quantale.stages.tune import tuning_of

Line = Mapping[str, Any]


def predict(recipe: Recipe, *, memory: int | None = None) -> dict[str, Any]:
    """Return what every stage will need, JSON-able, and what the machine has.

    memory: bytes that the recipe may use, each stage on its device; None: what is available now.
    What cannot be predicted is None.
    """
    set_threads(recipe)
    model = planned_model(recipe)
    seeds = 1 + len(recipe.seeds)
    here = Place("cpu", resident(), psutil.virtual_memory().available if memory is None else memory)
    there = _training_place(here, memory)
    stages = list(_lines(recipe, model, here, there))
    own = [line for line in stages if line["device"] == "cpu"]
    return {
        "parameters": model.parameters,
        "fp32_bytes": 4 * model.parameters,
        "process_bytes": here.taken,
        "peak_memory_bytes": max(_known(own, "peak_memory_bytes"), default=here.taken),
        "training_seeds": seeds,
        "seconds": seeds * sum(_known(stages, "seconds")),
        "disk_bytes": seeds * sum(_known(stages, "disk_bytes")),
        "memory_limit_bytes": here.limit,
        "disk_free_bytes": shutil.disk_usage(Path.cwd()).free,
        **_device_memory(stages, there),
        "stages": stages,
    }


@dataclass(frozen=True)
class Place:
    """Where a stage runs."""

    device: str
    """"cpu" or "cuda"."""
    taken: int
    """Bytes of it that this process has before the stage begins."""
    limit: int
    """Bytes that may be taken in all."""


def _training_place(here: Place, memory: int | None) -> Place:
    if not torch.cuda.is_available():
        return here
    free, _ = torch.cuda.mem_get_info()
    return Place("cuda", 0, free if memory is None else memory)


def _device_memory(stages: list[Line], there: Place) -> Line:
    """Return what the trainings need on a GPU; nothing without one."""
    if there.device == "cpu":
        return {}
    lines = [line for line in stages if line["device"] == there.device]
    return {
        "device_peak_bytes": max(_known(lines, "peak_memory_bytes"), default=0),
        "device_limit_bytes": there.limit,
    }


def _lines(recipe: Recipe, model: PlannedModel, here: Place, there: Place) -> Iterator[Line]:
    if recipe.train is not None:
        training = Training("train", recipe, recipe.train, model, device=there.device)
        yield predict_training(training, there.taken, there.limit)
    for variant in recipe.variants:
        yield from _variant(recipe, variant, model, here, there)


def _variant(
    recipe: Recipe, variant: VariantSection, model: PlannedModel, here: Place, there: Place
) -> Iterator[Line]:
    order = None if variant.tune is None else tuning_of(variant.tune).order
    if variant.tune is not None:
        quantized = None if order == "tune-first" or not variant.quantizes else variant
        name = f"tune/{variant.name}"
        training = Training(name, recipe, variant.tune, model, quantized, there.device)
        yield predict_training(training, there.taken, there.limit)
    if variant.quantizes and order != "within":
        yield predict_quantizing(recipe, variant, model, here.taken, here.limit)


def _known(lines: list[Line], key: str) -> list[Any]:
    return [line[key] for line in lines if line[key] is not None]
