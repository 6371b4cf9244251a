"""What a page needs of its models: their facts, how they are asked, what they answer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Settings:
    """How an answer is drawn; the same for all models."""

    temperature: float = 0.8
    """0: always the likeliest token."""
    top_k: int | None = None
    top_p: float | None = None
    length: int = 120
    """Most new tokens."""
    seed: int = 0


@dataclass(frozen=True)
class Facts:
    """What is known of a model before it writes."""

    nbytes: int
    """Weight files on disk."""
    bits_per_weight: float
    """Over the quantized weights, scales included; over all where none is quantized."""
    memory: int
    """Bytes that it holds in memory: weights, and the cache of its context where it writes."""
    kernel: str
    """Which kernels multiply, joined by commas."""
    context: int
    """Most tokens, prompt and answer together."""
    sha256: str = ""
    """Digest of the weight files."""


@dataclass(frozen=True)
class TextScore:
    """How well a model predicts one text."""

    nll: float
    """Nats in all."""
    tokens: int
    """Scored tokens."""
    nbytes: int
    """UTF-8 bytes of the scored text."""
    unknown: int = 0
    """Scored tokens that are the tokenizer's unknown symbol."""

    @property
    def perplexity(self) -> float:
        """Per token: comparable between models of one tokenizer only."""
        return math.exp(min(self.nll / self.tokens, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Comparable between all models."""
        return self.nll / self.nbytes / math.log(2)


@dataclass(frozen=True)
class ClassShares:
    """What a classifier says of one text."""

    shares: Mapping[str, float]
    """Probability by class, in the model's order."""
    seconds: float


class Piece(Protocol):
    """A token of an answer."""

    @property
    def text(self) -> str:
        """What it adds; safe to join."""


class Ending(Protocol):
    """How an answer ended."""

    @property
    def reason(self) -> str:
        """One of stop, eos, length, context, cancelled."""

    @property
    def seconds_per_token(self) -> float | None:
        """Mean time between tokens after the first."""


class Answering(Protocol):
    """An answer on its way; iterated by one thread, stopped by any."""

    def __iter__(self) -> Iterator[Piece]:
        """Yield the tokens as they come."""

    def cancel(self) -> None:
        """Stop it; its place is free within a token."""

    @property
    def ending(self) -> Ending:
        """How it ended; after the iteration."""


class Writer(Protocol):
    """A model on the page."""

    @property
    def name(self) -> str:
        """Unique on the page."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""

    def tokens(self, prompt: str) -> list[int]:
        """Return the prompt as the model gets it; raises UsageError where that is nothing."""

    def unknown(self, prompt: str) -> int:
        """Return how many tokens of the prompt are the tokenizer's unknown symbol."""

    def start(self, prompt: str, settings: Settings) -> Answering:
        """Begin an answer; raises QuantaleError where it cannot."""

    def score(self, text: str) -> TextScore:
        """Return how well it predicts a text; raises DataError where there is nothing to score."""


class Classifier(Protocol):
    """A model on the page that says which class a text is of."""

    @property
    def name(self) -> str:
        """Unique on the page."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""

    def classify(self, text: str) -> ClassShares:
        """Return the classes' probabilities; raises DataError for a text without a token."""
