"""Models opened for a page: all of them write behind engines, or all of them are classifiers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core.errors import ModelFileError, UsageError
from quantale.core.progress import Progress
from quantale.core.recipe_file import load_recipe
from quantale.core.templates import Template
from quantale.evaluation.classification import classify
from quantale.evaluation.language import score
from quantale.evaluation.windows import own_context
from quantale.inference.engine import Engine
from quantale.inference.facts import Facts as EngineFacts
from quantale.inference.facts import collect_facts
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.inference.stream import Stream
from quantale.models.classifier import is_classifier
from quantale.models.load import LoadedModel, load
from quantale.stages.answering import ClassShares, Facts, Settings, TextScore
from quantale.stages.classify import head_classes
from quantale.stages.evaluate import named
from quantale.stages.generate import prompt_tokens
from quantale.stages.quantize import source_of

MOST_MODELS = 6
SLOTS, QUEUE = 2, 8
"""Answers that one model writes at once, and how many may wait for that."""
_RECIPE = "recipe.yaml"
_LEVELS = 4  # from a model's folder up to its run's


class EngineWriter:
    """A language model behind its engine."""

    def __init__(self, name: str, loaded: LoadedModel, sha256: str, *, exact: bool) -> None:
        """Start the engine; raises ModelFileError for a model that cannot write."""
        self.name, self._loaded = name, loaded
        self._engine = Engine(loaded, slots=SLOTS, queue=QUEUE, fast=not exact, name=name)
        self.facts = _facts(self._engine.facts, sha256)

    def tokens(self, prompt: str) -> list[int]:
        """Return the prompt as the model gets it; raises UsageError where that is nothing."""
        return prompt_tokens(self._loaded.tokenizer, prompt)

    def unknown(self, prompt: str) -> int:
        """Return how many tokens of the prompt are the tokenizer's unknown symbol."""
        symbol = self._loaded.tokenizer.unk_token_id
        return 0 if symbol is None or not prompt else self.tokens(prompt).count(symbol)

    def start(self, prompt: str, settings: Settings) -> Stream:
        """Begin an answer; raises QuantaleError where it cannot."""
        sampling = Sampling(settings.temperature, settings.top_k, settings.top_p, settings.seed)
        request = Request(tuple(self.tokens(prompt)), sampling, settings.length)
        return self._engine.submit(request)

    def score(self, text: str) -> TextScore:
        """Return how well it predicts a text, by exact kernels.

        The protocol is `document`: each token once, long texts in overlapping windows.
        """
        models, tokenizer = {self.name: self._loaded.model}, self._loaded.tokenizer
        (one,) = score(models, tokenizer, _OneText((_Text(text),))).documents
        return TextScore(one.nll, one.tokens, one.bytes, one.unknown)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


class HeadClassifier:
    """A sequence classifier, asked by the route `head`."""

    def __init__(self, name: str, loaded: LoadedModel, sha256: str) -> None:
        """Raises ModelFileError for a model without tokenizer."""
        if loaded.tokenizer is None:
            raise ModelFileError(f"{loaded.path} holds no tokenizer; save one beside the model")
        self.name, self._loaded = name, loaded
        config = loaded.model.config
        made_up = tuple(f"class {number}" for number in range(int(config.num_labels)))
        self._classes = head_classes(config) or made_up
        found = collect_facts(loaded, own_context(loaded.model) or 0, 0)
        self.facts = _facts(found, sha256)

    def classify(self, text: str) -> ClassShares:
        """Return the classes' probabilities; raises DataError for a text without a token."""
        began = time.perf_counter()
        models, data = {self.name: self._loaded.model}, ([""], [text], [self._classes[0]])
        found = classify(models, self._loaded.tokenizer, data, self._classes)
        return ClassShares(found.documents[0].probabilities, time.perf_counter() - began)


def _facts(found: EngineFacts, sha256: str) -> Facts:
    return Facts(
        nbytes=found.bytes_on_disk or found.weight_memory,
        bits_per_weight=found.bits_per_weight,
        memory=found.weight_memory + found.cache_memory,
        kernel=", ".join(found.kernels),
        context=found.context,
        sha256=sha256,
    )


@dataclass(frozen=True)
class Opened:
    """The models of a page."""

    writers: tuple[EngineWriter, ...] = ()
    classifiers: tuple[HeadClassifier, ...] = ()
    template: Template | None = None
    """How the writers were asked in training; None: with nothing but text."""

    def close(self) -> None:
        """Stop all engines."""
        for writer in self.writers:
            writer.close()


def open_models(models: Sequence[str], progress: Progress, *, exact: bool = False) -> Opened:
    """Load up to six models; exact: only kernels that keep to the format's result.

    Raises UsageError for too many, and for classifiers beside language models.
    """
    names = named(list(models))
    if not 1 <= len(names) <= MOST_MODELS:
        raise UsageError(f"a page has one to {MOST_MODELS} models; {len(names)} came")
    progress.stage("load", len(names))
    loaded: dict[str, tuple[LoadedModel, str]] = {}
    for name, path in names.items():
        source = source_of(path)
        loaded[name] = load(source.folder), source.digest
        progress.advance()
    kinds = {is_classifier(one.model) for one, _ in loaded.values()}
    if len(kinds) > 1:
        raise UsageError("classifiers and models that write do not share a page: show them apart")
    if kinds == {True}:
        found = (HeadClassifier(name, one, digest) for name, (one, digest) in loaded.items())
        return Opened(classifiers=tuple(found))
    writers = (EngineWriter(n, one, digest, exact=exact) for n, (one, digest) in loaded.items())
    return Opened(tuple(writers), template=_template([one.path for one, _ in loaded.values()]))


def _template(folders: Sequence[Path]) -> Template | None:
    """Return the template by which all models were trained, None unless it is one."""
    found = [template_of(folder) for folder in folders]
    return found[0] if all(one == found[0] for one in found) else None


def template_of(folder: Path) -> Template | None:
    """Return the template of the recipe in whose run a model lies."""
    places = [folder.resolve(), *folder.resolve().parents][: _LEVELS + 1]
    recipe = next((place / _RECIPE for place in places if (place / _RECIPE).is_file()), None)
    if recipe is None:
        return None
    return load_recipe(str(recipe)).recipe.data.parsed_template


@dataclass(frozen=True)
class _Text:
    text: str
    id: str = "text"


@dataclass(frozen=True)
class _OneText:
    """A set of documents with one in it."""

    items: tuple[Any, ...]
