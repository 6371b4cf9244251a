"""Writers that say what they are told to, for pages without models."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from quantale.core.errors import DataError, UsageError
from quantale.stages.answering import ClassShares, Facts, Settings, TextScore

UNKNOWN = "\N{SNOWMAN}"
"""The one character that the stub's tokenizer does not know."""


@dataclass(frozen=True)
class StubPiece:
    text: str


@dataclass(frozen=True)
class StubEnding:
    reason: str
    seconds_per_token: float | None


class StubStream:
    """Yields pieces with a pause before each; cancelled between two."""

    def __init__(self, pieces: Sequence[str], pause: float, problem: str = "") -> None:
        self._pieces, self._pause, self._problem = pieces, pause, problem
        self._cancelled = threading.Event()
        self.is_closed = False

    def __iter__(self) -> Iterator[StubPiece]:
        for piece in self._pieces:
            if self._cancelled.wait(self._pause):
                break
            yield StubPiece(piece)
        self.is_closed = True
        if self._problem:
            raise DataError(self._problem)

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def ending(self) -> StubEnding:
        reason = "cancelled" if self._cancelled.is_set() else "length"
        return StubEnding(reason, self._pause or 0.001)


@dataclass
class StubWriter:
    """A model whose tokens are words; it writes `story`, however it is asked."""

    name: str
    story: str = "a fox lived by the mill and was happy"
    pause: float = 0.0
    problem: str = ""
    facts: Facts = field(
        default_factory=lambda: Facts(1_000_000, 4.5, 2_000_000, "aten-int4", 256, "00" * 32)
    )
    asked: list[tuple[str, Settings]] = field(default_factory=list)
    streams: list[StubStream] = field(default_factory=list)

    def tokens(self, prompt: str) -> list[int]:
        if not prompt:
            raise UsageError("this model needs a prompt")
        return [len(word) for word in prompt.split()] or [0]

    def unknown(self, prompt: str) -> int:
        return prompt.count(UNKNOWN)

    def start(self, prompt: str, settings: Settings) -> StubStream:
        self.tokens(prompt)
        self.asked.append((prompt, settings))
        words = self.story.split(" ")[: settings.length]
        pieces = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
        self.streams.append(StubStream(pieces, self.pause, self.problem))
        return self.streams[-1]

    def score(self, text: str) -> TextScore:
        if text == "nothing":
            raise DataError("no token to score")
        count = len(text.split())
        return TextScore(count * 1.5, count, len(text.encode()), text.count(UNKNOWN))


@dataclass
class StubClassifier:
    """A model that always names the same class."""

    name: str
    shares: dict[str, float]
    facts: Facts = field(default_factory=lambda: Facts(500_000, 8.0, 900_000, "torch", 128))

    def classify(self, text: str) -> ClassShares:
        if text == "nothing":
            raise DataError("document 0 has no token to classify")
        time.sleep(0.001)
        return ClassShares(self.shares, 0.0123)
