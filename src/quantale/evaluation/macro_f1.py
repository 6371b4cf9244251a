"""The paired bootstrap of macro F1: all models on the same resampled documents.

Documents of one label on which each model says the same count alike, so a resample is one
multinomial draw over the distinct rows (label, prediction of each model): the same distribution as
drawing documents one by one, in a hundredth of the time. numpy only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError
from quantale.evaluation.confusion import share
from quantale.evaluation.stats import Bootstrap, Difference, Estimate, Floats, interval_of

Codes = NDArray[np.int64]

FEWEST_CHANGES = 10
"""Fewer documents with another prediction than this give no interval: a bootstrap draws only what
it has seen, and from two changed documents it would see almost nothing."""


def macro_f1(labels: Codes, predicted: Codes, classes: int) -> float:
    """Return the mean F1 over classes. labels, predicted: (documents,) class numbers."""
    rows, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    return float(_macro_f1(counts[None, :].astype(np.float64), rows[0], rows[1], classes)[0])


def f1_loss(
    labels: Codes,
    base: Sequence[Codes],
    other: Sequence[Codes],
    classes: int,
    how: Bootstrap | None = None,
) -> Difference:
    """Return base's macro F1 less the other's, each the mean over its runs (training seeds).

    labels, base[i], other[i]: (documents,) class numbers. Has no interval where fewer than
    `FEWEST_CHANGES` documents were predicted differently, unless none was.
    """
    how = how or Bootstrap()
    if labels.size == 0:
        raise DataError("statistics need at least one document with something scored, none came")
    rows, counts = np.unique(np.stack([labels, *base, *other]), axis=1, return_counts=True)
    value = float(_loss(counts[None, :].astype(np.float64), rows, len(base), classes)[0])
    changed = int(counts[(rows[1:] != rows[1]).any(axis=0)].sum())
    n = int(labels.size)
    if changed < FEWEST_CHANGES:
        return _without_interval(value, n, how)
    rng = np.random.default_rng(how.seed)
    drawn = rng.multinomial(n, counts / n, size=how.resamples).astype(np.float64)
    losses = _loss(drawn, rows, len(base), classes)
    stderr = float(losses.std(ddof=1))
    if stderr == 0.0:
        return _without_interval(value, n, how)
    deviations = np.sort((losses - value) / stderr)
    return Difference(interval_of(value, stderr, deviations, n, how.level), deviations)


def score_estimates(matrix: Codes, how: Bootstrap | None = None) -> dict[str, Estimate]:
    """Return macro precision, recall and F1 of one model with bootstrap intervals.

    matrix: (classes, classes) counts, rows true.
    """
    how = how or Bootstrap()
    n, shape = int(matrix.sum()), matrix.shape
    rng = np.random.default_rng(how.seed)
    drawn = rng.multinomial(n, matrix.ravel() / n, size=how.resamples).reshape(-1, *shape)
    tail = (1 - how.level) / 2
    found = {}
    for (name, draws), (_, own) in zip(
        _macro_scores(drawn).items(), _macro_scores(matrix[None]).items(), strict=True
    ):
        low, high = np.quantile(draws, [tail, 1 - tail])
        found[name] = Estimate(float(own[0]), float(draws.std(ddof=1)), float(low), float(high), n)
    return found


def _macro_scores(matrices: Codes) -> dict[str, Floats]:
    """Return (resamples,) scores of (resamples, classes, classes) counts."""
    right = np.diagonal(matrices, axis1=1, axis2=2)
    said, is_so = matrices.sum(axis=1), matrices.sum(axis=2)
    parts = {"macro_precision": (right, said), "macro_recall": (right, is_so)}
    parts["macro_f1"] = (2 * right, said + is_so)
    return {name: share(*pair).mean(axis=1) for name, pair in parts.items()}


def _without_interval(value: float, n: int, how: Bootstrap) -> Difference:
    unknown = Estimate(value, np.inf, -np.inf, np.inf, n)
    return Difference(unknown, np.zeros(how.resamples))


def _loss(counts: Floats, rows: Codes, runs: int, classes: int) -> Floats:
    """Return (resamples,). rows: (1 + models, distinct); the first `runs` models are the base's."""
    scores = [_macro_f1(counts, rows[0], predicted, classes) for predicted in rows[1:]]
    return np.mean(scores[:runs], axis=0) - np.mean(scores[runs:], axis=0)


def _macro_f1(counts: Floats, labels: Codes, predicted: Codes, classes: int) -> Floats:
    """Return (resamples,) from (resamples, distinct) counts of rows."""
    names = np.arange(classes)
    is_label, is_predicted = labels[:, None] == names, predicted[:, None] == names
    right = counts @ (is_label & is_predicted)
    either = counts @ is_label + counts @ is_predicted
    return share(2 * right, either).mean(axis=1)
