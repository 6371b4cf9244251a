"""Accuracy, precision, recall and F1 from a confusion matrix; numpy only.

matrix: (classes, classes) counts, rows true, columns predicted. Where a class was never predicted
(or never occurs) its precision (or recall) is 0, as in scikit-learn with `zero_division=0`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScore:
    """How one class is recognised."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Documents that belong to it."""


@dataclass(frozen=True)
class ClassificationReport:
    """All classes together and one by one."""

    accuracy: float
    macro_precision: float
    """Means over classes, each counting once."""
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    """Means over classes, each counting as often as it occurs."""
    weighted_recall: float
    weighted_f1: float
    n: int
    classes: tuple[ClassScore, ...]


def confusion_matrix(
    labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]
) -> Counts:
    """Return the counts; raises DataError for a name that is none of the classes."""
    places = {name: i for i, name in enumerate(classes)}
    odd = sorted({*labels, *predicted} - places.keys())
    if odd:
        raise DataError(f"label {odd[0]!r} is none of the classes: {', '.join(classes)}")
    rows = np.array([places[name] for name in labels], dtype=np.int64)
    columns = np.array([places[name] for name in predicted], dtype=np.int64)
    size = len(classes)
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)


def report(matrix: Counts, classes: Sequence[str]) -> ClassificationReport:
    """Return every score of a confusion matrix; raises DataError for an empty one."""
    matrix = np.asarray(matrix, dtype=np.int64)
    size = len(classes)
    if matrix.shape != (size, size) or matrix.sum() < 1:
        raise DataError(f"a matrix of {size} x {size} counts was expected, {matrix.shape} came")
    right, support = np.diag(matrix), matrix.sum(axis=1)
    precision = share(right, matrix.sum(axis=0))
    recall = share(right, support)
    f1 = share(2 * right, matrix.sum(axis=0) + support)
    scores = np.stack([precision, recall, f1], axis=1)
    macro, weighted = scores.mean(axis=0).tolist(), np.average(scores, axis=0, weights=support)
    return ClassificationReport(
        accuracy=float(right.sum() / matrix.sum()),
        macro_precision=macro[0],
        macro_recall=macro[1],
        macro_f1=macro[2],
        weighted_precision=float(weighted[0]),
        weighted_recall=float(weighted[1]),
        weighted_f1=float(weighted[2]),
        n=int(matrix.sum()),
        classes=tuple(
            ClassScore(name, float(own[0]), float(own[1]), float(own[2]), int(count))
            for name, own, count in zip(classes, scores, support, strict=True)
        ),
    )


def share(parts: NDArray[Any], wholes: NDArray[Any]) -> Floats:
    """Return parts / wholes, 0 where there is no whole."""
    parts, wholes = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    return np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)


def as_text(found: ClassificationReport, digits: int = 4) -> str:
    """Return the report as text, laid out as scikit-learn's `classification_report` is."""
    width = max(len("weighted avg"), *(len(one.name) for one in found.classes))
    head = ("precision", "recall", "f1-score", "support")
    lines = [" " * width + " " + "".join(f" {name:>9}" for name in head), ""]

    def line(name: str, values: Sequence[float], support: int) -> str:
        cells = "".join(f" {value:>9.{digits}f}" for value in values)
        return f"{name:>{width}} {cells} {support:>9}"

    lines += [line(c.name, (c.precision, c.recall, c.f1), c.support) for c in found.classes]
    blank = " " * 20
    lines += ["", f"{'accuracy':>{width}} {blank} {found.accuracy:>9.{digits}f} {found.n:>9}"]
    macro = (found.macro_precision, found.macro_recall, found.macro_f1)
    weighted = (found.weighted_precision, found.weighted_recall, found.weighted_f1)
    lines += [line("macro avg", macro, found.n), line("weighted avg", weighted, found.n)]
    return "\n".join(lines) + "\n"
