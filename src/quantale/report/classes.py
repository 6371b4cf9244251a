"""The section about classifiers: what changed, the confusion matrices, the classes one by one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from quantale.report import labels, numerals
from quantale.report.lettering import Lettering, write
from quantale.report.model import Classification, ReportData, VariantRow
from quantale.report.numerals import interval, signed
from quantale.report.palette import heat_step, ink_on, stand_in
from quantale.report.svg import Canvas, drawing, pixels, to_svg

TITLE = "Confusion matrices"
WIDE, NARROW = 820, 350
LARGEST = 20
"""Classes of a matrix that is drawn; of more, only the numbers are given."""
_HEAD, _FOOT, _GAP = 46, 40, 20


@dataclass(frozen=True)
class ClassLine:
    """One class in the table, with a cell for each model."""

    name: str
    support: int
    cells: tuple[tuple[str, str], ...]
    """F1, and precision with recall, in percent."""


def shown(data: ReportData) -> list[tuple[VariantRow, Classification]]:
    """Return the variants that are classifiers."""
    return [(row, row.classification) for row in data.variants if row.classification is not None]


def change_sentence(data: ReportData, row: VariantRow) -> str:
    """Return what happened to the accuracy of a variant, with its paired interval."""
    own = row.classification
    if own is None or own.delta_accuracy is None:
        return ""
    found = own.delta_accuracy
    points = found.points
    spread = interval(points, 2, sign=True)
    text = (
        f"On {numerals.count(found.n)} documents its accuracy changes by "
        f"{signed(points.value, 2)} points"
    )
    text += f" (paired, 95{numerals.SPACE}% interval {spread})" if spread else ""
    if own.flips is not None:
        text += (
            f"; {numerals.count(own.flips.broken)} right answers became wrong and "
            f"{numerals.count(own.flips.fixed)} wrong ones right"
        )
    return f"{text}; the margin allows a fall of {data.margin * 100:g} points."


def finding(data: ReportData) -> str:
    """Return the heading of the section: which classes are confused most."""
    base = data.base_row.classification
    if base is None:
        return ""
    names = [one.name for one in base.scores.classes]
    count, true, said = max(
        (count, names[i], names[j])
        for i, row in enumerate(base.matrix)
        for j, count in enumerate(row)
        if i != j
    )
    if count == 0:
        return f"{data.base} confuses no two classes"
    return f"{data.base} takes {true} for {said} most often: {numerals.count(count)} times"


def table(data: ReportData) -> tuple[list[str], list[ClassLine]]:
    """Return the models' names and a line for each class."""
    rows = shown(data)
    lines = []
    for number, one in enumerate(rows[0][1].scores.classes if rows else ()):
        own = [found.scores.classes[number] for _, found in rows]
        cells = tuple(
            (f"{100 * c.f1:.1f}", f"{100 * c.precision:.1f} / {100 * c.recall:.1f}") for c in own
        )
        lines.append(ClassLine(one.name, one.support, cells))
    return [row.name for row, _ in rows], lines


def confusion(data: ReportData) -> str:
    """Return the pictures of all matrices, wide and narrow; empty without classifiers."""
    rows = shown(data)
    if not rows or len(rows[0][1].matrix) > LARGEST:
        return ""
    return _draw(rows, "confusion-w", WIDE) + _draw(rows, "confusion-n", NARROW)


def _draw(rows: Sequence[tuple[VariantRow, Classification]], name: str, width: int) -> str:
    """Draw small multiples: true classes down, predicted ones across, one colour scale for all."""
    names = [one.name for one in rows[0][1].scores.classes]
    columns = min(len(rows), 1 if width < 500 else 3)
    gutter = min(12 + 6.6 * max(map(len, names)), 110.0)
    across = (width - gutter) / columns
    cell = min(52.0, (across - _GAP) / len(names))
    tall = _HEAD + cell * len(names) + _FOOT
    canvas = Canvas(name, width, math.ceil(tall * math.ceil(len(rows) / columns)))
    with drawing(canvas) as figure:
        axes = pixels(figure, canvas)
        for index, (row, found) in enumerate(rows):
            line, column = divmod(index, columns)
            origin = (gutter + column * across, line * tall + _HEAD)
            _matrix(axes, found, origin, cell)
            words = labels.fitted(row.name, across - 10, 12)
            write(axes, words, origin, (0, 22), Lettering("ink", level="baseline"))
            accuracy = f"accuracy {numerals.percent(found.accuracy.value, 2)}"
            write(axes, accuracy, origin, (0, 8), Lettering(size=11, level="baseline"))
            _names(axes, names, (origin, cell), gutter if column == 0 else 0.0)
        return to_svg(figure, canvas, TITLE, describe(rows))


def _matrix(axes: Axes, found: Classification, origin: tuple[float, float], cell: float) -> None:
    """Colour is the share of the true class, in square root so that rare errors are seen."""
    for i, counts in enumerate(found.matrix):
        whole = sum(counts) or 1
        for j, count in enumerate(counts):
            share = math.sqrt(count / whole)
            step = heat_step(share)
            corner = origin[0] + j * cell, origin[1] + i * cell
            axes.add_artist(
                Rectangle(corner, cell - 1.5, cell - 1.5, facecolor=stand_in(f"heat-{step}"),
                          edgecolor="none")
            )  # fmt: skip
            if cell >= 30:
                middle = corner[0] + cell / 2, corner[1] + cell / 2
                words = numerals.count(count)
                size = 11 if len(words) < 5 else 10
                write(axes, words, middle, (0, 0), Lettering(ink_on(step), size, "center"))


def _names(
    axes: Axes, names: Sequence[str], place: tuple[tuple[float, float], float], gutter: float
) -> None:
    """Write the classes below, and to the left where there is a gutter for them."""
    (x, y), cell = place
    foot = y + cell * len(names)
    for number, name in enumerate(names):
        middle = (number + 0.5) * cell
        words = labels.fitted(name, cell - 2, 9)
        write(axes, words, (x + middle, foot), (0, -8), Lettering(size=9, align="center"))
        if gutter:
            words = labels.fitted(name, gutter - 10, 11)
            write(axes, words, (x, y + middle), (-8, 0), Lettering(size=11, align="right"))
    write(axes, "predicted \u2192", (x, foot), (0, -24), Lettering(size=10))


def describe(rows: Sequence[tuple[VariantRow, Classification]]) -> str:
    """Return all counts in words, row by row."""
    parts = []
    for row, found in rows:
        lines = (
            f"{one.name} as "
            + ", ".join(
                f"{other.name} {count}"
                for other, count in zip(found.scores.classes, counts, strict=True)
            )
            for one, counts in zip(found.scores.classes, found.matrix, strict=True)
        )
        parts.append(f"{row.name}: " + "; ".join(lines))
    return ". ".join(parts) + "."
