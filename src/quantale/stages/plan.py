"""What a recipe will need, before it starts: memory, time and disk of every model that is made.

Memory of a training comes from a step on tensors without data (`tuning/footprint.py`), its time
from ten real steps on random tokens, cut to few rows where a whole batch is large. Quantizing is
tried on a model of one block, and its time is taken times the number of blocks. Bytes on disk are
those of the files that would be written. Measuring and the page are not part of it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

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

    memory: bytes that the recipe may use; None: what is available now. What cannot be predicted
    is None.
    """
    set_threads(recipe)
    limit = psutil.virtual_memory().available if memory is None else memory
    model = planned_model(recipe)
    process, seeds = resident(), 1 + len(recipe.seeds)
    stages: list[dict[str, Any]] = [
        {**line, "fits": line["peak_memory_bytes"] is None or line["peak_memory_bytes"] <= limit}
        for line in _lines(recipe, model, process, limit)
    ]
    return {
        "parameters": model.parameters,
        "fp32_bytes": 4 * model.parameters,
        "process_bytes": process,
        "peak_memory_bytes": max(_known(stages, "peak_memory_bytes"), default=process),
        "training_seeds": seeds,
        "seconds": seeds * sum(_known(stages, "seconds")),
        "disk_bytes": seeds * sum(_known(stages, "disk_bytes")),
        "memory_limit_bytes": limit,
        "disk_free_bytes": shutil.disk_usage(Path.cwd()).free,
        "stages": stages,
    }


def _lines(recipe: Recipe, model: PlannedModel, process: int, limit: int) -> list[Line]:
    found: list[Line] = []
    if recipe.train is not None:
        found.append(
            predict_training(Training("train", recipe, recipe.train, model), process, limit)
        )
    for variant in recipe.variants:
        found += _variant(recipe, variant, model, process, limit)
    return found


def _variant(
    recipe: Recipe, variant: VariantSection, model: PlannedModel, process: int, limit: int
) -> list[Line]:
    lines: list[Line] = []
    order = None if variant.tune is None else tuning_of(variant.tune).order
    if variant.tune is not None:
        quantized = None if order == "tune-first" or not variant.quantizes else variant
        training = Training(f"tune/{variant.name}", recipe, variant.tune, model, quantized)
        lines.append(predict_training(training, process, limit))
    if variant.quantizes and order != "within":
        lines.append(predict_quantizing(recipe, variant, model, process))
    return lines


def _known(lines: list[dict[str, Any]], key: str) -> list[Any]:
    return [line[key] for line in lines if line[key] is not None]
