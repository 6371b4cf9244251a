"""Sweeps: what a setting does, as a picture and a table; one of each for every setting.

The picture has the loss above and the bytes below, over the values of the setting; a line is a
method. Values stand side by side at equal distances, numbers first and in their order: a word such
as "row" has no place between numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from quantale.report import numerals
from quantale.report.lettering import Lettering, write
from quantale.report.model import Estimate, ReportData, SweepLine, VariantRow
from quantale.report.palette import SERIES, stand_in
from quantale.report.svg import Canvas, drawing, open_frame, to_svg

_SIZES = (("w", 820, 470), ("n", 350, 430))
_SPREAD = 0.08
"""Between the lines at one value, in distances of values, so that intervals do not hide."""


@dataclass(frozen=True)
class Entry:
    """One variant in the table of a sweep."""

    value: str
    variant: str
    size: str
    lost: str
    interval: str
    verdict: str


@dataclass(frozen=True)
class Sweep:
    """All lines over the values of one setting."""

    key: str
    values: tuple[str, ...]
    lines: tuple[SweepLine, ...]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """The name and the colour variable of every line."""
        return [(line.name, _colour(index)) for index, line in enumerate(self.lines)]


def sweeps(data: ReportData) -> list[Sweep]:
    """Return the sweeps in their order, lines over one setting together."""
    found = []
    for key in dict.fromkeys(line.key for line in data.sweeps):
        lines = tuple(line for line in data.sweeps if line.key == key)
        values = dict.fromkeys(point.value for line in lines for point in line.points)
        found.append(Sweep(key, tuple(sorted(values, key=_place)), lines))
    return found


def finding(sweep: Sweep, data: ReportData) -> str:
    """Return what the sweep found: the value of the least loss, line by line."""
    best = []
    for line in sweep.lines:
        losses = [(e.value, p.value) for p in line.points if (e := loss(data, p.variant))]
        if losses:
            best.append(f"{line.name} at {min(losses)[1]}")
    setting = title(sweep)
    if not best:
        return f"{setting} over {numerals.in_words(len(sweep.values))} values"
    return f"{setting}: the least is lost by {numerals.listed(best)}"


def title(sweep: Sweep) -> str:
    """Return the setting in words: "Group size"."""
    return sweep.key.rpartition(".")[2].replace("_", " ").capitalize()


def unit(data: ReportData) -> str:
    """Return what a loss is counted in."""
    return "points of accuracy lost" if data.is_classification else "bits per byte lost"


def loss(data: ReportData, name: str) -> Estimate | None:
    """Return how much worse than the base a variant is, None where that was not measured."""
    row = _rows(data)[name]
    if row.classification is None:
        return row.delta_bits_per_byte
    change = row.classification.delta_accuracy
    if change is None:
        return None
    low, high = change.ends
    return Estimate(-change.value, -high, -low, change.n).points


def table(sweep: Sweep, data: ReportData) -> list[Entry]:
    """Return the rows, line by line."""
    return [
        _entry(data, value, _rows(data)[variant])
        for line in sweep.lines
        for value, variant in sorted(
            ((p.value, p.variant) for p in line.points), key=lambda pair: _place(pair[0])
        )
    ]


def picture(sweep: Sweep, data: ReportData, number: int) -> str:
    """Return the picture, wide and narrow; `number` keeps its identifiers apart from others."""
    return "".join(
        _drawn(sweep, data, Canvas(f"sweep{number}-{name}", width, height))
        for name, width, height in _SIZES
    )


def _rows(data: ReportData) -> dict[str, VariantRow]:
    return {row.name: row for row in data.variants}


def _place(value: str) -> tuple[int, float, str]:
    """Order numbers as numbers, and words behind them."""
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def _colour(index: int) -> str:
    return f"series-{1 + index % (SERIES - 1)}"


def _entry(data: ReportData, value: str, row: VariantRow) -> Entry:
    found, size = loss(data, row.name), numerals.size(row.bytes_on_disk)
    verdict = row.verdict or ""
    if found is None:
        return Entry(value, row.name, size, "", "", verdict)
    places = numerals.places_for(found, 2 if data.is_classification else 4)
    between = numerals.interval(found, places, sign=True)
    return Entry(value, row.name, size, numerals.signed(found.value, places), between, verdict)


def _drawn(sweep: Sweep, data: ReportData, canvas: Canvas) -> str:
    left, wide = 60 / canvas.width, 1 - 76 / canvas.width
    rest = canvas.height - 34 - 46 - 46
    with drawing(canvas) as figure:
        below = figure.add_axes((left, 46 / canvas.height, wide, 0.35 * rest / canvas.height))
        start = (46 + 0.35 * rest + 46) / canvas.height
        above = figure.add_axes((left, start, wide, 0.65 * rest / canvas.height))
        for axes in (above, below):
            _frame(axes, sweep)
        for index, line in enumerate(sweep.lines):
            offset = _SPREAD * (index - (len(sweep.lines) - 1) / 2)
            _losses(above, sweep, line, data, (offset, _colour(index)))
            _bytes(below, sweep, line, data, (offset, _colour(index)))
        above.set_xticklabels([])
        below.set_ylim(0, below.get_ylim()[1] * 1.05)
        below.yaxis.set_major_formatter(FuncFormatter(lambda v, _: numerals.round_size(v)))
        _words(above, f"\u2191 {unit(data)}, against {data.base}")
        _words(below, "whole files on disk")
        style = Lettering(level="bottom", align="right")
        write(
            below, f"{title(sweep).lower()} \u2192", (1, 0), (0, -40), style, where="axes fraction"
        )
        return to_svg(figure, canvas, f"Sweep over {sweep.key}", _described(sweep, data))


def _frame(axes: Axes, sweep: Sweep) -> None:
    open_frame(axes)
    axes.tick_params(labelsize=12, labelcolor=stand_in("muted"), pad=6)
    axes.grid(axis="y", color=stand_in("faint"), linewidth=0.8, zorder=0)
    axes.set_xlim(-0.4, len(sweep.values) - 0.6)
    axes.set_xticks(range(len(sweep.values)), sweep.values)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _words(axes: Axes, words: str) -> None:
    write(axes, words, (0, 1), (-54, 14), Lettering(level="bottom"), where="axes fraction")


def _losses(
    axes: Axes, sweep: Sweep, line: SweepLine, data: ReportData, look: tuple[float, str]
) -> None:
    measured = [(p, e) for p in line.points if (e := loss(data, p.variant)) is not None]
    found = [(sweep.values.index(p.value) + look[0], e) for p, e in measured]
    found.sort(key=lambda pair: pair[0])
    for x, estimate in found:
        axes.plot([x, x], estimate.drawn, color=stand_in(look[1]), linewidth=1.8, zorder=3)
    _joined(axes, [x for x, _ in found], [e.value for _, e in found], look[1])


def _bytes(
    axes: Axes, sweep: Sweep, line: SweepLine, data: ReportData, look: tuple[float, str]
) -> None:
    found = sorted(
        (sweep.values.index(p.value) + look[0], _rows(data)[p.variant].bytes_on_disk)
        for p in line.points
    )
    _joined(axes, [x for x, _ in found], [float(size) for _, size in found], look[1])


def _joined(axes: Axes, across: Sequence[float], up: Sequence[float], colour: str) -> None:
    axes.plot(
        across, up, marker="o", markersize=7, linewidth=1.4, color=stand_in(colour),
        markeredgecolor=stand_in("paper"), markeredgewidth=1.5, zorder=4, clip_on=False,
    )  # fmt: skip


def _described(sweep: Sweep, data: ReportData) -> str:
    parts = [
        f"{entry.variant} ({entry.value}): {entry.size}"
        + (f", {entry.lost} {unit(data)}" if entry.lost else "")
        for entry in table(sweep, data)
    ]
    return "; ".join(parts) + "."
