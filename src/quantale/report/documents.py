"""Every document as a point: what the base needs for it, and how much more each variant needs."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from quantale.report import labels, numerals
from quantale.report.lettering import Lettering, write
from quantale.report.model import ReportData, VariantRow
from quantale.report.palette import stand_in
from quantale.report.series import series_of
from quantale.report.svg import Canvas, drawing, open_frame, to_svg

_HEIGHT, _HEAD, _FOOT, _LEFT = 150, 34, 40, 58
"""Pixels: of a panel with its words, above and below its axes, and to the left of all."""


def shown(data: ReportData) -> tuple[VariantRow, ...]:
    """Return the variants whose documents are known."""
    return tuple(row for row in data.others if row.documents)


def worse_share(row: VariantRow) -> float:
    """Return the share of documents that a variant predicts worse than the base."""
    return sum(change > 0 for _, change in row.documents) / len(row.documents)


def scatter(data: ReportData, name: str, width: int) -> str:
    """Return the SVG: a panel a variant, one scale for all; needs a variant with documents."""
    rows, colours = shown(data), series_of(data)
    columns = min(len(rows), 2 if width < 500 else 4)
    lines = math.ceil(len(rows) / columns)
    canvas = Canvas(name, width, lines * (_HEIGHT + _HEAD) + _FOOT)
    knee = data.margin_bits_per_byte or 1e-3
    with drawing(canvas) as figure:
        across = (width - _LEFT) / columns
        for index, row in enumerate(rows):
            line, column = divmod(index, columns)
            top = line * (_HEIGHT + _HEAD) + _HEAD
            box = (
                (_LEFT + column * across) / canvas.width,
                1 - (top + _HEIGHT - 12) / canvas.height,
                (across - 14) / canvas.width,
                (_HEIGHT - 12) / canvas.height,
            )
            axes = figure.add_axes(box)
            _scale(axes, rows, knee, is_first=column == 0)
            _margin(axes, data)
            _points(axes, row, stand_in(colours[row.name]))
            words = labels.fitted(row.name, across - 20, 12)
            write(axes, words, (0, 1), (0, 10), Lettering("ink", level="baseline"),
                  where="axes fraction")  # fmt: skip
            if line == lines - 1 or index + columns >= len(rows):
                axes.tick_params(labelbottom=True)
            if index == len(rows) - 1:
                foot = Lettering(size=11, level="bottom")
                right = Lettering(size=11, align="right", level="bottom")
                words = f"bits per byte of {data.base} \u2192"
                write(axes, words, (1, 0), (0, -38), right, where="axes fraction")
                place = (-_LEFT - column * across + 4, -38)
                write(axes, "\u2191 bits per byte lost", (0, 0), place, foot,
                      where="axes fraction")  # fmt: skip
        return to_svg(figure, canvas, f"Loss of every {data.unit}", describe(rows, data.unit))


def describe(rows: Sequence[VariantRow], unit: str) -> str:
    """Say how many documents or blocks each variant predicts worse, and by how much at most."""
    parts = []
    for row in rows:
        most = max(change for _, change in row.documents)
        share = numerals.percent(worse_share(row), 0)
        parts.append(f"{row.name}: {share} of {len(row.documents)} {unit}s worse, at most by "
                     f"{numerals.significant(max(most, 0.0), 2)} bits per byte")  # fmt: skip
    return "; ".join(parts) + "."


def _scale(axes: Axes, rows: Sequence[VariantRow], knee: float, *, is_first: bool) -> None:
    """One scale for all panels: linear across; up, linear to the margin and then logarithmic."""
    bases = [base for row in rows for base, _ in row.documents]
    changes = [change for row in rows for _, change in row.documents]
    spread = (max(bases) - min(bases)) * 0.06 or 0.1
    axes.set_xlim(min(bases) - spread, max(bases) + spread)
    axes.set_yscale("symlog", linthresh=knee, linscale=0.9)
    high = max(*changes, knee) * 1.5
    axes.set_ylim(min(*changes, -knee) * 1.5, high)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    powers = range(math.floor(math.log10(knee)) + 1, math.ceil(math.log10(high)) + 1)
    ticks = [10.0**power for power in powers if knee * 2 < 10.0**power <= high]
    axes.yaxis.set_major_locator(FixedLocator([-t for t in ticks] + [0.0, *ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    open_frame(axes)
    axes.tick_params(labelsize=11, labelcolor=stand_in("muted"), labelleft=is_first,
                     labelbottom=False)  # fmt: skip
    axes.set_yticks(axes.get_yticks(), [_signed(tick) for tick in axes.get_yticks()])
    axes.axhline(0, color=stand_in("muted"), linewidth=0.8, zorder=1)


def _signed(value: float) -> str:
    sign = "" if value == 0 else "+" if value > 0 else numerals.MINUS
    return sign + numerals.significant(abs(value), 1)


def _margin(axes: Axes, data: ReportData) -> None:
    if data.margin_bits_per_byte is not None:
        axes.axhspan(axes.get_ylim()[0], data.margin_bits_per_byte, color=stand_in("band"),
                     linewidth=0, zorder=0)  # fmt: skip


def _points(axes: Axes, row: VariantRow, colour: str) -> None:
    """Draw all points as one path of dots, which keeps thousands of documents small."""
    places = [place for place in row.documents for _ in range(2)]
    codes = [Path.MOVETO, Path.LINETO] * len(row.documents)
    dots = Path(places, codes)
    dots.should_simplify = False  # a line without length is a dot
    axes.add_artist(
        PathPatch(
            dots, facecolor="none", edgecolor=colour, linewidth=3.2,
            capstyle="round", alpha=0.55, zorder=3, clip_on=False,
            transform=axes.transData,
        )
    )  # fmt: skip
