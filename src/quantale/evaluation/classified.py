"""Predictions as Measurements, with intervals over documents; free of torch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quantale.core.records import Measurement
from quantale.evaluation.confusion import ClassificationReport, Counts, confusion_matrix, report
from quantale.evaluation.macro_f1 import score_estimates
from quantale.evaluation.predictions import Prediction, calibration_error
from quantale.evaluation.proportions import wilson_estimate
from quantale.evaluation.scores import by_model
from quantale.evaluation.stats import Bootstrap, Estimate

TASK = "classification"
BINS = 15


def measurements(
    predictions: Sequence[Prediction], protocol: str, how: Bootstrap | None = None
) -> list[Measurement]:
    """Return all metrics of all models.

    Fields that predictions do not know (kernel, dtype, hashes, provenance) are left empty.
    """
    how = how or Bootstrap()
    return [
        replace(one, protocol=protocol, seed=how.seed)
        for model, own in by_model(predictions).items()
        for one in _metrics(model, own, how)
    ]


def classes_of(predictions: Sequence[Prediction]) -> tuple[str, ...]:
    """Return the names of the classes, in their order."""
    return tuple(predictions[0].probabilities)


def report_of(predictions: Sequence[Prediction]) -> ClassificationReport:
    """Return the report of one model's predictions."""
    return report(matrix_of(predictions), classes_of(predictions))


def matrix_of(predictions: Sequence[Prediction]) -> Counts:
    """Return the confusion matrix of one model's predictions, (classes, classes), rows true."""
    labels = [one.label for one in predictions]
    return confusion_matrix(labels, [o.predicted for o in predictions], classes_of(predictions))


def right(predictions: Sequence[Prediction]) -> NDArray[np.bool_]:
    """Return (documents,): where one model's prediction is the label."""
    return np.array([one.predicted == one.label for one in predictions])


def _metrics(model: str, own: Sequence[Prediction], how: Bootstrap) -> Iterator[Measurement]:
    found, matrix = report_of(own), matrix_of(own)
    right = int(np.trace(matrix))
    counts: dict[str, float | str | int] = {"right": right}
    accuracy = _measurement(model, "accuracy", "share", wilson_estimate(right, found.n, how.level))
    yield replace(accuracy, extra=counts)
    for name, estimate in score_estimates(matrix, how).items():
        yield _measurement(model, name, "share", estimate)
    error = Estimate(calibration_error(own, BINS), np.inf, -np.inf, np.inf, found.n)
    yield replace(_measurement(model, "calibration_error", "share", error), extra={"bins": BINS})
    for one in found.classes:
        extra: dict[str, float | str | int] = {"class": one.name, "support": one.support}
        for metric in ("precision", "recall", "f1"):
            value = Estimate(getattr(one, metric), np.inf, -np.inf, np.inf, found.n)
            yield replace(_measurement(model, f"class_{metric}", "share", value), extra=extra)


def _measurement(model: str, metric: str, unit: str, estimate: Estimate) -> Measurement:
    ends = (estimate.stderr, estimate.low, estimate.high)
    stderr, low, high = (end if np.isfinite(end) else None for end in ends)
    return Measurement(
        model=model, task=TASK, protocol="", metric=metric, value=estimate.value, unit=unit,
        n=estimate.n, stderr=stderr, ci_low=low, ci_high=high,
    )  # fmt: skip
