"""What one training of a recipe will need, and with which changes it would fit."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quantale.core.errors import QuantaleError, UsageError
from quantale.core.recipe import Recipe
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import PRETRAINED, VariantSection
from quantale.data.batch import Batch
from quantale.stages.corpus import open_corpus
from quantale.stages.planned_model import PlannedModel
from quantale.stages.train import corpus_tokenizer
from quantale.stages.training_data import training_data
from quantale.stages.training_length import train_settings
from quantale.stages.tune import tuning_of
from quantale.stages.variants import make_methods
from quantale.tuning.footprint import Footprint, Step, footprint, imagined
from quantale.tuning.method import Start, Work
from quantale.tuning.methods.full import Full
from quantale.tuning.probe import tokens_per_second
from quantale.tuning.settings import TrainData

_BITS_BESIDE = 0.25
"""Bits a weight that scales and zero points are assumed to take."""


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

    def step(self, section: TrainSection, tokens: int) -> Step:
        """Return what decides the memory of a step."""
        return Step(
            section.batch_size,
            tokens,
            section.optimizer,
            section.precision,
            section.gradient_checkpointing,
            self.model.classifies,
        )


def predict_training(training: Training, process: int, limit: int) -> dict[str, Any]:
    """Return memory by part, time and disk; where it does not fit in `limit`, what would."""
    section, tokens = training.section, training.model.length
    settings = train_settings(section, training.recipe.seed, _data(training))
    found, basis = _footprint(training, section, tokens)
    peak = None if found is None else found.peak + process
    fits = peak is None or peak <= limit
    speed = None
    if fits:
        model = training.model.build()
        speed = tokens_per_second(
            _begun(training, model),
            section,
            model.config,
            tokens,
            classifies=training.model.classifies,
        )
    seen = settings.steps * section.batch_size * section.accumulation * tokens
    return {
        "stage": training.name,
        "method": section.method,
        "basis": basis,
        "steps": settings.steps,
        "tokens": seen,
        "tokens_per_s": speed,
        "seconds": None if speed is None else seen / speed,
        "peak_memory_bytes": peak,
        "memory": None if found is None else {**dataclasses.asdict(found), "process": process},
        "disk_bytes": None if found is None else found.weights,
        "checkpoints_bytes": None if found is None else 2 * (2 * found.best + found.optimizer),
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


def _footprint(
    training: Training, section: TrainSection, tokens: int
) -> tuple[Footprint | None, str]:
    """Return the memory, and what it rests on: the method itself, or full fine-tuning.

    None for a model that cannot work on tensors without data: a plan is no reason to fail.
    """
    step = training.step(section, tokens)
    with imagined():
        found, basis = _of(lambda model: _begin(training, model), training, step), "method"
        if found is None:  # it wants real or packed weights: full fine-tuning needs the most
            found = _of(lambda model: Full().begin(Start(model)), training, step)
            basis = "as full fine-tuning"
    return (None, "unknown") if found is None else (_with_others(training, found), basis)


def _of(begin: Callable[[Any], Work], training: Training, step: Step) -> Footprint | None:
    """Return the memory of some work, None where it cannot do without data."""
    try:
        work = begin(training.model.build())
        return footprint(work.model, work.objective, step)
    except (QuantaleError, RuntimeError):
        return None


def _peak(training: Training, section: TrainSection, tokens: int) -> float:
    """Return the peak without the process, infinite where it is unknown."""
    found, _ = _footprint(training, section, tokens)
    return math.inf if found is None else found.peak


def _begun(training: Training, model: Any) -> Work:
    """Begin the method on real weights, or full fine-tuning where it wants others."""
    try:
        return _begin(training, model)
    except (QuantaleError, RuntimeError):
        return Full().begin(Start(training.model.build()))


def _begin(training: Training, model: Any) -> Work:
    tuning = tuning_of(training.section)
    methods = None if training.quantized is None else make_methods(training.quantized)
    teacher = training.model.build().requires_grad_(False) if tuning.needs_teacher else None
    seed = training.recipe.seed
    within = methods if tuning.order == "within" else None
    return tuning.begin(Start(model, teacher, within, seed, base=PRETRAINED))


def _with_others(training: Training, found: Footprint) -> Footprint:
    """Add a teacher, and count frozen weights of a quantized base in their bits."""
    tuning, variant = tuning_of(training.section), training.quantized
    if tuning.needs_teacher:
        found = dataclasses.replace(found, others=4 * training.model.parameters + found.logits)
    if variant is not None and tuning.order == "quantize-first" and variant.bits is not None:
        model = training.model
        ends = model.config.vocab_size * model.config.hidden_size * 4
        frozen = max(0, found.weights - found.gradients - ends)
        packed = int(frozen / 32 * (variant.bits + _BITS_BESIDE))
        found = dataclasses.replace(found, weights=found.weights - frozen + packed)
    return found


def _remedies(
    training: Training, tokens: int, process: int, limit: int
) -> Iterator[Mapping[str, Any]]:
    """Yield the smallest change of every kind that fits, with the peak that it is computed to have.

    The kinds: fewer rows a pass at the same rows a step, gradient checkpointing, an 8-bit
    optimizer, all of them, shorter rows, and a packed base with adapters.
    """
    for kind in _kinds(training.section):
        for changes in kind:
            section = training.section.model_copy(update=changes)
            peak = _peak(training, section, tokens) + process
            if peak <= limit:
                yield {"change": _shown(changes), "peak_memory_bytes": peak}
                break
    for shorter in _halves(tokens, 32):
        peak = _peak(training, training.section, shorter) + process
        if peak <= limit:
            yield {"change": f"rows of {shorter} tokens", "peak_memory_bytes": peak}
            break
    packed = _packed_peak(training, tokens) + process
    if packed <= limit:
        yield {"change": "nf4 base, lora of rank 16 (QLoRA)", "peak_memory_bytes": packed}


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


def _packed_peak(training: Training, tokens: int) -> int:
    """Return the peak of QLoRA on the same batch: rank 16 on all linears of the blocks."""
    with imagined():
        model = training.model.build()
        linears = _block_matrices(model)
        model.requires_grad_(False)
        for weight in linears:
            weight.requires_grad_(True)
        found = footprint(model, Full(), training.step(training.section, tokens))
    base = sum(w.numel() for w in linears)
    adapters = sum(16 * sum(w.shape) for w in linears)
    packed = found.weights - 4 * base + int(base * 4.5 / 8)
    return packed + 4 * adapters * 5 + found.activations + found.logits


def _block_matrices(model: Any) -> list[Any]:
    ends = {id(model.get_input_embeddings().weight)}
    head = model.get_output_embeddings()
    if head is not None:
        ends.add(id(head.weight))
    named = model.named_parameters()
    return [p for name, p in named if p.dim() == 2 and id(p) not in ends and ".wpe" not in name]
