"""Who is on the front of size against quality, with ties drawn as ties.

A variant is *on the front* when nothing of its size or smaller has a lower loss. It is *tied*
when something does, but by less than these documents can show. It is *behind* when something
no larger is better beyond doubt. Statistical ties are not transitive, so every pair is judged.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from quantale.report.model import Estimate, ReportData, VariantRow

Standing = Literal["front", "tied", "behind"]


@dataclass(frozen=True)
class Point:
    """One variant in the size-quality plane."""

    row: VariantRow
    size: int
    loss: Estimate
    """Paired difference to the base in bits per byte (the base is zero), lower is better."""
    is_base: bool


def points(data: ReportData) -> tuple[Point, ...]:
    """Return the variants whose paired difference is known, base included, by size."""
    found = [
        Point(row, row.bytes_on_disk, loss, row.name == data.base)
        for row in data.variants
        if (loss := _loss(row, data)) is not None
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
    if data.ties is None:
        return first.loss.overlaps(second.loss)
    names = (first.row.name, second.row.name)
    return names in data.ties or names[::-1] in data.ties


def _loss(row: VariantRow, data: ReportData) -> Estimate | None:
    if row.name == data.base:
        return Estimate(0.0, 0.0, 0.0) if row.bits_per_byte is not None else None
    return row.delta_bits_per_byte


def _standing(data: ReportData, point: Point, everyone: tuple[Point, ...]) -> Standing:
    rivals = [p for p in everyone if p is not point and _beats(p, point)]
    if not rivals:
        return "front"
    return "tied" if all(is_tie(data, rival, point) for rival in rivals) else "behind"


def _beats(rival: Point, point: Point) -> bool:
    """Say whether the rival is no larger and no worse by its point estimates, and better in one."""
    no_worse = rival.size <= point.size and rival.loss.value <= point.loss.value
    return no_worse and (rival.size, rival.loss.value) != (point.size, point.loss.value)
