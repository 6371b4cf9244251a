"""Classify documents by one of two routes, which are named and never mixed.

A route (see `routes/`) gives every class a log-probability: `head` reads them off the head of a
sequence classifier, `likelihood` asks a language model how likely the word for each class is after
a template. Every document is seen once by each model; nothing is fitted to it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import DataError, NumericalError, UsageError
from quantale.core.registry import ROUTES
from quantale.evaluation.predictions import Prediction
from quantale.evaluation.windows import own_context

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with documents done and documents in all."""


@dataclass(frozen=True)
class ClassificationSettings:
    """How documents are classified."""

    route: str = "head"
    """Plug-in name: head or likelihood."""
    length: int | None = None
    """Longest input in tokens, what is longer is cut at its end; None: the model's context."""
    batch_size: int = 16
    """Most documents (likelihood: prompts) a forward pass; changes speed, not results."""
    template: str = "{text}\nTopic:"
    """Of the likelihood route: what goes before the word; {text} is the document."""
    words: tuple[str, ...] | None = None
    """Of the likelihood route: the word for each class; None: a space and the class's name."""
    normalise: str = "sum"
    """Of the likelihood route: the word's whole log-likelihood (sum), or a token or a byte."""


@dataclass(frozen=True)
class Job:
    """What a route is asked: settings that have been resolved."""

    classes: tuple[str, ...]
    length: int
    settings: ClassificationSettings

    @property
    def words(self) -> tuple[str, ...]:
        """The word for each class."""
        return self.settings.words or tuple(f" {name}" for name in self.classes)


class Route(Protocol):
    """The seam of `routes/`: a class without settings."""

    def fingerprint(self, job: Job) -> str:
        """Return the string that every number of this route carries."""

    def check(self, name: str, model: PreTrainedModel, job: Job) -> None:
        """Raise UsageError where the model cannot be asked this way."""

    def scores(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        texts: Sequence[str],
        job: Job,
        progress: Progress,
    ) -> Tensor:
        """Return (documents, classes) scores; softmax makes probabilities of them."""


@dataclass(frozen=True)
class Predictions:
    """What all models say, and how they were asked."""

    documents: tuple[Prediction, ...]
    """Model after model, documents in their order."""
    protocol: str
    """Fingerprint of the route, carried by every number."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What each model took for all documents, in batches, in the process that compares them."""


def classify(
    models: Mapping[str, PreTrainedModel],
    tokenizer: Any,
    data: tuple[Sequence[str], Sequence[str], Sequence[str]],
    classes: tuple[str, ...],
    settings: ClassificationSettings | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Classify all documents with all models.

    data: ids, texts and labels of the documents. Raises UsageError for a model that the route
    cannot ask and DataError for an id used twice or a text without a token.
    """
    settings = settings or ClassificationSettings()
    ids, texts, labels = data
    if len(set(ids)) < len(ids):
        raise DataError("two documents have the same id; predictions are paired by it")
    route: Route = ROUTES.get(settings.route)()
    job = Job(classes, _length(models, settings.length), settings)
    for name, model in models.items():
        route.check(name, model, job)
    found: list[Prediction] = []
    seconds: dict[str, float] = {}
    for done, (name, model) in enumerate(models.items()):
        part = _part(progress, done, len(models))
        started = time.perf_counter()
        with torch.inference_mode():
            scores = route.scores(model.eval(), tokenizer, texts, job, part)
        seconds[name] = time.perf_counter() - started
        shares = _probabilities(name, scores)
        found += [
            Prediction(name, document, label, dict(zip(classes, row, strict=True)))
            for document, label, row in zip(ids, labels, shares.tolist(), strict=True)
        ]
    return Predictions(tuple(found), route.fingerprint(job), seconds)


def _length(models: Mapping[str, PreTrainedModel], wanted: int | None) -> int:
    """Return the longest input that all models take and the caller wants."""
    if not models:
        raise UsageError("classifying needs at least one model, none came")
    known = {name: size for name, model in models.items() if (size := own_context(model))}
    if not known and wanted is None:
        raise UsageError("the config of the model does not tell its context; set the length")
    smallest = min(known, key=lambda name: known[name], default="")
    if wanted is not None and known and wanted > known[smallest]:
        raise UsageError(f"length {wanted} is too long: {smallest!r} takes {known[smallest]}")
    return wanted or known[smallest]


def _probabilities(name: str, scores: Tensor) -> Floats:
    """Return (documents, classes) softmax in float64; raises NumericalError."""
    if not bool(torch.isfinite(scores).all()):
        row = int((~torch.isfinite(scores)).any(dim=1).nonzero()[0])
        raise NumericalError(f"model {name!r}: the scores of document {row} are not finite")
    return torch.softmax(scores.double(), dim=1).cpu().numpy()


def _part(progress: Progress | None, model: int, models: int) -> Progress:
    def report(done: int, whole: int) -> None:
        if progress is not None:
            progress(model * whole + done, models * whole)

    return report


def equal_lengths(rows: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Return batches of row numbers, each of one length, so that nothing is padded.

    Without padding no result depends on the padding side or on who else is in the batch.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, {batch_size} came")
    by_length: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(number)
    return [
        found[start : start + batch_size]
        for _, found in sorted(by_length.items(), reverse=True)
        for start in range(0, len(found), batch_size)
    ]
