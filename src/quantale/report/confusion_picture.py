"""A confusion matrix as a picture by itself (PNG), for folders that are read without the page."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from quantale.report.palette import LIGHT, heat_step, ink_on
from quantale.report.png import to_png


def confusion_png(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> bytes:
    """Return the picture; rows are true classes, columns predicted ones, counts in the cells.

    Colour is the share of the true class, in square root so that rare errors are seen. The same
    counts give the same bytes.
    """
    side = max(3.6, 0.9 * len(classes) + 1.6)

    def draw(axes: Axes) -> None:
        _cells(axes, matrix)
        marks = range(len(classes))
        axes.set_xticks(marks, classes, rotation=30 if len(classes) > 4 else 0)
        axes.set_yticks(marks, classes)
        axes.tick_params(length=0, colors=LIGHT["ink"], labelsize=9)
        axes.set(xlabel="predicted", ylabel="true", title=_title(matrix))

    return to_png((side + 0.4, side), draw)


def _title(matrix: Sequence[Sequence[int]]) -> str:
    right = sum(row[number] for number, row in enumerate(matrix))
    whole = sum(map(sum, matrix))
    return f"{right:,} of {whole:,} right"


def _cells(axes: Axes, matrix: Sequence[Sequence[int]]) -> None:
    """Colour every cell and write its count, in light ink on dark cells."""
    for edge in axes.spines.values():
        edge.set_visible(False)
    axes.set(xlim=(-0.5, len(matrix) - 0.5), ylim=(len(matrix) - 0.5, -0.5), aspect="equal")
    axes.patch.set_visible(False)
    for i, row in enumerate(matrix):
        whole = sum(row) or 1
        for j, count in enumerate(row):
            step = heat_step(math.sqrt(count / whole))
            colour = LIGHT[f"heat-{step}"]
            axes.bar(j, 0.96, 0.96, i - 0.48, color=colour, edgecolor="none")
            ink = LIGHT[ink_on(step)]
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=ink, fontsize=10)
