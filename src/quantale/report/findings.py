"""What each section of the page found, as its heading."""

from quantale.report import documents as by_document
from quantale.report import heat, numerals, pareto, plots
from quantale.report.headline import margin_text
from quantale.report.model import ReportData, VariantRow

_PLURAL = {"linear": "linear layers", "embedding": "embeddings", "norm": "norms"}


def trade(data: ReportData) -> str:
    """Return the finding of the size-quality picture."""
    judged = [row for row in data.others if row.verdict]
    inside = [row for row in judged if row.verdict == "PASS"]
    if not judged:
        standing = pareto.standings(data, pareto.points(data))
        front = sum(value == "front" for value in standing.values())
        return f"{numerals.in_words(front).capitalize()} of {len(standing)} files are on the front"
    count = f"{numerals.in_words(len(inside)).capitalize()} of {numerals.in_words(len(judged))}"
    stay = "stays" if len(inside) == 1 else "stay"
    return f"{count} variants {stay} inside the {margin_text(data)} margin"


def layers(data: ReportData) -> str:
    """Return the finding of the layer maps: where the largest error sits."""
    error, site, name = max(
        (error, site, row.name) for row in heat.shown(data) for site, error in row.layer_errors
    )
    kind, block = heat.place_of(site)
    where = kind if kind == site else f"{kind} of block {block}"
    worst = numerals.share(error)
    return f"The largest error, {worst}, is in {where} ({name})"


def documents(data: ReportData) -> str:
    """Return the finding of the documents: whom most of them tell apart, and whom they do not."""
    rows = by_document.shown(data)
    shares = [(by_document.worse_share(row), row.name) for row in rows]
    least, most = min(shares), max(shares)
    share = numerals.percent(most[0], 0)
    worst = f"{most[1]} is worse than {data.base} on {share} of {data.unit}s"
    if len(rows) == 1:
        return worst
    return f"{worst}, {least[1]} on {numerals.percent(least[0], 0)}"


def components(data: ReportData) -> str:
    """Return the finding of the ledger: the component whose share grows most from the base on."""
    rows = plots.with_components(data)
    base = next((row for row in rows if row.name == data.base), rows[0])
    growth, part, row = max(
        (
            (_share(row, part) - _share(base, part), part, row)
            for row in rows
            for part in row.components
        ),
        key=lambda entry: entry[0],
    )
    if growth <= 0:
        return f"{numerals.size(sum(base.components.values()))} in {base.name}"
    before, after = (numerals.percent(_share(one, part), 0) for one in (base, row))
    return f"{_PLURAL.get(part, part).capitalize()}: {before} of {base.name}, {after} of {row.name}"


def _share(row: VariantRow, part: str) -> float:
    return row.components.get(part, 0) / sum(row.components.values())


def training(data: ReportData) -> str:
    """Return the finding of the training curve."""
    points = [p for p in data.training if p.split == "validation"] or list(data.training)
    kept = next((p for p in points if p.step == data.best_step), None)
    if kept is not None:
        is_lowest = kept.loss <= min(point.loss for point in points)
        reason = "had the lowest validation loss and was kept" if is_lowest else "was kept"
        return f"Step {numerals.count(kept.step)} {reason}"
    last = points[-1]
    return f"The loss fell from {points[0].loss:.2f} to {last.loss:.2f}"


def numbers(data: ReportData) -> str:
    """Return the finding of the table: the range of sizes."""
    sizes = [row.bytes_on_disk for row in data.variants]
    if len(sizes) == 1:
        return f"{data.base}, with its interval"
    return (
        f"{numerals.in_words(len(sizes)).capitalize()} files from "
        f"{numerals.size(min(sizes))} to {numerals.size(max(sizes))}"
    )
