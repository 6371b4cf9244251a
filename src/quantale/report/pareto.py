"""Who is on the front of a cost against quality, with ties drawn as ties.

A view says what is the cost (bytes, time, memory) and what is the loss. A variant is *on the
front* when nothing of its cost or cheaper has a lower loss. It is *tied*
when something does, but by less than these documents can show. It is *behind* when something
no larger is better beyond doubt. Statistical ties are not transitive, so every pair is judged.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from quantale.report import numerals
from quantale.report.model import Estimate, ReportData, VariantRow

Standing = Literal["front", "tied", "behind"]


@dataclass(frozen=True)
class View:
    """What a picture of the trade plots."""

    name: str
    """Short, for those who choose."""
    across: str
    """Words at the axis of the cost."""
    up: str
    """Words at the axis of the loss, before "against BASE"."""
    cost: Callable[[VariantRow], float | None]
    loss: Callable[[VariantRow], Estimate | None]
    written: Callable[[float], str]
    """A cost in words."""
    tick: Callable[[float], str]
    """A round cost at the axis."""
    is_judged: bool
    """Whether the loss is the one that margin and paired tests are about."""


def _peak(row: VariantRow) -> float | None:
    return None if row.peak_memory_bytes is None else float(row.peak_memory_bytes)


def _pace(row: VariantRow) -> float | None:
    return None if row.ms_per_token is None else row.ms_per_token.value


def _disk(row: VariantRow) -> float | None:
    return float(row.bytes_on_disk)


_LOST = "bits per byte lost"
DISK = View(
    "file size", "whole files on disk", _LOST, _disk, lambda row: row.delta_bits_per_byte,
    numerals.size, numerals.round_size, is_judged=True,
)  # fmt: skip
VIEWS = (
    DISK,
    View("time a token", "ms per decoded token", _LOST, _pace, lambda row: row.delta_bits_per_byte,
         numerals.milliseconds, lambda value: f"{value:g} ms", is_judged=True),
    View("peak memory", "peak memory of the process", _LOST, _peak,
         lambda row: row.delta_bits_per_byte, numerals.size, numerals.round_size, is_judged=True),
    View("size and divergence", "whole files on disk", "KL, nats per token,", _disk,
         lambda row: row.kl_mean, numerals.size, numerals.round_size, is_judged=False),
)  # fmt: skip
"""What can be picked; the first is shown."""


@dataclass(frozen=True)
class Point:
    """One variant in the plane of cost and quality."""

    row: VariantRow
    size: float
    """The cost: bytes or milliseconds."""
    loss: Estimate
    """Difference to the base (which is zero), lower is better."""
    is_base: bool
    is_judged: bool = True
    """Whether the paired tests given with the data are about this loss."""


def points(data: ReportData, view: View = DISK) -> tuple[Point, ...]:
    """Return the variants whose cost and loss are known, base included, the cheapest first."""
    found = [
        Point(row, cost, loss, row.name == data.base, view.is_judged)
        for row in data.variants
        if (loss := _loss(row, data, view)) is not None and (cost := view.cost(row)) is not None
    ]
    return tuple(sorted(found, key=lambda point: (point.size, point.loss.value, point.row.name)))


def standings(data: ReportData, found: Iterable[Point]) -> dict[str, Standing]:
    """Return where each named point stands."""
    everyone = tuple(found)
    return {point.row.name: _standing(data, point, everyone) for point in everyone}


def tied_pairs(data: ReportData, found: Iterable[Point]) -> list[tuple[Point, Point]]:
    """Return every pair of points that cannot be told apart, smaller first."""
    everyone = tuple(found)
    return [
        (first, second)
        for i, first in enumerate(everyone)
        for second in everyone[i + 1 :]
        if is_tie(data, first, second)
    ]


def tied_neighbours(data: ReportData, found: Iterable[Point]) -> list[tuple[Point, Point]]:
    """Return the tied pairs that no third point, tied with both and between them, already joins."""
    everyone = tuple(found)
    pairs = tied_pairs(data, everyone)
    names = {(first.row.name, second.row.name) for first, second in pairs}
    return [
        (first, second)
        for first, second in pairs
        if not any(
            {(first.row.name, p.row.name), (p.row.name, second.row.name)} <= names for p in everyone
        )
    ]


def is_tie(data: ReportData, first: Point, second: Point) -> bool:
    """Say whether the two losses cannot be told apart.

    The paired test given with the data decides; without one, overlapping intervals do, which
    errs on the side of "cannot tell".
    """
    if data.ties is None or not first.is_judged:
        return first.loss.overlaps(second.loss)
    names = (first.row.name, second.row.name)
    return names in data.ties or names[::-1] in data.ties


def _loss(row: VariantRow, data: ReportData, view: View) -> Estimate | None:
    if row.name == data.base:
        return Estimate(0.0, 0.0, 0.0) if row.bits_per_byte is not None else None
    return view.loss(row)


def _standing(data: ReportData, point: Point, everyone: tuple[Point, ...]) -> Standing:
    rivals = [p for p in everyone if p is not point and _beats(p, point)]
    if not rivals:
        return "front"
    return "tied" if all(is_tie(data, rival, point) for rival in rivals) else "behind"


def _beats(rival: Point, point: Point) -> bool:
    """Say whether the rival is no larger and no worse by its point estimates, and better in one."""
    no_worse = rival.size <= point.size and rival.loss.value <= point.loss.value
    return no_worse and (rival.size, rival.loss.value) != (point.size, point.loss.value)
