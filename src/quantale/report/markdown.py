"""The page's Markdown twin: for a terminal, a pull request, a model card."""

import re
import unicodedata
from collections.abc import Sequence

from quantale.report import sweeps, votes, writing
from quantale.report.facts import flat
from quantale.report.headline import headline
from quantale.report.model import ReportData
from quantale.report.samples import side_by_side
from quantale.report.table import Cell, headline_table

_WITH_NOTE = ("quality", "perplexity", "lost", "training", "trained")


def markdown(data: ReportData) -> str:
    """Return the report as Markdown; text from models and recipes is fenced or escaped."""
    head = headline(data)
    parts = [f"# {escaped(head.title)}", escaped(" ".join(head.deck)), escaped(data.description)]
    parts += [_table(data), *_swept(data)]
    if data.warnings:
        parts += ["## Warnings", "\n".join(f"- {escaped(text)}" for text in data.warnings)]
    if data.command:
        parts += ["## Command", fenced(data.command)]
    for title, source in (("Protocol", data.protocol), ("Machine", data.environment)):
        if source:
            lines = [f"- {escaped(k)}: {escaped(v)}" for k, v in flat(source)]
            parts += [f"## {title}", "\n".join(lines)]
    parts += _written(data)
    parts += _voted(data)
    parts += _samples(data)
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Return text on one line in which no character means markup."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", line).replace("\\<", "&lt;")


def fenced(text: str) -> str:
    """Return text in a fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, first column to the left, its pipes under one another."""
    widths = [max(3, *(width(row[i]) for row in rows)) for i in range(len(rows[0]))]
    rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(_line(row, widths) for row in (rows[0], rule, *rows[1:]))


def width(text: str) -> int:
    """Return the columns a text takes in a terminal: wide characters two, accents none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text + " " * (room - width(text)) if i == 0 else " " * (room - width(text)) + text
        for i, (text, room) in enumerate(zip(row, widths, strict=True))
    ]
    return f"| {' | '.join(cells)} |"


def _table(data: ReportData) -> str:
    table = headline_table(data)
    head = [
        column.heading + (f", {column.unit}" if column.unit else "") for column in table.columns
    ]
    rows = [
        [_cell(cell, column.key) for cell, column in zip(line.cells, table.columns, strict=True)]
        for line in table.lines
    ]
    return aligned([head, *rows])


def _cell(cell: Cell, key: str) -> str:
    note = f" ({cell.note})" if cell.note and key in _WITH_NOTE else ""
    return escaped((cell.text or "\u2013") + note)


def _swept(data: ReportData) -> list[str]:
    parts = []
    for sweep in sweeps.sweeps(data):
        head = ["variant", escaped(sweep.key), "on disk", sweeps.unit(data), "verdict"]
        rows = [
            [
                escaped(entry.variant),
                escaped(entry.value),
                entry.size,
                f"{entry.lost} ({entry.interval})" if entry.interval else entry.lost or "\u2013",
                entry.verdict or "\u2013",
            ]
            for entry in sweeps.table(sweep, data)
        ]
        parts += [f"## {escaped(sweeps.finding(sweep, data))}", aligned([head, *rows])]
    return parts


def _written(data: ReportData) -> list[str]:
    parts = []
    for table in writing.tables(data):
        head = ["metric", *(escaped(writer) for writer in table.writers)]
        rows = [
            [escaped(row.heading), *(_number(entry) for entry in row.entries)] for row in table.rows
        ]
        parts += [f"## {table.kind.capitalize()}", escaped(writing.finding(table))]
        parts += [aligned([head, *rows])]
        parts += ["\n".join(f"- {escaped(note)}" for note in table.notes)]
    return parts


def _number(entry: writing.Entry) -> str:
    note = f" ({entry.note})" if entry.note else ""
    number = escaped((entry.text or "\u2013") + note)
    return f"**{number}**" if entry.differs else number


def _voted(data: ReportData) -> list[str]:
    rows = votes.as_lines(votes.rows(data))
    if not rows:
        return []
    head = ["pair", "votes", *(name.lower() for name in votes.COLUMNS), "preferred"]
    table = aligned([head, *([escaped(cell) for cell in row] for row in rows)])
    return ["## Blind votes", escaped(votes.finding(data)), table]


def _samples(data: ReportData) -> list[str]:
    parts = []
    for prompt in side_by_side(data):
        parts.append(f"## {escaped(prompt.text)}")
        for telling in prompt.tellings:
            parts += [f"**{escaped(telling.name)}**", fenced(telling.text)]
    return parts
