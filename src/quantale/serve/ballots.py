"""Blind rounds: two models behind the letters A and B, and one vote for each round.

A round's pair is the one with the fewest rounds so far, so that all pairs get alike many; which of
the two is A is drawn. A round can be voted on once, after both answers are over. Each vote is a
line of JSON that is on the disk before the names are shown.
"""

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from quantale.core.errors import UsageError
from quantale.core.files import append_line
from quantale.core.records import to_json_line
from quantale.evaluation.votes import CHOICES, Standing, read_ballots, standings
from quantale.stages.answering import Settings, Writer

_OPEN = 1_000
"""Rounds that wait for their vote; older ones are forgotten."""


@dataclass(frozen=True)
class Round:
    """Two models in the order in which they are shown."""

    id: str
    order: tuple[int, int]
    """Which models of the page are A and B."""


@dataclass
class _Open:
    """A round whose answers are over."""

    round: Round
    record: dict[str, Any] = field(default_factory=dict)


class Ballots:
    """Draws rounds and keeps votes; safe to use from several threads."""

    def __init__(
        self, writers: Sequence[Writer], path: Path, source: random.Random | None = None
    ) -> None:
        """Read the votes that are there; raises DataError for a file that holds something else."""
        self._writers, self._path = writers, path
        self._random = source or random.SystemRandom()
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        known = read_ballots(path) if path.is_file() else []
        names = {writer.name: index for index, writer in enumerate(writers)}
        met = [(names.get(one.a), names.get(one.b)) for one in known]
        self._rounds = Counter(frozenset(pair) for pair in met if None not in pair)

    def draw(self) -> Round:
        """Return a new round; raises UsageError where there are no two models."""
        if len(self._writers) < 2:
            raise UsageError("a blind round needs two models")
        with self._lock:
            pairs = [frozenset(pair) for pair in combinations(range(len(self._writers)), 2)]
            fewest = min(self._rounds[pair] for pair in pairs)
            pair = self._random.choice([p for p in pairs if self._rounds[p] == fewest])
            self._rounds[pair] += 1
            first, second = self._random.sample(sorted(pair), 2)
        return Round(secrets.token_urlsafe(12), (first, second))

    def close(self, drawn: Round, prompt: str, settings: Settings, answers: Sequence[str]) -> None:
        """Open a round for its vote, now that both answers are over."""
        a, b = (self._writers[index] for index in drawn.order)
        record = {
            "round": drawn.id,
            "a": a.name,
            "b": b.name,
            "sha256": {one.name: one.facts.sha256 for one in (a, b)},
            "prompt": prompt,
            "answers": list(answers),
            "settings": asdict(settings),
        }
        with self._lock:
            while len(self._open) >= _OPEN:
                del self._open[next(iter(self._open))]
            self._open[drawn.id] = _Open(drawn, record)

    def vote(self, round_id: str, choice: str) -> Round | None:
        """Write a vote and return its round; None where the round is not open (any more)."""
        if choice not in CHOICES:
            raise UsageError(f"a vote is one of {', '.join(CHOICES)}; {choice!r} came")
        with self._lock:
            opened = self._open.get(round_id)
            if opened is None:
                return None
            line = {**opened.record, "choice": choice, "time": int(time.time())}
            append_line(self._path, to_json_line(line))
            del self._open[round_id]
        return opened.round

    def tally(self) -> list[Standing]:
        """Return what all votes in the file add up to."""
        if not self._path.is_file():
            return []
        return standings(read_ballots(self._path), [writer.name for writer in self._writers])
