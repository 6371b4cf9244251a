"""From a matplotlib figure to an SVG element that belongs to the page.

Text stays text, colours become CSS variables, identifiers get the picture's name so that several
pictures live in one document, and nothing that names another host remains.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from quantale.report import palette

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "quantale",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Canvas:
    """The room a picture has, in CSS pixels."""

    name: str
    """Prefix of every identifier inside."""
    width: int
    height: int

    @property
    def is_narrow(self) -> bool:
        """Say whether this is the version for phones."""
        return self.width < 500


@contextmanager
def drawing(canvas: Canvas) -> Iterator[Figure]:
    """Hand out an empty figure of the canvas's size, with the house style in force.

    A character that matplotlib's own font lacks is no loss: the page's font draws the text.
    """
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield Figure(figsize=(canvas.width / 72, canvas.height / 72), dpi=72, facecolor="none")


def open_frame(axes: Axes) -> None:
    """Leave nothing of the axes' frame but its lower line, and no ticks."""
    axes.patch.set_visible(False)
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)
    axes.spines["bottom"].set_color(palette.stand_in("faint"))
    axes.tick_params(length=0)


def pixels(figure: Figure, canvas: Canvas) -> Axes:
    """Return bare axes over the whole canvas, in pixels from its top left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, canvas.width)
    axes.set_ylim(canvas.height, 0)
    return axes


def to_svg(figure: Figure, canvas: Canvas, title: str, description: str) -> str:
    """Return the figure as one inline `<svg>` element; call inside `drawing`."""
    sink = io.StringIO()
    FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None})
    inner = sink.getvalue()
    body = inner[inner.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    known = palette.stand_ins()
    body = re.sub(r"<[^<>]+>", lambda tag: _belonging(tag.group(), canvas.name, known), body)
    label = f"{canvas.name}-title {canvas.name}-desc"
    return (
        f'<svg class="{"narrow" if canvas.is_narrow else "wide"}" role="img"'
        f' viewBox="0 0 {canvas.width} {canvas.height}" aria-labelledby="{label}">'
        f'<title id="{canvas.name}-title">{escape(title)}</title>'
        f'<desc id="{canvas.name}-desc">{escape(description)}</desc>'
        f"{body.strip()}</svg>"
    )


def _belonging(tag: str, name: str, known: Mapping[str, str]) -> str:
    """Return one tag with theme colours, own identifiers and the page's typeface."""
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda hit: known.get(hit.group(), hit.group()), tag)
    tag = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', tag)
    tag = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r"font-family: [^;\"]+;? ?", "", tag)
    return re.sub(r' transform="rotate\(-0 [^)]*\)"', "", tag)
