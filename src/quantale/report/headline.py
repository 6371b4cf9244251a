"""The first sentence of the page and what follows it, computed from the numbers alone."""

from dataclasses import dataclass

from quantale.report import classes, numerals, pareto
from quantale.report.model import Estimate, ReportData, VariantRow
from quantale.report.numerals import interval, percent, places_for, signed


@dataclass(frozen=True)
class Headline:
    """One sentence, its evidence, and the variant it is about."""

    title: str
    deck: tuple[str, ...]
    subject: VariantRow | None


def headline(data: ReportData) -> Headline:
    """Return the plainest true sentence about the experiment."""
    if not data.others:
        return Headline(_alone(data.base_row), (), None)
    subject, title = _claim(data)
    return Headline(title + ".", tuple(_deck(data, subject)), subject)


def margin_text(data: ReportData) -> str:
    """Return the declared margin as "1 %", of classifiers as "0.5-point"."""
    if data.is_classification:
        return f"{data.margin * 100:g}-point"
    return numerals.share(data.margin)


def speed(row: VariantRow, base: VariantRow) -> str:
    """Return "slower", "faster", "alike" (intervals overlap) or "" where it was not measured."""
    if row.ms_per_token is None or base.ms_per_token is None:
        return ""
    if row.ms_per_token.overlaps(base.ms_per_token):
        return "alike"
    return "slower" if row.ms_per_token.value > base.ms_per_token.value else "faster"


def _alone(base: VariantRow) -> str:
    quality = base.bits_per_byte
    measured = f" and {quality.value:.3f} bits per byte" if quality else ""
    size = numerals.size(base.bytes_on_disk)
    return f"{base.name} takes {size}{measured}; there is nothing to compare it with yet."


def _claim(data: ReportData) -> tuple[VariantRow, str]:
    """Return the variant that the page is about and the sentence without its full stop."""
    judged = [row for row in data.others if row.verdict]
    inside = [row for row in judged if row.verdict == "PASS"]
    if inside:
        subject = min(inside, key=lambda row: (row.bytes_on_disk, row.name))
        return subject, _success(data, subject)
    smallest = min(data.others, key=lambda row: (row.bytes_on_disk, row.name))
    if not judged:
        shape = _shape(smallest, data.base_row)
        return smallest, f"{smallest.name} is {shape}; its quality was not compared"
    closest = min(judged, key=_loss)
    unsure = [row for row in judged if row.verdict == "CANNOT TELL"]
    if unsure:
        documents = _units(data, closest.delta_bits_per_byte)
        closest = min(unsure, key=_loss)
        return closest, f"{documents} cannot tell whether any variant stays inside the " + (
            f"{margin_text(data)} margin"
        )
    return closest, (
        f"No variant stays inside the {margin_text(data)} margin; {closest.name} comes closest"
    )


def _success(data: ReportData, subject: VariantRow) -> str:
    base = data.base_row
    if _same_as_base(data, subject):
        quality = ", and the two cannot be told apart"
    else:
        quality = f" and stays inside the {margin_text(data)} margin"
    pace = {"slower": f", but is slower than {base.name} here", "faster": ", and is faster here"}
    return f"{subject.name} is {_shape(subject, base)}{quality}{pace.get(speed(subject, base), '')}"


def _shape(row: VariantRow, base: VariantRow) -> str:
    if row.bytes_on_disk < base.bytes_on_disk:
        return f"{numerals.ratio(base.bytes_on_disk, row.bytes_on_disk)} smaller than {base.name}"
    return f"no smaller than {base.name}"


def _deck(data: ReportData, subject: VariantRow) -> list[str]:
    base = data.base_row
    found = [_bytes_sentence(subject, base)]
    found += _quality_sentence(data, subject)
    found += _speed_sentence(subject, base)
    found += _tie_sentence(data, subject)
    found += _unsure_sentences(data, subject)
    if data.training_seeds < 3:
        found.append("One checkpoint was measured: this ranks these files, not the methods.")
    return found


def _bytes_sentence(row: VariantRow, base: VariantRow) -> str:
    sizes = f"{numerals.size(row.bytes_on_disk)} on disk"
    saved = base.bytes_on_disk - row.bytes_on_disk
    if saved <= 0:
        return f"It takes {sizes}, {base.name} takes {numerals.size(base.bytes_on_disk)}."
    return (
        f"It takes {sizes} instead of {numerals.size(base.bytes_on_disk)}: "
        f"{numerals.size(saved)} ({percent(saved / base.bytes_on_disk, 0)}) saved."
    )


def _quality_sentence(data: ReportData, row: VariantRow) -> list[str]:
    if row.classification is not None:
        return [classes.change_sentence(data, row)]
    loss, allowed = row.delta_bits_per_byte, data.margin_bits_per_byte
    if loss is None:
        return []
    on = f"{numerals.count(loss.n)} {data.unit}s" if loss.n else f"these {data.unit}s"
    text = f"On {on} it {_change(loss)}"
    if allowed is not None:
        text += f"; the margin allows {allowed:.{places_for(loss, 3)}f}"
    return [text + "."]


def _change(loss: Estimate) -> str:
    """Return "loses 0.0031 bits per byte (...)", or gains, or a difference when it may be zero."""
    places = places_for(loss, 3)
    low, high = loss.ends
    spread = f"paired, 95{numerals.SPACE}% interval"
    if low > 0 or high < 0:
        ends = sorted((abs(low), abs(high)))
        size = Estimate(abs(loss.value), ends[0], ends[1])
        between = f" ({spread} {interval(size, places)})" if loss.has_interval else ""
        return f"{'loses' if low > 0 else 'gains'} {size.value:.{places}f} bits per byte{between}"
    between = f" ({spread} {interval(loss, places, sign=True)})" if loss.has_interval else ""
    return f"differs by {signed(loss.value, places)} bits per byte{between}"


def _speed_sentence(row: VariantRow, base: VariantRow) -> list[str]:
    pace = speed(row, base)
    if not pace or row.ms_per_token is None or base.ms_per_token is None:
        return []
    if pace == "alike":
        return [f"Its speed and that of {base.name} cannot be told apart here."]
    own, other = row.ms_per_token.value, base.ms_per_token.value
    return [
        f"It is {pace} than {base.name} here: {numerals.milliseconds(own)} a token against "
        f"{numerals.milliseconds(other)}."
    ]


def _tie_sentence(data: ReportData, subject: VariantRow) -> list[str]:
    found = pareto.points(data)
    mine = [point for point in found if point.row is subject]
    tied = [
        p.row.name
        for p in found
        if mine and p is not mine[0] and p.row.verdict == "PASS" and pareto.is_tie(data, p, mine[0])
    ]
    if not tied:
        return []
    return [f"Its quality cannot be told apart from that of {numerals.listed(tied)}."]


def _unsure_sentences(data: ReportData, subject: VariantRow) -> list[str]:
    found = []
    for row in data.others:
        if row.verdict == "CANNOT TELL":
            name = "it" if row is subject else row.name
            more = f"; about {numerals.count(row.n_to_tell)} would" if row.n_to_tell else ""
            found.append(f"For {name} these {data.unit}s cannot tell{more}.")
    return found


def _same_as_base(data: ReportData, row: VariantRow) -> bool:
    own = row.classification
    if own is not None and own.delta_accuracy is not None:
        low, high = own.delta_accuracy.ends
        return low <= 0.0 <= high
    found = {point.row.name: point for point in pareto.points(data)}
    if row.name not in found or data.base not in found:
        return False
    return pareto.is_tie(data, found[data.base], found[row.name])


def _units(data: ReportData, estimate: Estimate | None) -> str:
    if estimate is None or not estimate.n:
        return f"These {data.unit}s"
    return f"These {numerals.count(estimate.n)} {data.unit}s"


def _loss(row: VariantRow) -> float:
    if row.classification and row.classification.delta_accuracy:
        return -row.classification.delta_accuracy.value
    return row.delta_bits_per_byte.value if row.delta_bits_per_byte else float("inf")
