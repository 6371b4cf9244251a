"""The pictures of the page, each in a wide and a narrow version; CSS shows the one that fits."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from quantale.report import documents, heat, labels, numerals, pareto, scatter
from quantale.report.lettering import Lettering, write
from quantale.report.model import ReportData, TrainPoint, VariantRow
from quantale.report.palette import COMPONENTS, stand_in
from quantale.report.svg import Canvas, drawing, open_frame, pixels, to_svg

WIDE, NARROW = 820, 350


def trade(data: ReportData) -> dict[str, str]:
    """Cost against loss by name of the view; without views that show fewer than two variants."""
    found = {}
    for index, view in enumerate(pareto.VIEWS):
        if len(pareto.points(data, view)) >= 2:
            sizes = Canvas(f"trade{index}-w", WIDE, 500), Canvas(f"trade{index}-n", NARROW, 430)
            found[view.name] = "".join(scatter.trade(data, canvas, view) for canvas in sizes)
    return found


def by_document(data: ReportData) -> str:
    """Loss of every document; empty when none was recorded."""
    if not documents.shown(data):
        return ""
    wide = documents.scatter(data, "documents-w", WIDE)
    return wide + documents.scatter(data, "documents-n", NARROW)


def layer_errors(data: ReportData) -> str:
    """Error of each layer; empty when none was recorded."""
    if not heat.shown(data):
        return ""
    return heat.layer_errors(data, "layers-w", WIDE) + heat.layer_errors(data, "layers-n", NARROW)


def components(data: ReportData) -> str:
    """Bytes by component; empty when no ledger was given."""
    rows = with_components(data)
    if not rows:
        return ""
    return _components(rows, "bytes-w", WIDE) + _components(rows, "bytes-n", NARROW)


def training(data: ReportData) -> str:
    """Loss by step; empty when nothing was trained."""
    if len(data.training) < 2:
        return ""
    wide, narrow = Canvas("training-w", WIDE, 320), Canvas("training-n", NARROW, 300)
    return _training(data, wide) + _training(data, narrow)


def with_components(data: ReportData) -> list[VariantRow]:
    """Return the variants that have a ledger, the largest first."""
    rows = [row for row in data.variants if sum(row.components.values()) > 0]
    return sorted(rows, key=lambda row: -sum(row.components.values()))


def _components(rows: Sequence[VariantRow], name: str, width: int) -> str:
    """Draw one bar a variant, its name to the left or, on a phone, above."""
    above = width < 500
    pitch = 44 if above else 32
    canvas = Canvas(name, width, pitch * len(rows) + 8)
    longest = max(len(row.name) for row in rows)
    left = 0.0 if above else min(20 + 7.4 * longest, width / 3)
    scale = (width - left - 76) / sum(rows[0].components.values())
    with drawing(canvas) as figure:
        axes = pixels(figure, canvas)
        for index, row in enumerate(rows):
            middle = index * pitch + (31 if above else 20)
            _bar(axes, row, (left, middle), scale)
            if above:
                words = labels.fitted(row.name, width, 12)
                write(axes, words, (0, middle - 13), (0, 0), Lettering("ink", level="bottom"))
            else:
                words = labels.fitted(row.name, left - 12, 12)
                write(axes, words, (left, middle), (-12, 0), Lettering("ink", align="right"))
        return to_svg(figure, canvas, "Bytes on disk by component", _components_in_words(rows))


def _bar(axes: Axes, row: VariantRow, start: tuple[float, float], scale: float) -> None:
    x, middle = start
    for component in COMPONENTS:
        width = row.components.get(component, 0) * scale
        if width > 0:
            axes.add_artist(
                Rectangle((x, middle - 9), width, 18, facecolor=stand_in(component),
                          edgecolor=stand_in("paper"), linewidth=0.8)
            )  # fmt: skip
        x += width
    write(axes, numerals.size(sum(row.components.values())), (x, middle), (7, 0))


def _components_in_words(rows: Sequence[VariantRow]) -> str:
    return "; ".join(
        f"{row.name}: "
        + ", ".join(f"{k} {numerals.size(v)}" for k in COMPONENTS if (v := row.components.get(k)))
        for row in rows
    )


def _training(data: ReportData, canvas: Canvas) -> str:
    train = [point for point in data.training if point.split == "train"]
    validation = [point for point in data.training if point.split == "validation"]
    with drawing(canvas) as figure:
        left, bottom = 40 / canvas.width, 46 / canvas.height
        box = (left, bottom, 1 - left - 12 / canvas.width, 1 - bottom - 34 / canvas.height)
        axes = figure.add_axes(box)
        _curve(axes, train, "muted", 1.2)
        _curve(axes, validation, "series-2", 2.4)
        _loss_frame(axes)
        _best(axes, data, validation)
        return to_svg(figure, canvas, "Training and validation loss", _training_in_words(data))


def _curve(axes: Axes, points: Sequence[TrainPoint], colour: str, width: float) -> None:
    axes.plot(
        [point.step for point in points], [point.loss for point in points],
        color=stand_in(colour), linewidth=width, solid_joinstyle="round", zorder=3,
    )  # fmt: skip


def _loss_frame(axes: Axes) -> None:
    open_frame(axes)
    axes.tick_params(labelsize=12, labelcolor=stand_in("muted"), pad=6)
    axes.grid(axis="y", color=stand_in("faint"), linewidth=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.01)
    above, below = Lettering(level="bottom"), Lettering(level="bottom", align="right")
    write(axes, "loss, nats per token", (0, 1), (-34, 14), above, where="axes fraction")
    write(axes, "training step \u2192", (1, 0), (0, -40), below, where="axes fraction")


def _best(axes: Axes, data: ReportData, validation: Sequence[TrainPoint]) -> None:
    kept = next((point for point in validation if point.step == data.best_step), None)
    if kept is None:
        return
    axes.plot(
        kept.step, kept.loss, "o", markersize=9, color=stand_in("series-2"),
        markeredgecolor=stand_in("paper"), markeredgewidth=2, zorder=5, clip_on=False,
    )  # fmt: skip
    style = Lettering("ink", 13, "right")
    write(axes, f"kept: {kept.loss:.3f}", (kept.step, kept.loss), (0, 16), style)


def _training_in_words(data: ReportData) -> str:
    parts = []
    for split in ("train", "validation"):
        points = [point for point in data.training if point.split == split]
        if points:
            parts.append(
                f"{split} loss from {points[0].loss:.3f} at step {points[0].step} "
                f"to {points[-1].loss:.3f} at step {points[-1].step}"
            )
    return "; ".join(parts) + "."
