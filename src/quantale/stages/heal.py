"""From a quantized model and its original to a healed one of the same size: `quantale heal`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core.errors import OutputExistsError
from quantale.core.progress import Progress
from quantale.core.recipe_data import DataSection
from quantale.core.recipe_training import TrainSection
from quantale.core.records import read_json
from quantale.models.load import load
from quantale.quant.ledger import inspect
from quantale.stages.corpus import Corpus, open_parts
from quantale.stages.quantize import source_of
from quantale.stages.requests import HealRequest
from quantale.stages.tune import Tuned, tune_stage

QAT_MOMENTUM = 0.5
"""Of training through few bits: a weight that flips changes the gradient of all others, and old
gradients mislead. Measured on binary weights (docs/one-bit.md)."""


@dataclass(frozen=True)
class Budget:
    """What a short training may take, and how fast it learns; the same for all rungs."""

    steps: int
    """Optimizer steps."""
    batch_size: int
    """Windows a step."""
    evaluate_documents: int = 32
    """Validation documents by which the best step is chosen."""


def taught_corpus(data: str, seed: int) -> Corpus:
    """Open the text of a short training, a window beginning with a document.

    That is where models are measured, and where a teacher trained on whole documents knows best.
    """
    section = DataSection(source=data, packing="document")
    return Corpus(*open_parts(section, seed), section)


def taught_section(
    method: str,
    settings: dict[str, Any],
    learning_rate: float,
    budget: Budget,
    momentum: float = 0.9,
) -> TrainSection:
    """Return a short training: a twentieth of warm-up, cosine to a twentieth, no decay."""
    return TrainSection(
        method=method,
        settings=settings,
        steps=budget.steps,
        batch_size=budget.batch_size,
        learning_rate=learning_rate,
        min_learning_rate=learning_rate / 20,
        warmup_steps=max(1, budget.steps // 20),
        betas=(momentum, 0.95),
        weight_decay=0.0,
        evaluate_every=max(1, budget.steps // 4),
        evaluate_documents=budget.evaluate_documents,
        checkpoint_every=max(1, min(50, budget.steps // 2)),
    )


def heal_model(
    request: HealRequest, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Heal a packed model into a sealed run, its model in `model/`; returns the `--json` fields.

    The model is loaded in a fresh process before it is sealed. Raises UsageError for a model that
    is not packed and for a teacher with another tokenizer.
    """
    if out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    settings = {
        "parts": request.parts,
        "temperature": request.temperature,
        "label_weight": request.label_weight,
    }
    budget = Budget(request.steps, request.batch_size)
    source = source_of(request.model)
    plan = Tuned(
        section=taught_section("heal", settings, request.learning_rate, budget),
        source=source,
        teacher=source_of(request.teacher),
        corpus=taught_corpus(request.data, request.seed),
        seed=request.seed,
    )
    run = tune_stage(plan, out, resume=resume, progress=progress, verify=True)
    before = inspect(load(source.folder, dtype=None).model, source.folder)
    summary, cost = (read_json(run.path / name) for name in ("summary.json", "cost.json"))
    sizes = {"bytes_resident_before": before.bytes_resident}
    return {"out": str(run.path / "model"), **summary, **sizes, **cost}
