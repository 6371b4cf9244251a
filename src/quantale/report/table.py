"""The headline table: what each cell says, what it sorts by, and which columns have anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantale.report import numerals
from quantale.report.model import Estimate, Outcome, ReportData, Tuning, VariantRow
from quantale.report.numerals import interval, percent, places_for, signed

_SYMBOLS: dict[Outcome, str] = {"PASS": "\u2713", "FAIL": "\u2717", "CANNOT TELL": "?"}
_WORST: dict[Outcome, int] = {"PASS": 0, "CANNOT TELL": 1, "FAIL": 2}


@dataclass(frozen=True)
class Whisker:
    """A paired interval on a small ruler from minus one to three margins, as 0 to 100."""

    low: float
    high: float
    value: float
    zero: float
    margin: float
    is_beyond: bool
    """The value lies past the ruler's end."""


@dataclass(frozen=True)
class Cell:
    """One cell; `note` is the smaller second line."""

    text: str = ""
    note: str = ""
    sort: float | str = ""
    share: float | None = None
    """0 to 100: length of the bar behind a size."""
    whisker: Whisker | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Column:
    """A heading and how a row fills it; None where the row has nothing."""

    key: str
    heading: str
    unit: str
    fill: Callable[[VariantRow, ReportData], Cell | None]


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    name: str
    is_base: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Columns that have something to say, and the rows in the order given."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def headline_table(data: ReportData) -> Table:
    """Return the table; a column that no row fills is left out."""
    filled = [(column, [column.fill(row, data) for row in data.variants]) for column in COLUMNS]
    kept = [(column, cells) for column, cells in filled if any(cells)]
    lines = [
        Line(row.name, row.name == data.base, tuple(cells[i] or Cell() for _, cells in kept))
        for i, row in enumerate(data.variants)
    ]
    return Table(tuple(column for column, _ in kept), tuple(lines))


def _name(row: VariantRow, data: ReportData) -> Cell:
    parts = ["base"] if row.name == data.base else [row.method]
    if row.bits is not None and row.name != data.base:
        parts.append(f"{row.bits} bits")
    if row.group_size is not None:
        is_number = isinstance(row.group_size, int)
        parts.append(f"group {row.group_size}" if is_number else f"per {row.group_size}")
    return Cell(row.name, " \u00b7 ".join(parts), row.name)


def _size(row: VariantRow, data: ReportData) -> Cell:
    largest = max(other.bytes_on_disk for other in data.variants)
    share = 100 * row.bytes_on_disk / largest if largest else None
    return Cell(numerals.size(row.bytes_on_disk), "", row.bytes_on_disk, share)


def _smaller(row: VariantRow, data: ReportData) -> Cell:
    times = data.base_row.bytes_on_disk / row.bytes_on_disk if row.bytes_on_disk else 0.0
    return Cell(numerals.ratio(data.base_row.bytes_on_disk, row.bytes_on_disk), "", times)


def _bits(row: VariantRow, data: ReportData) -> Cell | None:
    del data
    if row.bits_per_weight is None:
        return None
    everything = row.bits_per_weight_all
    note = f"{numerals.significant(everything, 3)} over all" if everything else ""
    return Cell(numerals.significant(row.bits_per_weight, 3), note, row.bits_per_weight)


def _quality(row: VariantRow, data: ReportData) -> Cell | None:
    del data
    found = row.bits_per_byte
    return None if found is None else Cell(f"{found.value:.4f}", interval(found, 3), found.value)


def _perplexity(row: VariantRow, data: ReportData) -> Cell | None:
    del data
    found = row.perplexity
    if found is None:
        return None
    places = places_for(found, 2, 3)
    return Cell(f"{found.value:.3f}", interval(found, places), found.value)


def _lost(row: VariantRow, data: ReportData) -> Cell | None:
    found = row.delta_bits_per_byte
    if found is None or row.name == data.base:
        return None
    places = places_for(found, 4, 5)
    note = interval(found, places, sign=True)
    whisker = _whisker(found, data.margin_bits_per_byte)
    return Cell(signed(found.value, places), note, found.value, whisker=whisker)


def _accuracy(row: VariantRow, data: ReportData) -> Cell | None:
    del data
    if row.classification is None:
        return None
    found = row.classification.accuracy
    shown = found.points
    return Cell(f"{shown.value:.2f}", interval(shown, 2), found.value)


def _accuracy_change(row: VariantRow, data: ReportData) -> Cell | None:
    if row.classification is None or row.name == data.base:
        return None
    found = row.classification.delta_accuracy
    if found is None:
        return None
    loss = Estimate(-found.value, -found.ends[1], -found.ends[0], found.n)
    shown = found.points
    note = interval(shown, 2, sign=True)
    return Cell(signed(shown.value, 2), note, loss.value, whisker=_whisker(loss, data.margin))


def _divergence(row: VariantRow, data: ReportData) -> Cell | None:
    if row.kl_mean is None or row.name == data.base:
        return None
    return Cell(numerals.significant(row.kl_mean.value, 2), "", row.kl_mean.value)


def _agreement(row: VariantRow, data: ReportData) -> Cell | None:
    if row.top1 is None or row.name == data.base:
        return None
    return Cell(percent(row.top1.value), "", row.top1.value)


def _speed(row: VariantRow, data: ReportData) -> Cell | None:
    del data
    found, tail = row.ms_per_token, row.ms_per_token_p90
    if found is None:
        return None
    note = f"p90 {numerals.significant(tail, 3)}" if tail is not None else ""
    return Cell(numerals.significant(found.value, 3), note, found.value)


def _memory(row: VariantRow, data: ReportData) -> Cell | None:
    del data
    peak, resident = row.peak_memory_bytes, row.bytes_resident
    if peak is None:
        return None
    note = f"{numerals.size(resident)} weights" if resident is not None else ""
    return Cell(numerals.size(peak), note, peak)


def _training(row: VariantRow, data: ReportData) -> Cell | None:
    found = _tuning(row, data)
    if found is None:
        return None
    note = f"{numerals.count(found.tokens)} tokens"
    return Cell(numerals.seconds(found.seconds), note, found.seconds)


def _training_memory(row: VariantRow, data: ReportData) -> Cell | None:
    found = _tuning(row, data)
    if found is None:
        return None
    return Cell(numerals.size(found.peak_memory_bytes), "", found.peak_memory_bytes)


def _trained(row: VariantRow, data: ReportData) -> Cell | None:
    found = _tuning(row, data)
    if found is None:
        return None
    trained, parameters = found.trainable_parameters, found.parameters
    note = f"{numerals.share(trained / parameters)} of {numerals.count(parameters)}"
    return Cell(numerals.count(trained), note, trained)


def _tuning(row: VariantRow, data: ReportData) -> Tuning | None:
    """Return what the training took, where there are trainings to compare with the base's."""
    return row.tuning if any(other.tuning for other in data.others) else None


def _verdict(row: VariantRow, data: ReportData) -> Cell | None:
    if row.verdict is None or row.name == data.base:
        return None
    if row.verdict == "CANNOT TELL" and row.n_to_tell:
        note = f"{numerals.count(row.n_to_tell)} {data.unit}s would"
    else:
        note = _p_value(row.p_holm)
    text = f"{_SYMBOLS[row.verdict]} {row.verdict}"
    return Cell(text, note, _WORST[row.verdict], outcome=row.verdict)


def _p_value(p: float | None) -> str:
    if p is None:
        return ""
    words = "differs" if p < 0.05 else "not told apart"
    value = "p < 0.01" if p < 0.01 else f"p = {p:.2g}"  # the bootstrap resolves no finer
    return f"{words}, {value.replace(' ', numerals.SPACE)}"


def _whisker(loss: Estimate, margin: float | None) -> Whisker | None:
    """Place the interval on the ruler; what lies outside is cut at its ends."""
    if not margin:
        return None

    def at(value: float) -> float:
        return round(min(100.0, max(0.0, 25 + 25 * value / margin)), 2)

    low, high = loss.drawn
    return Whisker(
        at(low), at(high), at(loss.value), at(0), at(margin), is_beyond=loss.value > 3 * margin
    )


COLUMNS: Sequence[Column] = (
    Column("name", "Variant", "", _name),
    Column("size", "On disk", "", _size),
    Column("smaller", "Smaller", "", _smaller),
    Column("bits", "Bits per weight", "quantized", _bits),
    Column("quality", "Bits per byte", "95 % interval", _quality),
    Column("perplexity", "Perplexity", "per token", _perplexity),
    Column("lost", "Lost", "bits per byte, paired", _lost),
    Column("accuracy", "Accuracy", "%, 95 % interval", _accuracy),
    Column("change", "Change", "points, paired", _accuracy_change),
    Column("kl", "KL", "nats per token", _divergence),
    Column("top1", "Same top token", "", _agreement),
    Column("speed", "Decode", "ms per token", _speed),
    Column("memory", "Peak memory", "", _memory),
    Column("verdict", "Verdict", "", _verdict),
    Column("training", "Training", "tokens", _training),
    Column("trained", "Trained", "parameters", _trained),
    Column("training-memory", "Training memory", "peak", _training_memory),
)
