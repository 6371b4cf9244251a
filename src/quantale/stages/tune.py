"""From a model to a tuned one: a training that starts from any model of the experiment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quantale.core import run as runs
from quantale.core.errors import UsageError
from quantale.core.progress import Progress
from quantale.core.recipe import Recipe
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import VariantSection
from quantale.core.records import write_json
from quantale.core.run import Run, RunKey
from quantale.models.load import load
from quantale.quant.ledger import inspect
from quantale.quant.proof import logits_digest
from quantale.quant.save import PROOF_DTYPE, verify_saves
from quantale.quant.whole import Methods
from quantale.stages.corpus import Corpus
from quantale.stages.quantize import Source
from quantale.stages.train import TrainJob, run_training, stored_dtype, teacher_of
from quantale.stages.variants import make_methods, make_tuning
from quantale.tuning import wrapping
from quantale.tuning.method import Start, Tuning

VERSION = 2


@dataclass(frozen=True)
class Tuned:
    """One model to tune."""

    section: TrainSection
    source: Source
    """What it starts from."""
    teacher: Source | None
    """What it learns from, for methods that need a teacher."""
    corpus: Corpus
    seed: int
    quantized: VariantSection | None = None
    """What quantizes it in the training, for tuning methods of the order `within`."""

    @property
    def methods(self) -> Methods | None:
        """The methods of `quantized`."""
        return None if self.quantized is None else make_methods(self.quantized)

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that `quantized` wants for the rest; None: float32."""
        wanted = None if self.quantized is None else self.quantized.dtype
        return None if wanted is None else getattr(torch, wanted)


def tune_stage(
    plan: Tuned, out: Path, *, resume: bool, progress: Progress, verify: bool = False
) -> Run:
    """Tune into a sealed run, its model in `model/`, or return the run that is there already.

    `verify`: load it in a fresh process before it is sealed; a pipeline verifies all at once.
    """
    key = tune_key(plan)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        model, tokenizer, _ = load(plan.source.folder)
        teacher = None if plan.teacher is None else teacher_of(plan.teacher.folder, tokenizer)
        job = TrainJob(plan.section, plan.corpus, tokenizer, plan.seed, plan.dtype)
        start = Start(
            model,
            teacher,
            plan.methods,
            plan.seed,
            base=str(plan.source.folder),
            dtype=stored_dtype(plan.source.folder),
        )
        summary = run_training(job, start, folder, progress)
        found = describe(folder / "model")
        write_json(folder / "summary.json", {**summary, **found})
        if verify:
            verify_saves({folder / "model": found["logits_sha256"]}, PROOF_DTYPE)
    return runs.open_run(out)


def tune_key(plan: Tuned) -> RunKey:
    """Return what the bytes of the tuning depend on."""
    settings: dict[str, Any] = {
        "seed": plan.seed,
        "train": plan.section.model_dump(mode="json", exclude={"teacher"}),
        "reading": plan.corpus.reading,
    }
    if plan.quantized is not None:
        settings["quantized"] = plan.quantized.model_dump(
            mode="json", exclude={"name", "start", "group", "tune"}
        )
    parents = {
        "model": plan.source.digest,
        "train": plan.corpus.train.sha256,
        "validation": plan.corpus.validation.sha256,
    }
    if plan.teacher is not None:
        parents["teacher"] = plan.teacher.digest
    return RunKey("tune", VERSION, settings, parents)


def describe(folder: Path) -> dict[str, Any]:
    """Return the bytes of a saved model and the digest of its logits, as it loads."""
    digest = logits_digest(load(folder).model)
    ledger = inspect(load(folder, dtype=None).model, folder)
    return {
        "bits_per_weight": ledger.bits_per_weight,
        "bytes_on_disk": ledger.bytes_on_disk,
        "bytes_resident": ledger.bytes_resident,
        "logits_sha256": digest,
    }


def check_methods(recipe: Recipe) -> None:
    """Raise UsageError for methods of a recipe that do not exist, or not with these settings."""
    for variant in recipe.variants:
        check_tuning(variant)
    if recipe.train is not None:
        check_base(recipe.train)


def check_tuning(variant: VariantSection) -> None:
    """Raise UsageError for a tuning method that does not exist, or not with what quantizes."""
    methods = make_methods(variant)
    if variant.tune is None or tuning_of(variant.tune).order != "within":
        return
    if not variant.quantizes:
        raise UsageError(f"{variant.name}: {variant.tune.method} needs a method to train through")
    wrapping.check(methods)


def check_base(section: TrainSection) -> None:
    """Raise UsageError for a tuning method that cannot make the base of all comparisons."""
    if tuning_of(section).order == "within":
        raise UsageError(
            f"train: the base is in full precision, and {section.method} packs; give a variant "
            f"start: scratch, a method, and tune: {{method: {section.method}, ...}}"
        )


def tuning_of(section: TrainSection) -> Tuning:
    """Return the tuning method of a training; raises UsageError for what does not exist."""
    return make_tuning(section.method, section.settings)
