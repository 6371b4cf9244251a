"""From table rows to documents, the same for every kind of file and for the Hub."""

from collections.abc import Iterable, Iterator, Mapping

from quantale.core.errors import DataError, nearest
from quantale.data.documents import Document

TEXT_COLUMN = "text"
"""Where the text is unless the data expression names another column."""


def check_column(column: str | None, columns: Iterable[str], source: str) -> str:
    """Return the text column; raises DataError with the nearest name when it is not there."""
    wanted = column or TEXT_COLUMN
    known = sorted(columns)
    found = find_column(wanted, known)
    if found is not None:
        return found
    listed = ", ".join(known) if known else "no columns"
    raise DataError(
        f"{source} has no column {wanted!r}, it has {listed}{nearest(wanted, known)};"
        f" name the text column as {source}#COLUMN"
    )


def find_column(wanted: str, columns: Iterable[str]) -> str | None:
    """Return the column of this name, or the only one that differs in case and outer spaces."""
    known = list(columns)
    if wanted in known:
        return wanted
    alike = [name for name in known if folded(name) == folded(wanted)]
    return alike[0] if len(alike) == 1 else None


def folded(name: str) -> str:
    """Return a column's name as names are compared: without case and outer spaces."""
    return name.strip().casefold()


def documents_from(
    rows: Iterable[tuple[str, Mapping[str, object]]], column: str, name: str
) -> Iterator[Document]:
    """Turn rows into documents; rows whose text is blank are left out.

    Each row comes with its place, such as "stories.csv:17", for errors and for the id. Other
    columns with a plain value become fields. Raises DataError for a text that is not a string.
    """
    for number, (place, row) in enumerate(rows):
        text = row.get(column)
        if text is None:
            raise DataError(f"{place}: the row has no {column!r}")
        if not isinstance(text, str):
            kind = type(text).__name__
            raise DataError(f"{place}: {column!r} must be text, got {kind}")
        fields = {
            _checked(key, place): _checked(str(value), place)
            for key, value in row.items()
            if key != column and isinstance(value, (str, int, float))
        }
        if text.strip():
            yield Document(_checked(text, place), f"{name}/{number}", fields)


def _checked(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: half of a surrogate pair is not a character; fix it") from error
    return text
