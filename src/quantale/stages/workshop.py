"""Makes one variant of a recipe from the models before it: quantized, tuned, or both in order."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantale.core import run as runs
from quantale.core.errors import UsageError
from quantale.core.progress import Progress
from quantale.core.recipe import Recipe
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import BASE, VariantSection
from quantale.core.records import read_json
from quantale.core.run import Run
from quantale.data.load import load_documents
from quantale.stages.calibration import CalibrationText
from quantale.stages.corpus import Corpus
from quantale.stages.quantize import Source, quantize_stage, source_of
from quantale.stages.tune import Tuned, tune_stage, tuning_of


@dataclass(frozen=True)
class Made:
    """A variant that is there."""

    source: Source
    """Its model folder, and the digest of the run that it lies in."""
    proof: str
    """Digest of its logits."""


def open_variant(out: Path, variant: VariantSection) -> Made:
    """Open a variant that was made earlier; raises UsageError where it is missing."""
    path = out / _last_stage(variant) / variant.name
    if not path.exists():
        stage = "quantize" if variant.tune is None else "tune"
        raise UsageError(f"{path} is missing; run the stage {stage} first")
    return _made(runs.open_run(path))


def _last_stage(variant: VariantSection) -> str:
    if variant.tune is None:
        return "quantize"
    is_quantized_last = variant.quantizes and tuning_of(variant.tune).order == "tune-first"
    return "quantize" if is_quantized_last else "tune"


def _made(run: Run) -> Made:
    folder = run.path / "model" if (run.path / "model").is_dir() else run.path
    return Made(Source(folder, run.digest), read_json(run.path / "summary.json")["logits_sha256"])


@dataclass(frozen=True)
class Workshop:
    """What all variants of an experiment are made with."""

    recipe: Recipe
    corpus: Corpus
    out: Path
    resume: bool
    progress: Progress

    def make(self, variant: VariantSection, starts: Mapping[str, Source]) -> Made:
        """Make a variant, or open it; starts: the models before it, by name."""
        source = starts[variant.start]
        if variant.tune is None:
            return self._quantize(variant, source)
        order = tuning_of(variant.tune).order
        if not variant.quantizes or order == "within":
            return self._tune(variant, source, starts)
        if order == "tune-first":
            return self._quantize(variant, self._tune(variant, source, starts).source)
        return self._tune(variant, self._quantize(variant, source).source, starts)

    def _quantize(self, variant: VariantSection, source: Source) -> Made:
        run = quantize_stage(
            source,
            variant,
            self._calibration,
            self.out / "quantize" / variant.name,
            resume=self.resume,
            progress=self.progress,
            verify=False,
        )
        return _made(run)

    def _tune(self, variant: VariantSection, source: Source, starts: Mapping[str, Source]) -> Made:
        section = variant.tune
        if section is None:
            raise UsageError(f"variant {variant.name!r} has no training")
        tuning = tuning_of(section)
        is_within = variant.quantizes and tuning.order == "within"
        plan = Tuned(
            section=section,
            source=source,
            teacher=self._teacher(section, starts) if tuning.needs_teacher else None,
            corpus=self.corpus,
            seed=self.recipe.seed,
            quantized=variant if is_within else None,
        )
        out = self.out / "tune" / variant.name
        return _made(tune_stage(plan, out, resume=self.resume, progress=self.progress))

    def _teacher(self, section: TrainSection, starts: Mapping[str, Source]) -> Source:
        name = section.teacher or BASE
        return starts[name] if name in starts else source_of(name)

    @functools.cached_property
    def _calibration(self) -> CalibrationText:
        section = self.recipe.calibration
        documents = None if section.generated else self.corpus.train
        if section.data is not None:
            documents = load_documents(section.data, split="train", seed=self.recipe.seed)
        return CalibrationText(documents, section.samples, section.length, section.seed)
