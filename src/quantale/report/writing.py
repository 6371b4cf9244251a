"""What models wrote, as tables: a metric a line, a model a column, the corpus first.

A cell that differs from the base is marked; nothing here is added up to one score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantale.core.records import Measurement
from quantale.evaluation.stories.metrics import BY_NAME
from quantale.report import numerals
from quantale.report.model import Estimate, ReportData, Written

CORPUS = "corpus"
_LEVEL = 0.05
_TITLES = {
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "self_bleu": "self-BLEU",
    "seq_rep_4": "seq-rep-4",
    "type_token_ratio": "type-token ratio",
}
_CODE = {
    "perplexity_code": "perplexity of code",
    "perplexity_docstring": "perplexity of docstrings",
    "bits_per_byte_code": "bits per byte of code",
    "bits_per_byte_docstring": "bits per byte of docstrings",
    "parses": "written functions that parse",
    "empty": "written functions without a statement",
}


@dataclass(frozen=True)
class Entry:
    """One number of one writer."""

    text: str = ""
    note: str = ""
    """Its interval."""
    differs: bool = False
    """From the base, paired by prompt, after Holm's correction over the models of the line."""
    estimate: Estimate | None = None
    """As measured, for pictures."""


@dataclass(frozen=True)
class Row:
    """One metric."""

    metric: str
    heading: str
    meaning: str
    unit: str
    entries: tuple[Entry, ...]
    """One for each of the table's writers."""


@dataclass(frozen=True)
class Writing:
    """One table: of stories, or of code."""

    kind: str
    """"stories" or "code"."""
    writers: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    base: str


def tables(data: ReportData) -> list[Writing]:
    """Return a table for every kind of writing that was measured."""
    return [_table(kind, one, data.base) for kind, one in data.written.items() if one.records]


def measurements(data: ReportData) -> list[Measurement]:
    """Return all records of what was written."""
    return [Measurement(**record) for one in data.written.values() for record in one.records]


def finding(table: Writing) -> str:
    """Return the heading of a table: how many numbers moved away from the base."""
    others = len(table.writers) - (CORPUS in table.writers) - 1
    moved = sum(any(entry.differs for entry in row.entries) for row in table.rows)
    if others < 1:
        return f"{table.kind.capitalize()}: {len(table.rows)} numbers, and no single one of them"
    if not moved:
        return f"None of the {len(table.rows)} numbers can be told from {table.base}'s"
    count = f"{numerals.in_words(moved).capitalize()} of {len(table.rows)} numbers"
    verb = "differs" if moved == 1 else "differ"
    return f"{count} {verb} from {table.base} in some variant"


def _table(kind: str, written: Written, base: str) -> Writing:
    records = {(str(r["model"]), str(r["metric"])): r for r in written.records}
    found = list(dict.fromkeys(model for model, _ in records))
    first = [name for name in (CORPUS, base) if name in found]
    writers = [*first, *(name for name in found if name not in first)]
    metrics = dict.fromkeys(metric for _, metric in records)
    rows = [_row(metric, [records.get((w, metric)) for w in writers]) for metric in metrics]
    return Writing(kind, tuple(writers), tuple(rows), _notes(written.summary or {}), base)


def _row(metric: str, records: Sequence[Mapping[str, Any] | None]) -> Row:
    unit = next(str(record["unit"]) for record in records if record is not None)
    heading, meaning = _TITLES.get(metric, metric.replace("_", " ")), ""
    if metric in BY_NAME:
        meaning = BY_NAME[metric].meaning
    elif metric in _CODE:
        heading, meaning = _CODE[metric], ""
    return Row(metric, heading, meaning, unit, tuple(_entry(record) for record in records))


def _entry(record: Mapping[str, Any] | None) -> Entry:
    if record is None:
        return Entry()
    estimate = Estimate(record["value"], record["ci_low"], record["ci_high"], record["n"])
    value = estimate.value
    if record["unit"] == "share":
        text = numerals.percent(value)
        scaled = Estimate(value * 100, _percent(estimate.low), _percent(estimate.high))
        note = numerals.interval(scaled, 1)
    else:
        places = 0 if abs(value) >= 100 else 2
        text = f"{value:,.{places}f}".replace("-", numerals.MINUS)
        note = numerals.interval(estimate, places).replace("-", numerals.MINUS)
    differs = float(record["extra"].get("to_base_p_holm", 1.0)) < _LEVEL
    return Entry(text, note, differs, estimate)


def _percent(end: float | None) -> float | None:
    return None if end is None else 100 * end


def _notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    if "training_data" in summary:
        found.append(
            f"{summary['prompts']} prompts from {summary['data']}; copies and unknown words are "
            f"against {summary['training_documents']:,} documents of {summary['training_data']}."
        )
    classifier = summary.get("classifier")
    if classifier:
        found.append(
            f"Genre: {len(classifier['genres'])} genres, a classifier trained on "
            f"{classifier['stories']:,} stories; always guessing the most frequent one gives "
            f"{numerals.percent(classifier['floor'])}, the corpus column is the ceiling."
        )
    if "with_docstring" in summary:
        found.append(
            f"{summary['documents']} functions from {summary['data']}, "
            f"{summary['with_docstring']} of them with a docstring."
        )
    parts = (summary, summary.get("writing", {}))
    return (*found, *(f"Protocol: {part['protocol']}." for part in parts if "protocol" in part))
