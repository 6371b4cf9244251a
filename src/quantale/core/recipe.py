"""The schema of a recipe: one whole experiment, from data to report.

Every section is frozen and refuses unknown keys. Reading YAML, `--set` and the origin of
each value live in `recipe_file`; this module imports neither torch nor files.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quantale.core.classification_section import ClassificationSection
from quantale.core.recipe_base import (
    Count,
    Section,
    Share,
    Text,
    broken_rule,
)
from quantale.core.recipe_data import DataSection
from quantale.core.recipe_outputs import OutputSection, check_outputs
from quantale.core.recipe_sweep import SweepSection, check_seeds, check_sweeps, further_seeds
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import (
    BASE,
    BASELINE,
    FOLDER_NAME,
    VariantSection,
    check_variants,
)
from quantale.core.recipe_writing import CodeSection, StoriesSection


class TokenizerSection(Section):
    """Which tokenizer is trained or taken."""

    kind: Literal["characters", "bpe", "pretrained"] = "bpe"
    """`characters` and `bpe` are trained on the training split."""
    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)] = 1024
    """Entries of the byte-level BPE (256 bytes and the separator are always there)."""
    path: Text | None = None
    """Folder or Hub name of a pretrained tokenizer; None: the one of the pretrained model."""


class ModelSection(Section):
    """The model that is trained, or the pretrained one that is taken."""

    kind: Literal["nanogpt", "gpt2", "pretrained"] = "nanogpt"
    """`nanogpt` and `gpt2` are built from the numbers below; `pretrained` is loaded from `path`."""
    layers: Count = 6
    """Transformer blocks."""
    heads: Count = 6
    """Attention heads; must divide the width."""
    width: Count = 192
    """Size of the residual stream."""
    context: Annotated[int, Field(ge=2)] = 256
    """Longest sequence, in tokens."""
    dropout: Share = 0.1
    """Probability of dropping an activation in training."""
    bias: bool = False
    """Whether linear layers and norms of a nanogpt have biases; those of a gpt2 always do."""
    path: Text | None = None
    """Folder or Hub name of the pretrained model."""

    @model_validator(mode="after")
    def _shape_is_possible(self) -> Self:
        if self.kind == "pretrained" and self.path is None:
            raise broken_rule("path", "a pretrained model needs a path or a Hub name")
        if self.kind != "pretrained" and self.path is not None:
            raise broken_rule("path", "only a model of kind 'pretrained' has a path")
        if self.width % self.heads:
            raise broken_rule("heads", f"{self.heads} heads do not divide width {self.width}")
        return self


class CalibrationSection(Section):
    """What calibrating methods see."""

    data: Text | None = None
    """Another source; None: the training split."""
    samples: Count = 64
    """Windows."""
    length: Annotated[int, Field(ge=2)] | None = None
    """Tokens a window; None: the model's context, 2,048 at most."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Which windows are drawn."""
    generated: bool = False
    """Whether the model writes the windows itself, instead of any data."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.generated and self.data is not None:
            raise broken_rule("generated", "calibration has data already: drop one of the two")
        return self


class EvaluateSection(Section):
    """What every model is scored on."""

    protocol: Text = "document"
    """How text becomes scored tokens: document, blocks:N, stride:N or llamacpp:N."""
    documents: Count = 200
    """Test documents, the first ones."""
    batch_size: Count = 16
    """Windows a forward pass; does not change the result."""
    classification: ClassificationSection | None = None
    """Score classes in place of language."""


class BenchSection(Section):
    """How speed is measured, each model in a process of its own."""

    prompt_tokens: Count = 16
    """Tokens of the prompt."""
    new_tokens: Count = 64
    """Tokens decoded after it."""
    rounds: Count = 3
    """Passes over the models, interleaved."""
    runs: Count = 5
    """Timed repetitions a round."""
    kernels: Literal["fast", "exact"] = "fast"
    """Whether kernels may differ from the format's definition in rounding."""


class CompareSection(Section):
    """What counts as the same."""

    margin: Annotated[float, Field(gt=0)] = 0.01
    """Relative rise of perplexity that is still called equal."""
    accuracy_margin: Annotated[float, Field(gt=0, lt=1)] = 0.005
    """Fall of a classifier's accuracy that is still called equal: half a point."""
    resamples: Count = 10_000
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap."""


class ReportSection(Section):
    """The samples on the page."""

    prompts: tuple[str, ...] = ()
    """Beginnings that every model continues."""
    new_tokens: Count = 120
    """Tokens a sample."""
    temperature: Annotated[float, Field(ge=0)] = 0.8
    """0: greedy."""
    top_k: Count | None = 50
    """Likeliest tokens to sample from; None: all."""
    seed: int = 0
    """Seed of the sampling, the same for every model."""


class Recipe(Section):
    """A whole experiment."""

    name: Text
    """Folder name of the run."""
    description: str = ""
    """One line for `quantale recipes`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1337
    """Seed of initialisation, data order and dropout."""
    threads: Count | None = None
    """CPU threads, part of the result's identity; None: torch's choice."""
    data: DataSection = DataSection()
    tokenizer: TokenizerSection = TokenizerSection()
    model: ModelSection = ModelSection()
    train: TrainSection | None = None
    calibration: CalibrationSection = CalibrationSection()
    variants: tuple[VariantSection, ...] = ()
    sweep: tuple[SweepSection, ...] = ()
    """Their variants are among `variants` already."""
    evaluate: EvaluateSection = EvaluateSection()
    stories: StoriesSection | None = None
    code: CodeSection | None = None
    bench: BenchSection | None = BenchSection()
    compare: CompareSection = CompareSection()
    report: ReportSection = ReportSection()
    outputs: tuple[OutputSection, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of variants in their order, that of the base alone first."""
        named = (variant.group for variant in self.variants if variant.group is not None)
        return tuple(dict.fromkeys((BASELINE, *named)))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Further training seeds."""
        return further_seeds(self.sweep, self.seed)

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        _check_name(self.name)
        _check_model_and_training(self)
        _check_lengths(self)
        _check_classification(self)
        _check_template(self)
        check_variants(self.variants, pretrained=self.model.kind == "pretrained")
        check_sweeps(self.sweep, {v.name: v.model_dump(mode="json") for v in self.variants})
        classifies = self.evaluate.classification is not None
        check_seeds(self.sweep, trains=self.train is not None, classifies=classifies)
        check_outputs(self.outputs, self.variants, BASE)
        return self


def _check_name(name: str) -> None:
    if not FOLDER_NAME.fullmatch(name):
        raise broken_rule("name", f"{name!r} is not safe as a folder name")


def _check_model_and_training(recipe: Recipe) -> None:
    if recipe.model.kind == "pretrained":
        if recipe.tokenizer.kind != "pretrained":
            reason = "a pretrained model keeps its own tokenizer: write 'pretrained'"
            raise broken_rule("tokenizer.kind", reason)
        return
    if recipe.train is None:
        reason = f"a {recipe.model.kind} starts from random weights: a train section is needed"
        raise broken_rule("train", reason)
    if recipe.tokenizer.kind == "pretrained" and recipe.tokenizer.path is None:
        raise broken_rule("tokenizer.path", "a pretrained tokenizer needs a path or a Hub name")


def _check_lengths(recipe: Recipe) -> None:
    length, context = recipe.calibration.length, recipe.model.context
    if recipe.model.kind == "pretrained":
        return
    for field, wanted in (("calibration.length", length), ("data.length", recipe.data.length)):
        if wanted is not None and wanted > context:
            reason = f"{wanted} tokens are more than the model's context of {context}"
            raise broken_rule(field, reason)


def _check_classification(recipe: Recipe) -> None:
    section, learns = recipe.evaluate.classification, recipe.data.learns_classes
    if learns and recipe.model.kind == "nanogpt":
        raise broken_rule("model.kind", "a nanogpt has no head for classes: write gpt2")
    if learns and (section is None or section.route != "head"):
        field = "evaluate.classification"
        raise broken_rule(field, "a classifier is scored by its head: write {route: head}")
    if section is None or section.route != "head":
        return
    if recipe.model.kind != "pretrained" and not learns:
        raise broken_rule("model.kind", "the route 'head' needs a pretrained classifier")
    if recipe.bench is not None:
        raise broken_rule("bench", "a classifier decodes nothing: write bench: null")
    if recipe.report.prompts:
        raise broken_rule("report.prompts", "a classifier continues no prompt: leave them out")


def _check_template(recipe: Recipe) -> None:
    template, stories = recipe.data.parsed_template, recipe.stories
    if recipe.data.chat and recipe.model.kind != "pretrained":
        raise broken_rule("data.chat", "only a pretrained model has a chat template")
    if recipe.evaluate.protocol == "answer" and template is None:
        raise broken_rule("evaluate.protocol", "answers need a template: write data.template")
    if template is None or stories is None or stories.template is None:
        return
    fields = {name: f"{{{name.casefold()}}}" for name in template.fields}
    prompt = template.prompt(fields)
    if not stories.template.casefold().startswith(prompt.casefold()):
        reason = f"should begin with {prompt!r}, what data.template has in front of the answer"
        raise broken_rule("stories.template", reason)
