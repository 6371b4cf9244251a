"""What one model scored on one document, as kept in `documents.jsonl`; free of torch.

Where a protocol joins texts (`blocks`, `stride`, `llamacpp`) a line is one block, named
"block/N": the block is then what is paired and resampled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError

Floats = NDArray[np.float64]


class OfDocument(Protocol):
    """What one model says of one document."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def document(self) -> str:
        """Name of the document."""


T = TypeVar("T", bound=OfDocument)


@dataclass(frozen=True)
class DocumentScore:
    """Sums over the scored tokens of one document or block; nll and divergence in nats."""

    model: str
    document: str
    nll: float
    tokens: int
    """Scored tokens."""
    bytes: int
    """UTF-8 bytes of the scored text."""
    unknown: int = 0
    """Scored tokens that are the tokenizer's unknown symbol."""
    kl_sum: float | None = None
    """Sum of KL(base || model); None without a base."""
    top1_same: int | None = None
    """Tokens at which model and base rank the same token first; None without a base."""
    kl_tokens: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """(tokens,): KL of each token, for quantiles; not part of the record."""
    words: int = 0
    """Words that begin in the scored text; 0 where a record does not count them."""

    def record(self) -> dict[str, Any]:
        """Return the JSON line of `documents.jsonl`."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = (
    "model", "document", "nll", "tokens", "bytes", "words", "unknown", "kl_sum", "top1_same",
)  # fmt: skip


def read_scores(records: Iterable[Mapping[str, Any]]) -> list[DocumentScore]:
    """Return the scores of JSON lines; raises DataError for a line that lacks a field."""
    return [_read(number, record) for number, record in enumerate(records, start=1)]


def by_model(records: Iterable[T]) -> dict[str, list[T]]:
    """Group by model, both orders kept; raises DataError for a document that came twice."""
    groups: dict[str, list[T]] = {}
    seen: set[tuple[str, str]] = set()
    for one in records:
        key = (one.model, one.document)
        if key in seen:
            raise DataError(f"model {one.model!r} has document {one.document!r} twice")
        seen.add(key)
        groups.setdefault(one.model, []).append(one)
    return groups


def column(scores: Sequence[DocumentScore], name: str) -> Floats:
    """Return one field of all scores as float64; raises DataError where it is missing."""
    values = [getattr(score, name) for score in scores]
    if any(value is None for value in values):
        raise DataError(f"{name!r} is missing: the scores were made without a base model")
    return np.asarray(values, dtype=np.float64)


def _read(number: int, record: Mapping[str, Any]) -> DocumentScore:
    try:
        return DocumentScore(
            model=str(record["model"]),
            document=str(record["document"]),
            nll=float(record["nll"]),
            tokens=int(record["tokens"]),
            bytes=int(record["bytes"]),
            words=int(record.get("words", 0)),
            unknown=int(record.get("unknown", 0)),
            kl_sum=record.get("kl_sum"),
            top1_same=record.get("top1_same"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"document score {number}: not complete ({error!r})") from error
