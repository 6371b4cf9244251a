"""Blind votes between the models of a page, as the page and its Markdown twin show them."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantale.evaluation.stats import Estimate
from quantale.evaluation.votes import Standing
from quantale.report import numerals
from quantale.report.model import ReportData

COLUMNS = ("For the first", "For the second", "Tie", "Both bad")
_KEYS = ("first", "second", "tie", "bad")


@dataclass(frozen=True)
class Cell:
    """A share and its interval."""

    text: str
    note: str


@dataclass(frozen=True)
class Row:
    """One pair of models."""

    first: str
    second: str
    votes: int
    cells: tuple[Cell, ...]
    """In the order of `COLUMNS`."""
    preferred: str
    """Empty where the votes do not tell."""
    p: str


def rows(data: ReportData) -> list[Row]:
    """Return a row a pair, most votes first."""
    return [_row(one) for one in data.votes]


def finding(data: ReportData) -> str:
    """Return the heading: what the votes tell."""
    count = sum(one.n for one in data.votes)
    votes = f"{numerals.count(count)} blind vote{'s' * (count != 1)}"
    told = [one for one in data.votes if one.preferred is not None]
    if not told:
        return f"{votes} do{'es' * (count == 1)} not tell the models apart"
    first = told[0]
    other = first.second if first.preferred == first.first else first.first
    more = f", and {len(told) - 1} more pairs are told apart" if len(told) > 1 else ""
    return f"In {votes}, {first.preferred} is preferred to {other}{more}"


def _row(one: Standing) -> Row:
    shares = one.shares
    return Row(
        one.first,
        one.second,
        one.n,
        tuple(_cell(shares[key]) for key in _KEYS),
        one.preferred or "",
        numerals.significant(one.p_holm, 2),
    )


def _cell(share: Estimate) -> Cell:
    note = f"{100 * share.low:.0f} to {100 * share.high:.0f}"
    return Cell(numerals.percent(share.value, 0), note)


def as_lines(found: Sequence[Row]) -> list[list[str]]:
    """Return the rows as plain cells."""
    return [
        [
            f"{row.first} and {row.second}",
            str(row.votes),
            *(f"{cell.text} ({cell.note})" for cell in row.cells),
            row.preferred or "cannot tell",
        ]
        for row in found
    ]
