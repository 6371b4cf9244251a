"""The figures under an answer, in the words of the report."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantale.report import numerals
from quantale.serve.streaming import Answer
from quantale.stages.answering import Facts

_NONE = "\u2013"


@dataclass(frozen=True)
class Figure:
    """One label with its value, and how long its bar is."""

    label: str
    value: str
    share: float | None = None
    """Of the largest on the page, 0 to 1; None: no bar."""


def figures(
    facts: Sequence[Facts], answers: Sequence[Answer] | None = None
) -> list[tuple[Figure, ...]]:
    """Return the figures of every model; before anything is written, without its times."""
    given = answers or [Answer()] * len(facts)
    sizes = _shares([float(one.nbytes) for one in facts])
    paces = _shares([one.per_token for one in given])
    firsts = _shares([one.first_token for one in given])
    return [
        (
            Figure("on disk", numerals.size(one.nbytes), size),
            Figure("bits per weight", numerals.significant(one.bits_per_weight, 3)),
            Figure("first token", _milliseconds(answer.first_token), first),
            Figure("per token", _milliseconds(answer.per_token), pace),
            Figure("in memory", numerals.size(one.memory)),
            Figure("kernel", one.kernel),
        )
        for one, answer, size, first, pace in zip(facts, given, sizes, firsts, paces, strict=True)
    ]


def _milliseconds(seconds: float | None) -> str:
    return _NONE if seconds is None else numerals.milliseconds(seconds * 1000)


def _shares(values: Sequence[float | None]) -> list[float | None]:
    largest = max((value for value in values if value is not None), default=0.0)
    if largest <= 0:
        return [None] * len(values)
    return [None if value is None else value / largest for value in values]
