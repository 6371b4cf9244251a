"""Local text files: plain text, JSON lines and CSV.

Plain text is split into documents at `<|endoftext|>`, or at blank lines where that never occurs.
A file that ends in `.raw`, such as wiki.test.raw, is one document, every character as it stands.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import final

from quantale.core.errors import DataError, UsageError
from quantale.data.documents import WHOLE, Document, Documents, Selection, select
from quantale.data.rows import check_column, documents_from

SEPARATOR = "<|endoftext|>"
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_FIELD_LIMIT = 1 << 30

Row = tuple[str, Mapping[str, object]]


@final
class Text:
    """A `.txt`, `.raw`, `.jsonl` or `.csv` file in UTF-8."""

    def read(self, selection: Selection) -> Documents:
        """Read the file; raises DataError with the line of what is wrong."""
        path = Path(selection.name)
        reader = _READERS[path.suffix.lower()]
        text = read_utf8(path)
        if not text.strip():
            raise DataError(f"{path} is empty; it must hold at least one document")
        items = tuple(reader(text, selection.column, path))
        return select(Documents.collect(items, selection.name, WHOLE), selection)


def read_utf8(path: Path) -> str:
    """Read a file as UTF-8 without its byte-order mark; raises DataError with the line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8;"
            f" convert it, for example with `iconv -f latin1 -t utf-8`"
        ) from error


def _read_plain(text: str, column: str | None, path: Path) -> Iterator[Document]:
    if column is not None:
        raise UsageError(f"{path} is plain text and has no columns; remove {'#' + column!r}")
    unified = text.replace("\r\n", "\n")
    pieces = unified.split(SEPARATOR) if SEPARATOR in unified else _BLANK_LINES.split(unified)
    texts = (piece.strip() for piece in pieces)
    for number, document in enumerate(filter(None, texts)):
        yield Document(document, f"{path.name}/{number}")


def _read_whole(text: str, column: str | None, path: Path) -> Iterator[Document]:
    if column is not None:
        raise UsageError(f"{path} is plain text and has no columns; remove {'#' + column!r}")
    yield Document(text, path.name)


def _read_json_lines(text: str, column: str | None, path: Path) -> Iterator[Document]:
    rows = list(_json_rows(text, path))
    wanted = check_column(column, {key for _, row in rows for key in row}, str(path))
    yield from documents_from(rows, wanted, path.name)


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not a JSON object: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected a JSON object, got {type(row).__name__}")
        yield f"{path}:{number}", row


def _read_csv(text: str, column: str | None, path: Path) -> Iterator[Document]:
    with _long_fields():
        rows = _csv_rows(text, path)
        header = next(rows)[1]
        wanted = check_column(column, header, str(path))
        yield from documents_from(rows, wanted, path.name)


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    """Yield the header as a row of itself, then each row by column name."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not valid CSV: {error}") from error
        if row is None:
            return
        if not row:
            continue
        header = header or _header(row, f"{path}:{line}")
        if len(row) != len(header):
            raise DataError(
                f"{path}:{line}: {len(row)} columns where the header has {len(header)};"
                " put texts with commas in quotes"
            )
        yield f"{path}:{line}", dict(zip(header, row, strict=True))


def _header(row: list[str], place: str) -> list[str]:
    if len(set(row)) < len(row):
        raise DataError(f"{place}: two columns have the same name; rename one of {', '.join(row)}")
    return row


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 128 KiB a field while a file is read."""
    before = csv.field_size_limit(_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


_READERS: Mapping[str, Callable[[str, str | None, Path], Iterator[Document]]] = {
    ".txt": _read_plain,
    ".raw": _read_whole,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
}
