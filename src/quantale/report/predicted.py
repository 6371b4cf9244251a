"""Per-document results of a classifier, read back from a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError
from quantale.report.lines import ResultLines

KEY = "predicted"
"""What a document line of a classifier has."""
_QUALITY = frozenset({"accuracy", "macro_precision", "macro_recall", "macro_f1"})


@dataclass(frozen=True)
class Predicted:
    """What one classifier says of every document."""

    model: str
    documents: tuple[str, ...]
    """Sorted, so that two models of one data set line up."""
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: tuple[Mapping[str, float] | None, ...]
    """By class; None where the file does not tell."""
    fingerprint: Mapping[str, str]
    """Those of `FINGERPRINT` that the file states."""
    training_seed: str | None = None
    """None where the file does not state it."""

    @property
    def content(self) -> tuple[object, ...]:
        """What two results on the same texts share."""
        return self.labels

    @property
    def right(self) -> NDArray[np.bool_]:
        """(documents,): where the prediction is the label."""
        return np.array([a == b for a, b in zip(self.labels, self.predicted, strict=True)])

    def is_identical(self, other: "Predicted") -> bool:
        """Say whether both gave the same known probabilities everywhere: one function, twice."""
        return None not in self.probabilities and self.probabilities == other.probabilities


def predicted_in(result: ResultLines) -> list[Predicted]:
    """Return every classifier of a result."""
    return [_predicted(result, name) for name in result.models(KEY)]


def class_names(runs: list[Predicted]) -> tuple[str, ...]:
    """Return the classes that any run names, probabilities first, in their order."""
    named = (name for run in runs for one in run.probabilities[:1] for name in one or ())
    seen = (name for run in runs for name in sorted({*run.labels, *run.predicted}))
    return tuple(dict.fromkeys([*named, *seen]))


def _predicted(result: ResultLines, model: str) -> Predicted:
    documents = result.documents(model, KEY)
    rows = [_row(result.path, line) for line in documents.values()]
    return Predicted(
        model=model,
        documents=tuple(documents),
        labels=tuple(row[0] for row in rows),
        predicted=tuple(row[1] for row in rows),
        probabilities=tuple(row[2] for row in rows),
        fingerprint=result.fingerprint(model, KEY, _QUALITY),
        training_seed=result.training_seed(model),
    )


def _row(path: Path, line: Mapping[str, Any]) -> tuple[str, str, Mapping[str, float] | None]:
    probabilities = line.get("probabilities")
    if line.get("label") is None or not isinstance(probabilities, Mapping | None):
        raise DataError(
            f"{path}: document {line['document']!r} needs a label, and probabilities by class"
        )
    return str(line["label"]), str(line[KEY]), probabilities
