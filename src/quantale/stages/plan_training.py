"""What one training of a recipe will need, and with which changes it would fit."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from quantale.core.errors import QuantaleError, UsageError
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import VariantSection
from quantale.data.batch import Batch
from quantale.models.sizes import file_bytes
from quantale.stages.corpus import open_corpus
from quantale.stages.plan_disk import checkpoint_bytes
from quantale.stages.plan_work import Begun, Training, begin, begin_blank
from quantale.stages.train import corpus_tokenizer
from quantale.stages.training_data import training_data
from quantale.stages.training_length import train_settings
from quantale.tuning.footprint import Footprint, footprint
from quantale.tuning.probe import tokens_per_second
from quantale.tuning.settings import TrainData

_QLORA = VariantSection(name="qlora", method="nf4")
"""What a base is packed by where adapters are proposed."""
_TOO_MUCH = 1e12
"""Floating-point operations of one row forward and backward that are not tried any more."""


def predict_training(training: Training, process: int, limit: int) -> dict[str, Any]:
    """Return memory by part, time and disk; where it does not fit in `limit`, what would.

    process: bytes of the training's device that are taken before it begins.

    Memory and disk are None for a training that cannot be begun without its data.
    """
    section, tokens = training.section, training.model.length
    settings = train_settings(section, training.recipe.seed, _data(training))
    begun, found = _counted(training, tokens)
    peak = None if found is None else found.peak + process
    fits = peak is None or peak <= limit
    speed = _speed(training, tokens) if fits and begun is not None else None
    seen = settings.steps * section.batch_size * section.accumulation * tokens
    return {
        "stage": training.name,
        "method": section.method,
        "device": training.device,
        "basis": "unknown" if found is None else "method",
        "steps": settings.steps,
        "tokens": seen,
        "tokens_per_s": speed,
        "seconds": None if speed is None else seen / speed,
        "peak_memory_bytes": peak,
        "memory": None if found is None else {**dataclasses.asdict(found), "process": process},
        "disk_bytes": None if begun is None else file_bytes(begun.written),
        "checkpoints_bytes": None if begun is None else checkpoint_bytes(begun.weights, settings),
        "fits": fits,
        "would_fit": [] if fits else list(_remedies(training, tokens, process, limit)),
    }


def _data(training: Training) -> TrainData:
    """Return the data where the length depends on them, else data of unknown length."""
    section = training.section
    if section.steps is not None and "epoch" not in (
        section.evaluate_every,
        section.checkpoint_every,
    ):
        return TrainData(_nothing, [])
    corpus = open_corpus(training.recipe)
    tokenizer = corpus_tokenizer(training.recipe, corpus)
    tokens = training.model.length
    return training_data(section, corpus, tokenizer, tokens, training.recipe.seed)


def _nothing(number: int) -> Batch:
    raise UsageError(f"batch {number} was asked of a plan")


def _counted(training: Training, tokens: int) -> tuple[Begun | None, Footprint | None]:
    """Return the training as it begins, and its memory.

    None for a method or model that cannot do without data: a plan is no reason to fail.
    """
    try:
        begun = begin(training)
    except (QuantaleError, RuntimeError):
        return None, None
    try:
        found = footprint(begun.work, training.step(tokens), begun.teacher)
    except (QuantaleError, RuntimeError):
        return begun, None
    return begun, found if training.device == "cpu" else found.on_gpu()


def _speed(training: Training, tokens: int) -> float | None:
    """Return tokens a second, None where ten steps would take too long."""
    model = training.model
    if 6 * model.parameters * tokens > _TOO_MUCH:
        return None
    return tokens_per_second(
        begin_blank(training),
        training.section,
        model.config,
        tokens,
        classifies=model.classifies,
        device=training.device,
    )


def _peak(training: Training, tokens: int) -> float:
    """Return the peak without the process, infinite where it is unknown."""
    _, found = _counted(training, tokens)
    return math.inf if found is None else found.peak


def _remedies(
    training: Training, tokens: int, process: int, limit: int
) -> Iterator[Mapping[str, Any]]:
    """Yield the smallest change of every kind that fits, with the peak that it is computed to have.

    The kinds: fewer rows a pass at the same rows a step, gradient checkpointing, an 8-bit
    optimizer, all of them, shorter rows, and a packed base with adapters.
    """
    if process >= limit:
        return
    for kind in _kinds(training.section):
        for changes in kind:
            peak = _peak(_with(training, changes), tokens) + process
            if peak <= limit:
                yield {"change": _shown(changes), "peak_memory_bytes": peak}
                break
    for shorter in _halves(tokens, 32):
        peak = _peak(training, shorter) + process
        if peak <= limit:
            yield {"change": f"rows of {shorter} tokens", "peak_memory_bytes": peak}
            break
    adapters = {"method": "lora", "settings": {"rank": 16}, "teacher": None}
    qlora = dataclasses.replace(_with(training, adapters), quantized=_QLORA)
    packed = _peak(qlora, tokens) + process
    if packed <= limit:
        yield {"change": "nf4 base, lora of rank 16 (QLoRA)", "peak_memory_bytes": packed}


def _with(training: Training, changes: Mapping[str, Any]) -> Training:
    section = training.section.model_copy(update=changes)
    return dataclasses.replace(training, section=section)


def _kinds(section: TrainSection) -> list[list[dict[str, Any]]]:
    """Return changes by kind, the smallest of a kind first."""
    checkpointing: dict[str, Any] = {"gradient_checkpointing": True}
    eight: dict[str, Any] = {"optimizer": "adamw-8bit"}
    both = {**checkpointing, **eight}
    fewer = [
        {"batch_size": rows, "accumulation": section.accumulation * section.batch_size // rows}
        for rows in _halves(section.batch_size, 1)
    ]
    return [fewer, [checkpointing], [eight], [both, *({**both, **one} for one in fewer)]]


def _halves(number: int, least: int) -> list[int]:
    """Return 1/2, 1/4, ... of a number as long as they are whole and not below the least."""
    found = []
    while number % 2 == 0 and number // 2 >= least:
        number //= 2
        found.append(number)
    return found


def _shown(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {str(value).lower()}" for key, value in changes.items())
