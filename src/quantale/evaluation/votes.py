"""Blind votes between two texts, as lines of JSON, and what they add up to.

A vote says which of two answers to one prompt somebody preferred without knowing who wrote them:
"a", "b", "tie" or "bad" (both are). Shares are of all votes of a pair, with Wilson's interval.
Whether one of the two is preferred is told by the decided votes alone: a fair coin for each
(exact, two-sided), Holm-adjusted over the pairs. numpy and the standard library.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from quantale.core.errors import DataError
from quantale.core.records import read_lines
from quantale.evaluation.proportions import Flips, wilson_estimate
from quantale.evaluation.stats import Estimate, holm

Choice = Literal["a", "b", "tie", "bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True)
class Ballot:
    """Who stood behind the two letters, and what was voted."""

    a: str
    """Name of the model."""
    b: str
    choice: Choice
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Digest of each model's files by name, where the record has it."""


@dataclass(frozen=True)
class Standing:
    """All votes between two models."""

    first: str
    second: str
    wins: tuple[int, int]
    """Votes for the first and for the second."""
    ties: int
    bad: int
    """Votes that both are bad."""
    p_holm: float = 1.0
    """Probability of decided votes so uneven if nobody preferred either."""

    @property
    def n(self) -> int:
        """How many votes there are."""
        return sum(self.wins) + self.ties + self.bad

    @property
    def shares(self) -> dict[str, Estimate]:
        """Shares of all votes with 95 % intervals: "first", "second", "tie", "bad"."""
        counts = {"first": self.wins[0], "second": self.wins[1], "tie": self.ties, "bad": self.bad}
        return {name: wilson_estimate(count, self.n) for name, count in counts.items()}

    @property
    def preferred(self) -> str | None:
        """The model that people prefer, None where the votes do not tell."""
        if self.p_holm > 0.05 or self.wins[0] == self.wins[1]:
            return None
        return self.first if self.wins[0] > self.wins[1] else self.second

    def record(self) -> dict[str, Any]:
        """Return the JSON-able form."""
        shares = {
            name: {"share": one.value, "ci_low": one.low, "ci_high": one.high}
            for name, one in self.shares.items()
        }
        votes = {"first": self.wins[0], "second": self.wins[1], "tie": self.ties, "bad": self.bad}
        return {
            "first": self.first,
            "second": self.second,
            "n": self.n,
            "votes": votes,
            "shares": shares,
            "p_holm": self.p_holm,
            "preferred": self.preferred,
        }


def read_ballots(path: Path) -> list[Ballot]:
    """Read a file of votes; raises DataError naming the first line that is none."""
    return [_ballot(path, number, line) for number, line in enumerate(read_lines(path), start=1)]


def renamed(ballots: Iterable[Ballot], names: Mapping[str, str]) -> list[Ballot]:
    """Return the ballots between known models alone, under the names given by digest."""
    found = []
    for ballot in ballots:
        a, b = (names.get(ballot.sha256.get(one, "")) for one in (ballot.a, ballot.b))
        if a is not None and b is not None and a != b:
            found.append(Ballot(a, b, ballot.choice))
    return found


def standings(ballots: Sequence[Ballot], order: Sequence[str] = ()) -> list[Standing]:
    """Return a standing for every pair that was voted on, most votes first.

    order: names that come first in a pair when they are in it; others follow as first met.
    """
    met = dict.fromkeys([*order, *(name for one in ballots for name in (one.a, one.b))])
    rank = {name: number for number, name in enumerate(met)}
    pairs: dict[tuple[str, str], list[str]] = {}
    for one in ballots:
        first, second = sorted((one.a, one.b), key=rank.__getitem__)
        winner = {"a": one.a, "b": one.b}.get(one.choice)
        says = one.choice if winner is None else "first" if winner == first else "second"
        pairs.setdefault((first, second), []).append(says)
    adjusted = holm([_p_value(said) for said in pairs.values()])
    found = [
        Standing(
            *pair,
            (said.count("first"), said.count("second")),
            said.count("tie"),
            said.count("bad"),
            p,
        )
        for (pair, said), p in zip(pairs.items(), adjusted, strict=True)
    ]
    return sorted(found, key=lambda one: (-one.n, rank[one.first], rank[one.second]))


def _p_value(said: Sequence[str]) -> float:
    return Flips(said.count("first"), said.count("second"), len(said)).mcnemar()


def _ballot(path: Path, number: int, line: Mapping[str, Any]) -> Ballot:
    a, b, choice = line.get("a"), line.get("b"), line.get("choice")
    if not isinstance(a, str) or not isinstance(b, str) or a == b or choice not in CHOICES:
        raise DataError(
            f"{path}: vote {number}: a vote has two models in `a` and `b` and a `choice` that is "
            f"one of {', '.join(CHOICES)}; {a!r}, {b!r} and {choice!r} came"
        )
    digests = line.get("sha256")
    known = digests if isinstance(digests, dict) else {}
    return Ballot(a, b, choice, {str(k): str(v) for k, v in known.items()})
