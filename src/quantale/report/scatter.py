"""The picture of the trade: a cost against the loss, with intervals and ties."""

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from quantale.report import labels, numerals, pareto
from quantale.report.lettering import Lettering, write
from quantale.report.model import ReportData
from quantale.report.palette import stand_in
from quantale.report.pareto import DISK, Point, Standing, View
from quantale.report.series import series_of
from quantale.report.svg import Canvas, drawing, open_frame, to_svg


def trade(data: ReportData, canvas: Canvas, view: View = DISK) -> str:
    """Return the SVG; needs at least two points (`pareto.points`)."""
    found = pareto.points(data, view)
    standing = pareto.standings(data, found)
    with drawing(canvas) as figure:
        left = 52 / canvas.width
        figure_box = (
            left,
            46 / canvas.height,
            1 - left - 14 / canvas.width,
            1 - 82 / canvas.height,
        )
        axes = figure.add_axes(figure_box)
        knee = _knee(data, found, view)
        _scale(axes, found, knee)
        _frame(axes, data, view)
        if view.is_judged:
            _margin(axes, data)
        _ties(axes, data, found)
        _front(axes, found, standing)
        _points(axes, data, found, standing)
        margin = data.margin_bits_per_byte if view.is_judged else None
        _names(axes, margin, found, standing, 12.0 if canvas.is_narrow else 13.0)
        title = f"{view.name.capitalize()} against loss of quality"
        return to_svg(figure, canvas, title, describe(data, found, standing, view))


def describe(
    data: ReportData, found: Sequence[Point], standing: dict[str, Standing], view: View = DISK
) -> str:
    """Return what the picture shows, for those who cannot see it."""
    unit = "bits per byte" if view.is_judged else "nats per token"
    parts = [
        f"{point.row.name}: {view.written(point.size)}, "
        f"{numerals.signed(point.loss.value, 4)} {unit}, {_words(standing[point.row.name])}"
        for point in found
    ]
    return f"Against {data.base}. " + "; ".join(parts) + "."


def _words(standing: Standing) -> str:
    return {"front": "on the front", "tied": "tied with the front", "behind": "behind"}[standing]


def _scale(axes: Axes, found: Sequence[Point], knee: float) -> None:
    """Logarithmic in the cost; linear around zero loss and logarithmic beyond the knee."""
    sizes = [point.size for point in found]
    axes.set_xscale("log")
    spread = max(max(sizes) / min(sizes), 1.5) ** 0.09
    axes.set_xlim(min(sizes) / spread, max(sizes) * spread)
    low = min(point.loss.drawn[0] for point in found)
    high = max(point.loss.drawn[1] for point in found)
    axes.set_yscale("symlog", linthresh=knee, linscale=0.9)
    axes.set_ylim(min(low * 1.3, -0.45 * knee), max(high * 1.35, 1.6 * knee))
    axes.xaxis.set_major_locator(FixedLocator(_round_costs(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator(_round_losses(*axes.get_ylim(), knee)))
    axes.yaxis.set_minor_locator(NullLocator())


def _knee(data: ReportData, found: Sequence[Point], view: View) -> float:
    """Where the axis turns logarithmic: at the margin, else at a tenth of the largest loss."""
    high = max(point.loss.drawn[1] for point in found)
    return (view.is_judged and data.margin_bits_per_byte) or max(high / 10, 1e-4)


def _round_costs(low: float, high: float) -> list[float]:
    if high / low < 2.5:
        return [float(v) for v in MaxNLocator(4).tick_values(low, high) if low <= v <= high]
    steps: tuple[float, ...] = (1, 2, 5) if high / low < 60 else (1,)
    if high / low < 20:
        steps = (1, 2, 3, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 7)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [v for p in powers for s in steps if low <= (v := s * 10.0**p) <= high]


def _round_losses(low: float, high: float, knee: float) -> list[float]:
    powers = range(math.floor(math.log10(knee)) - 1, math.ceil(math.log10(max(high, knee * 2))) + 1)
    grid = [v for p in powers for s in (1, 2, 5) if _is_apart(v := s * 10.0**p, knee)]
    found = [0.0, *(v for v in grid if v <= high), *(-v for v in grid if -v >= low)]
    return sorted(found)


def _is_apart(value: float, knee: float) -> bool:
    """Say whether a tick is far enough from zero and from the margin's line to be read."""
    return value >= knee * 0.3 and not 0.75 * knee < value < 1.3 * knee


def _frame(axes: Axes, data: ReportData, view: View) -> None:
    muted = stand_in("muted")
    open_frame(axes)
    axes.tick_params(labelsize=12, labelcolor=muted, pad=6)
    axes.set_xticklabels([view.tick(tick) for tick in axes.get_xticks()])
    axes.set_yticklabels([_loss_label(tick) for tick in axes.get_yticks()])
    axes.grid(axis="y", color=stand_in("faint"), linewidth=0.8, zorder=0)
    worse = f"\u2191 {view.up} against {data.base}"
    above, below = Lettering(level="bottom"), Lettering(level="bottom", align="right")
    write(axes, worse, (0, 1), (-44, 18), above, where="axes fraction")
    write(axes, f"{view.across} \u2192", (1, 0), (0, -40), below, where="axes fraction")


def _loss_label(value: float) -> str:
    text = numerals.significant(abs(value), 1)
    return "0" if value == 0 else ("+" if value > 0 else numerals.MINUS) + text


def _margin(axes: Axes, data: ReportData) -> None:
    margin = data.margin_bits_per_byte
    if margin is None:
        return
    axes.axhspan(axes.get_ylim()[0], margin, color=stand_in("band"), linewidth=0, zorder=0)
    axes.axhline(margin, color=stand_in("pass"), linewidth=1, zorder=1)
    words = f"margin: +{numerals.share(data.margin)} perplexity"
    style = Lettering("pass", align="right", level="bottom")
    write(axes, words, (1, margin), (-4, 5), style, where=axes.get_yaxis_transform())


def _ties(axes: Axes, data: ReportData, found: Sequence[Point]) -> None:
    for first, second in pareto.tied_neighbours(data, found):
        axes.plot(
            [first.size, second.size], [first.loss.value, second.loss.value],
            color=stand_in("tie"), linewidth=18, solid_capstyle="round", zorder=1.5,
        )  # fmt: skip


def _front(axes: Axes, found: Sequence[Point], standing: dict[str, Standing]) -> None:
    front = [point for point in found if standing[point.row.name] == "front"]
    axes.step(
        [point.size for point in front], [point.loss.value for point in front], where="post",
        color=stand_in("muted"), linewidth=1.1, zorder=2,
    )  # fmt: skip


def _points(
    axes: Axes, data: ReportData, found: Sequence[Point], standing: dict[str, Standing]
) -> None:
    colours = series_of(data)
    for point in found:
        colour = stand_in(colours[point.row.name])
        on_front = standing[point.row.name] == "front"
        axes.plot([point.size] * 2, point.loss.drawn, color=colour, linewidth=1.8, zorder=3)
        axes.plot(
            point.size, point.loss.value, marker="D" if point.is_base else "o", markersize=9,
            color=colour,
            markerfacecolor=colour if on_front else stand_in("paper"), markeredgecolor=colour,
            markeredgewidth=2, zorder=4, clip_on=False,
        )  # fmt: skip


def _names(
    axes: Axes,
    margin: float | None,
    found: Sequence[Point],
    standing: dict[str, Standing],
    font: float,
) -> None:
    """Write the names, those on the front first, so that they get the best places."""
    order = sorted(found, key=lambda point: standing[point.row.name] != "front")
    area = axes.get_window_extent()
    room = labels.Box(area.x0 - 40, area.y0, area.x1 + 10, area.y1 + 10)
    solid = [*(_solid(axes, point) for point in found), *_steps(axes, found, standing)]
    if margin is not None:
        line = _pixels(axes, found[0].size, margin)[1]
        solid.append(labels.Box(area.x1 - 160, line, area.x1, line + 22))
    most = area.width * 0.45
    anchors = [
        (labels.fitted(p.row.name, most, font), *_pixels(axes, p.size, p.loss.value)) for p in order
    ]
    leader = {"arrowstyle": "-", "color": stand_in("muted"), "linewidth": 0.7, "shrinkB": 6}
    placed = labels.place(anchors, solid, room, font)
    for point, anchor, label in zip(order, anchors, placed, strict=True):
        axes.annotate(
            label.text, anchor[1:], (label.x, label.y), "figure pixels",
            textcoords="figure pixels", fontsize=font, ha=label.align, va="center_baseline",
            color=stand_in("ink" if standing[point.row.name] == "front" else "muted"), zorder=5,
            arrowprops=leader if label.far else None,
        )  # fmt: skip


def _pixels(axes: Axes, size: float, loss: float) -> tuple[float, float]:
    x, y = axes.transData.transform((size, loss))
    return float(x), float(y)


def _solid(axes: Axes, point: Point) -> labels.Box:
    """The room a point and its interval take, in pixels."""
    low, high = point.loss.drawn
    x, bottom = _pixels(axes, point.size, low)
    return labels.Box(x - 7, bottom - 7, x + 7, _pixels(axes, point.size, high)[1] + 7)


def _steps(axes: Axes, found: Sequence[Point], standing: dict[str, Standing]) -> list[labels.Box]:
    """The room the front's line takes, in pixels."""
    front = [point for point in found if standing[point.row.name] == "front"]
    boxes = []
    for here, there in pairwise([_pixels(axes, p.size, p.loss.value) for p in front]):
        (x, y), (next_x, next_y) = here, there
        boxes.append(labels.Box(x, y - 2, next_x, y + 2))
        boxes.append(labels.Box(next_x - 2, min(y, next_y), next_x + 2, max(y, next_y)))
    return boxes
