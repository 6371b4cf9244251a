"""The story panel as small bars: one picture a metric, one bar a writer, the corpus as a line."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from quantale.report import labels, series
from quantale.report.lettering import Lettering, write
from quantale.report.model import ReportData
from quantale.report.palette import stand_in
from quantale.report.svg import Canvas, drawing, pixels, to_svg
from quantale.report.writing import CORPUS, Row, Writing

SHOWN = (
    "seq_rep_4", "self_bleu", "longest_copy", "persistence", "entity_continuity", "genre_accuracy",
)  # fmt: skip
WIDE, NARROW = 820, 350
_PITCH, _HEAD, _GAP = 17, 30, 26


def bars(table: Writing, data: ReportData) -> str:
    """Return the picture, wide and narrow; empty where no metric of `SHOWN` was measured."""
    rows = [row for name in SHOWN for row in table.rows if row.metric == name]
    if not rows:
        return ""
    colours = {CORPUS: "muted", **series.series_of(data)}
    wide = _picture(table, rows, colours, Canvas("stories-w", WIDE, _height(table, rows, 3)), 3)
    narrow = _picture(table, rows, colours, Canvas("stories-n", NARROW, _height(table, rows, 1)), 1)
    return wide + narrow


def _height(table: Writing, rows: Sequence[Row], columns: int) -> int:
    return math.ceil(len(rows) / columns) * (_HEAD + _PITCH * len(table.writers) + _GAP)


def _picture(
    table: Writing, rows: Sequence[Row], colours: dict[str, str], canvas: Canvas, columns: int
) -> str:
    room = canvas.width / columns
    with drawing(canvas) as figure:
        axes = pixels(figure, canvas)
        for index, row in enumerate(rows):
            line, column = divmod(index, columns)
            top = line * (_HEAD + _PITCH * len(table.writers) + _GAP)
            _metric(axes, row, table.writers, colours, (column * room, top, room - 24))
        return to_svg(figure, canvas, "The panel in bars", _in_words(table, rows))


def _metric(
    axes: Axes,
    row: Row,
    writers: Sequence[str],
    colours: dict[str, str],
    place: tuple[float, float, float],
) -> None:
    """Draw one metric into a column of the picture: left end, top and width in pixels."""
    left, top, width = place
    write(axes, row.heading, (left, top + 12), (0, 0), Lettering("ink", 13))
    names = 0.38 * width
    longest = max(
        (entry.estimate.drawn[1] for entry in row.entries if entry.estimate is not None), default=0
    )
    scale = (width - names - 44) / longest if longest > 0 else 0.0
    for index, (name, entry) in enumerate(zip(writers, row.entries, strict=True)):
        middle = top + _HEAD + _PITCH * index + _PITCH / 2
        words = labels.fitted(name, names - 6, 12)
        write(axes, words, (left + names - 6, middle), (0, 0), Lettering(align="right"))
        if entry.estimate is None:
            continue
        start, value = left + names, max(0.0, entry.estimate.value * scale)
        colour = stand_in(colours.get(name, "muted"))
        axes.add_artist(Rectangle((start, middle - 5), value, 10, facecolor=colour, linewidth=0))
        low, high = (start + end * scale for end in entry.estimate.drawn)
        ink = stand_in("ink" if colours.get(name) != "series-0" else "muted")
        axes.plot([max(start, low), high], [middle, middle], color=ink, linewidth=1.2, zorder=4)
        write(axes, entry.text, (high, middle), (5, 0), Lettering(size=11))
        if name == CORPUS:
            bottom = top + _HEAD + _PITCH * len(writers)
            axes.plot([start + value] * 2, [middle, bottom], color=stand_in("muted"),
                      linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)  # fmt: skip


def _in_words(table: Writing, rows: Sequence[Row]) -> str:
    return "; ".join(
        f"{row.heading}: "
        + ", ".join(f"{n} {e.text}" for n, e in zip(table.writers, row.entries, strict=True))
        for row in rows
    )
