"""Size against loss as a picture by itself (PNG), for pages that are read beside the model."""

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from quantale.report import pareto
from quantale.report.model import ReportData
from quantale.report.palette import LIGHT
from quantale.report.pareto import DISK, Point
from quantale.report.png import to_png
from quantale.report.series import series_of

NAME = "size-and-quality.png"
_LINEAR = 0.01
"""Bits per byte from which the axis is logarithmic, where no margin is known."""
_ABOVE, _BELOW = (6, 5), (6, -12)
"""Where names stand, in points: below where another file of that size is worse."""


def trade_png(data: ReportData) -> bytes | None:
    """Return the picture, intervals and margin in it; None where fewer than two points are known.

    The same numbers give the same bytes.
    """
    found = pareto.points(data, DISK)
    if len(found) < 2:
        return None
    colours = series_of(data)

    def draw(axes: Axes) -> None:
        _frame(axes, data)
        for point in found:
            higher = (one for one in found if one.loss.value > point.loss.value)
            beside = _BELOW if any(one.size == point.size for one in higher) else _ABOVE
            _mark(axes, point, LIGHT[colours[point.row.name]], beside)

    return to_png((7.2, 4.4), draw)


def _frame(axes: Axes, data: ReportData) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("symlog", linthresh=data.margin_bits_per_byte or _LINEAR)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.axhline(0, color=LIGHT["faint"], linewidth=1)
    if data.margin_bits_per_byte is not None:
        axes.axhline(data.margin_bits_per_byte, color=LIGHT["pass"], linewidth=1, linestyle="--")
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.tick_params(colors=LIGHT["ink"], labelsize=9)
    axes.margins(0.12)
    axes.set(xlabel="whole files, MB", ylabel=f"bits per byte lost against {data.base}")


def _mark(axes: Axes, point: Point, colour: str, beside: tuple[int, int]) -> None:
    loss, size = point.loss, point.size / 1e6
    if loss.low is not None and loss.high is not None and loss.has_interval:
        axes.plot([size, size], [loss.low, loss.high], color=colour, linewidth=2)
    axes.plot([size], [loss.value], "o", color=colour, markersize=6)
    axes.annotate(
        point.row.name, (size, loss.value), beside, textcoords="offset points",
        color=LIGHT["ink"], fontsize=9,
    )  # fmt: skip
