"""The error of every layer: one small map a variant, blocks across, kinds of layer down."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from quantale.report import labels, numerals
from quantale.report.lettering import Lettering, write
from quantale.report.model import ReportData, VariantRow
from quantale.report.palette import heat_step, stand_in
from quantale.report.svg import Canvas, drawing, pixels, to_svg

TITLE = "Relative error of each layer's output"
_HEAD = 44
"""Pixels above a map: its name and the typical error."""

_FOOT = 34
"""Pixels below a map: its block numbers and some air."""


@dataclass(frozen=True)
class Layout:
    """How the maps stand on the canvas, in pixels."""

    columns: int
    gutter: float
    """To the left of all maps: the kinds of layer."""
    pitch: tuple[float, float]
    """From one map to the next, across and down."""
    cell: tuple[float, float]

    def origin(self, index: int) -> tuple[float, float]:
        """Return the top left corner of a map."""
        line, column = divmod(index, self.columns)
        return self.gutter + column * self.pitch[0], line * self.pitch[1] + _HEAD


@dataclass(frozen=True)
class Scale:
    """Logarithmic steps from the smallest to the largest error of the page."""

    low: float
    high: float

    def step(self, error: float) -> int:
        """Return the colour step, 0 to HEAT_STEPS - 1."""
        if error <= self.low or self.high <= self.low:
            return 0
        share = math.log(error / self.low) / math.log(self.high / self.low)
        return heat_step(share)


@dataclass(frozen=True)
class Grid:
    """Where every site sits: rows are kinds of layer, columns are blocks."""

    kinds: tuple[str, ...]
    blocks: int


def shown(data: ReportData) -> tuple[VariantRow, ...]:
    """Return the variants whose layer errors are known."""
    return tuple(row for row in data.variants if row.layer_errors)


def scale_of(rows: Sequence[VariantRow]) -> Scale:
    """Return the scale that all maps share; zero errors fall on its lowest step."""
    errors = [e for row in rows for _, e in row.layer_errors if e > 0 and math.isfinite(e)]
    return Scale(min(errors, default=1e-6), max(errors, default=1e-6))


def place_of(site: str) -> tuple[str, int]:
    """Split "transformer.h.3.mlp.c_fc" into its kind and its block: ("mlp.c_fc", 3)."""
    found = re.search(r"(?:^|\.)(\d+)\.(.+)$", site)
    if found:
        return found.group(2), int(found.group(1))
    return site.removeprefix("transformer.").removeprefix("model."), 0


def grid_of(rows: Sequence[VariantRow]) -> Grid:
    """Return the grid that holds every site of every variant."""
    places = [place_of(site) for row in rows for site, _ in row.layer_errors]
    kinds = dict.fromkeys(kind for kind, _ in places)
    return Grid(tuple(kinds), 1 + max((block for _, block in places), default=0))


def layer_errors(data: ReportData, name: str, width: int) -> str:
    """Return the SVG of all maps; needs at least one variant with layer errors."""
    rows, grid = shown(data), grid_of(shown(data))
    layout, scale = _layout(width, len(rows), grid), scale_of(rows)
    lines = math.ceil(len(rows) / layout.columns)
    canvas = Canvas(name, width, math.ceil(lines * layout.pitch[1]))
    with drawing(canvas) as figure:
        axes = pixels(figure, canvas)
        for index, row in enumerate(rows):
            _map(axes, row, grid, scale, layout, layout.origin(index))
            _label(axes, row, grid, layout, index)
        return to_svg(figure, canvas, TITLE, describe(rows))


def describe(rows: Sequence[VariantRow]) -> str:
    """Return the typical and the worst error of every variant in words."""
    parts = []
    for row in rows:
        site, worst = max(row.layer_errors, key=lambda entry: entry[1])
        typical = numerals.share(median(row))
        parts.append(f"{row.name}: typical {typical}, worst {numerals.share(worst)} in {site}")
    return "; ".join(parts) + "."


def median(row: VariantRow) -> float:
    """Return the median error over a variant's sites."""
    errors = sorted(error for _, error in row.layer_errors)
    middle = len(errors) // 2
    return errors[middle] if len(errors) % 2 else (errors[middle - 1] + errors[middle]) / 2


def _layout(width: int, count: int, grid: Grid) -> Layout:
    longest = max(len(kind) for kind in grid.kinds)
    gutter = min(14 + 6.6 * longest, width * 0.3)
    columns = min(count, 2 if width < 500 else 4)
    across = (width - gutter) / columns
    tall = 22 if len(grid.kinds) <= 6 else 16
    cell = min(40.0, (across - 20) / grid.blocks), float(tall)
    return Layout(columns, gutter, (across, _HEAD + len(grid.kinds) * tall + _FOOT), cell)


def _map(
    axes: Axes,
    row: VariantRow,
    grid: Grid,
    scale: Scale,
    layout: Layout,
    origin: tuple[float, float],
) -> None:
    """Draw all cells of one colour as one path, which keeps a model of 80 blocks small."""
    cells: dict[int, list[tuple[int, int]]] = {}
    for site, error in row.layer_errors:
        kind, block = place_of(site)
        cells.setdefault(scale.step(error), []).append((block, grid.kinds.index(kind)))
    wide, tall = layout.cell
    for step, places in sorted(cells.items()):
        corners = [(origin[0] + x * wide, origin[1] + y * tall) for x, y in sorted(set(places))]
        path = Path.make_compound_path(*(_cell(x, y, layout.cell) for x, y in corners))
        axes.add_artist(
            PathPatch(path, facecolor=stand_in(f"heat-{step}"), edgecolor="none", clip_on=False)
        )


def _cell(x: float, y: float, size: tuple[float, float]) -> Path:
    right = x + size[0] - (1.5 if size[0] > 8 else 0.0)
    bottom = y + size[1] - 1.5
    return Path([(x, y), (right, y), (right, bottom), (x, bottom), (x, y)], closed=True)


def _label(axes: Axes, row: VariantRow, grid: Grid, layout: Layout, index: int) -> None:
    x, y = layout.origin(index)
    name = labels.fitted(row.name, layout.pitch[0] - 10, 12)
    typical = f"typical {numerals.share(median(row))}"
    write(axes, name, (x, y), (0, 20), Lettering("ink", level="baseline"))
    write(axes, typical, (x, y), (0, 6), Lettering(size=11, level="baseline"))
    wide, tall = layout.cell
    foot = y + len(grid.kinds) * tall
    if grid.blocks > 1:
        right = x + wide * grid.blocks
        write(axes, "block 0", (x, foot), (0, -10), Lettering(size=10))
        last = str(grid.blocks - 1)
        write(axes, last, (right, foot), (0, -10), Lettering(size=10, align="right"))
    if index % layout.columns == 0:
        for line, kind in enumerate(grid.kinds):
            words = labels.fitted(kind, layout.gutter - 10, 11)
            write(
                axes,
                words,
                (x, y + (line + 0.46) * tall),
                (-8, 0),
                Lettering(size=11, align="right"),
            )
