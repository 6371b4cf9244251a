"""Words inside a picture, placed in pixels beside a place in the data."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from quantale.report.palette import stand_in


@dataclass(frozen=True)
class Lettering:
    """How words look."""

    colour: str = "muted"
    size: float = 12
    """CSS pixels at the picture's own width."""
    align: str = "left"
    """Which end of the words is at the place: "left", "center" or "right"."""
    level: str = "center_baseline"
    """Which height of the words is at the place, in matplotlib's terms."""


PLAIN = Lettering()


def write(
    axes: Axes,
    words: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    style: Lettering = PLAIN,
    *,
    where: Any = "data",
) -> None:
    """Write words `offset` pixels from the place `at`, which is in the coordinates `where`."""
    axes.annotate(
        words,
        at,
        offset,
        xycoords=where,
        textcoords="offset pixels",
        fontsize=style.size,
        color=stand_in(style.colour),
        ha=style.align,
        va=style.level,
        annotation_clip=False,
        zorder=5,
    )
