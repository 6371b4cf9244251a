"""Per-document results of a language model, read back from a result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core.errors import DataError
from quantale.report.lines import ResultLines, read_result

KEY = "nll"
"""What a document line of a language model has."""
_QUALITY = frozenset({"perplexity", "bits_per_byte", "nll_per_token"})


@dataclass(frozen=True)
class Scored:
    """What one model scored on every document."""

    model: str
    documents: tuple[str, ...]
    """Sorted, so that two models of one data set line up."""
    nll: tuple[float, ...]
    """Nats, summed over the document's tokens."""
    tokens: tuple[int, ...]
    size: tuple[int, ...]
    """UTF-8 bytes."""
    fingerprint: Mapping[str, str]
    """Those of `FINGERPRINT` that the file states."""
    training_seed: str | None = None
    """None where the file does not state it."""

    @property
    def content(self) -> tuple[object, ...]:
        """What two results on the same texts share."""
        return self.size


def read_scored(path: Path) -> list[Scored]:
    """Read every model of a file or folder, in the order of their first lines."""
    found = scored_in(read_result(path))
    if not found:
        raise nothing_in(path)
    return found


def scored_in(result: ResultLines) -> list[Scored]:
    """Return every language model of a result."""
    return [_scored(result, name) for name in result.models(KEY)]


def nothing_in(path: Path) -> DataError:
    """Return the error of a result without documents."""
    return DataError(
        f"{path}: holds no per-document lines; give the folder of an evaluation or a file "
        "with its documents.jsonl lines"
    )


def _scored(result: ResultLines, model: str) -> Scored:
    documents = result.documents(model, KEY)
    rows = [_row(result.path, line) for line in documents.values()]
    return Scored(
        model=model,
        documents=tuple(documents),
        nll=tuple(row[0] for row in rows),
        tokens=tuple(row[1] for row in rows),
        size=tuple(row[2] for row in rows),
        fingerprint=result.fingerprint(model, KEY, _QUALITY),
        training_seed=result.training_seed(model),
    )


def _row(path: Path, line: Mapping[str, Any]) -> tuple[float, int, int]:
    try:
        row = float(line["nll"]), int(line["tokens"]), int(line["bytes"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: document {line['document']!r} needs numbers nll, tokens and bytes ({error!r})"
        ) from error
    if not math.isfinite(row[0]) or row[1] < 0 or row[2] < 0:
        raise DataError(f"{path}: document {line['document']!r} holds an impossible number: {row}")
    return row
