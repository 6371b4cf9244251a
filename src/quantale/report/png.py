"""Pictures that stand by themselves (PNG), for folders and cards that are read without the page."""

import io
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from quantale.report.palette import LIGHT


def to_png(size: tuple[float, float], draw: Callable[[Axes], None]) -> bytes:
    """Draw on one pair of axes; the same drawing gives the same bytes. size: inches."""
    with matplotlib.rc_context({"font.family": ["DejaVu Sans"], "text.parse_math": False}):
        figure = Figure(figsize=size, dpi=120, facecolor=LIGHT["paper"])
        figure.set_layout_engine("constrained")
        draw(figure.add_subplot(facecolor=LIGHT["paper"]))
        sink = io.BytesIO()
        FigureCanvasAgg(figure).print_png(sink, metadata={"Software": None})
    return sink.getvalue()
