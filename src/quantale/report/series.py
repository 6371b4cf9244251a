"""Which colour a variant has: one for each method, in order of appearance; the base is ink."""

from quantale.report.model import ReportData
from quantale.report.palette import SERIES


def methods(data: ReportData) -> list[str]:
    """Return the methods of the variants in order of appearance, without the base's own."""
    return list(dict.fromkeys(row.method for row in data.others))


def series_of(data: ReportData) -> dict[str, str]:
    """Return the colour variable of every variant by name."""
    order = methods(data)
    found = {row.name: _series(order.index(row.method)) for row in data.others}
    return {data.base: "series-0", **found}


def legend(data: ReportData) -> list[tuple[str, str]]:
    """Return (method, colour variable) for the legend."""
    return [(name, _series(index)) for index, name in enumerate(methods(data))]


def _series(index: int) -> str:
    return f"series-{1 + index % (SERIES - 1)}"
