"""What a verb says: results on stdout, progress and log on stderr."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from quantale.core.progress import Progress

EXIT_CODES = {"PASS": 0, "FAIL": 10, "CANNOT TELL": 11}
"""Of the process, by verdict."""


@dataclass(frozen=True)
class Terminal:
    """One verb's way to its reader."""

    as_json: bool
    """Print one JSON object instead of text."""
    debug: bool = False
    """Let the log through."""

    def __post_init__(self) -> None:
        if self.debug:
            logging.basicConfig(stream=sys.stderr, level=logging.INFO)

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """Print `data` as one line of JSON, or `text`."""
        typer.echo(json_line(data) if self.as_json else text)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a progress drawn on stderr: bars on a terminal, a line now and then elsewhere."""
        from quantale.cli.progress import Bars, Lines

        shown: Bars | Lines = Bars() if sys.stderr.isatty() else Lines(sys.stderr)
        try:
            yield shown
        finally:
            shown.close()


def json_line(data: Mapping[str, Any]) -> str:
    """Return one line of JSON; NaN and unknown types are bugs and raise."""
    return json.dumps(data, allow_nan=False, default=_plain)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as aligned text under a header; numbers to the right."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row.get(column), int | float | None) for row in rows)
        for column in columns
    ]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(columns), *cells]
    ]
    return "\n".join(lines)


def pairs(data: Mapping[str, Any]) -> str:
    """Return the values of a mapping as aligned "key  value" lines; tables are left out."""
    plain = {key: value for key, value in data.items() if not _is_table(value)}
    width = max(map(len, plain), default=0)
    return "\n".join(f"{key.ljust(width)}  {_cell(value)}" for key, value in plain.items())


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, dict) for item in value)
    return isinstance(value, dict)


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not belong into a result")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        words = all(isinstance(item, str) for item in value)
        return (", " if words else " x ").join(map(str, value)) or "-"
    return str(value)
