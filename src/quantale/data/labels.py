"""Documents with labels: class names, and a digest over texts and labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from quantale.core.errors import DataError, UsageError, nearest
from quantale.data.documents import Documents
from quantale.data.rows import find_column

LABEL_COLUMN = "label"
"""Where the label is unless another column is named."""


@dataclass(frozen=True)
class Labelled:
    """Documents, each of one class."""

    documents: Documents
    labels: tuple[str, ...]
    """The class of each document, by name."""
    classes: tuple[str, ...]
    """All classes in the order of their numbers."""

    @property
    def sha256(self) -> str:
        """Return the digest over the texts, the labels and the order of the classes."""
        parts = [self.documents.sha256, *self.classes, *self.labels]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def labelled(
    documents: Documents, column: str = LABEL_COLUMN, classes: Sequence[str] | None = None
) -> Labelled:
    """Read the labels of documents from a column.

    A label is the name of a class or its number, counted from 0; a name comes first. classes: None
    for the labels that occur, sorted (numbers by value). Raises DataError for a document without
    a label and for a label that is no class.
    """
    values = [_value(item.id, item.fields, column) for item in documents.items]
    names = tuple(classes) if classes else tuple(sorted(set(values), key=_order))
    if len(set(names)) < len(names) or len(names) < 2:
        raise UsageError(f"classes are two names or more, all different; {', '.join(names)} came")
    labels = tuple(
        _class(item.id, value, names) for item, value in zip(documents.items, values, strict=True)
    )
    return Labelled(documents, labels, names)


def _value(document: str, fields: object, column: str) -> str:
    known = fields if isinstance(fields, dict) else {}
    found = find_column(column, known)
    if found is None:
        listed = ", ".join(sorted(known)) or "none"
        raise DataError(
            f"document {document!r} has no label in {column!r}, its columns besides the text are "
            f"{listed}{nearest(column, known)}; name the column of the labels"
        )
    return str(known[found]).strip()


def _class(document: str, value: str, names: tuple[str, ...]) -> str:
    if value in names:
        return value
    if value.isdecimal() and int(value) < len(names):
        return names[int(value)]
    raise DataError(
        f"document {document!r} has the label {value!r}, which is none of {', '.join(names)} and "
        f"no number below {len(names)}"
    )


def _order(value: str) -> tuple[bool, int, str]:
    is_number = value.isdecimal()
    return not is_number, int(value) if is_number else 0, value
