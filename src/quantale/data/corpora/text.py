"""Local text files: plain text, JSON lines and CSV as sheets export it.

Plain text is split into documents at `<|endoftext|>`, or at blank lines where that never occurs.
A file that ends in `.raw`, such as wiki.test.raw, is one document, every character as it stands.
"""

import codecs
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
from quantale.data.rows import check_column, documents_from, folded

SEPARATOR = "<|endoftext|>"
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_FIELD_LIMIT = 1 << 30
_DELIMITERS = (",", ";", "\t")
_QUOTED = re.compile(r'"[^"]*"')
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Row = tuple[str, Mapping[str, object]]


@final
class Text:
    """A `.txt`, `.raw`, `.jsonl`, `.csv` or `.tsv` file in UTF-8."""

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
    """Read a file as UTF-8 without its byte-order mark; raises DataError with the line.

    UTF-16, which sheets export as "Unicode text", is read where its byte-order mark tells of it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path") from error
    try:
        return content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte {content[error.start]:#04x} is not {error.encoding.upper()};"
            f" convert it, for example with `iconv -f {_likely(content)} -t utf-8`"
        ) from error


def _likely(content: bytes) -> str:
    """Name what a file that is no UTF-8 may be: Windows-1252 has letters for most bytes."""
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin1"
    return "windows-1252"


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
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=_delimiter(text), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not valid CSV: {error}") from error
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        place = f"{path}:{line}"
        header = header or _header(row, place)
        yield place, _named(row, header, place)


def _delimiter(text: str) -> str:
    """Return what divides the columns of the header: a comma, a semicolon or a tab.

    Only what stands outside quotes counts; a header of one column has none, and a comma is taken.
    """
    header = _QUOTED.sub("", text.lstrip().partition("\n")[0])
    return max(_DELIMITERS, key=header.count)


def _header(row: list[str], place: str) -> list[str]:
    names = [name.strip() for name in row]
    named = [folded(name) for name in names if name]
    if len(set(named)) < len(named):
        raise DataError(f"{place}: two columns have the same name; rename one of {', '.join(row)}")
    return names


def _named(row: list[str], header: list[str], place: str) -> dict[str, str]:
    """Return a row by column name; columns without a name, as sheets append them, are empty."""
    if len(row) != len(header):
        raise DataError(
            f"{place}: {len(row)} columns where the header has {len(header)};"
            " put texts with commas in quotes"
        )
    pairs = list(zip(header, row, strict=True))
    stray = next((number for number, (name, cell) in enumerate(pairs) if cell and not name), None)
    if stray is not None:
        raise DataError(f"{place}: column {stray + 1} holds something and has no name; give it one")
    return {name: cell for name, cell in pairs if name}


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
    ".tsv": _read_csv,
}
