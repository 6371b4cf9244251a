"""The bootstrap of macro F1 against a loop over documents, and its coverage."""

import numpy as np
import pytest

from quantale.core.errors import DataError
from quantale.evaluation.macro_f1 import f1_loss, macro_f1, score_estimates
from quantale.evaluation.stats import Bootstrap

CLASSES = 3


def predicted(rng: np.random.Generator, labels: np.ndarray, right: float) -> np.ndarray:
    return np.where(rng.random(labels.size) < right, labels, rng.integers(0, CLASSES, labels.size))


def test_one_multinomial_draw_is_as_good_as_drawing_documents() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 400)
    base, other = predicted(rng, labels, 0.9), predicted(rng, labels, 0.8)
    found = f1_loss(labels, [base], [other], CLASSES).estimate
    losses = []
    for _ in range(3000):
        rows = rng.integers(0, 400, 400)
        losses.append(
            macro_f1(labels[rows], base[rows], CLASSES)
            - macro_f1(labels[rows], other[rows], CLASSES)
        )
    assert found.stderr == pytest.approx(np.std(losses), rel=0.06)
    expected = macro_f1(labels, base, CLASSES) - macro_f1(labels, other, CLASSES)
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_the_interval_covers_the_loss_of_the_whole_population() -> None:
    rng, how, hits = np.random.default_rng(1), Bootstrap(resamples=600), 0
    labels = rng.integers(0, CLASSES, 200_000)
    base, other = predicted(rng, labels, 0.85), predicted(rng, labels, 0.8)
    truth = macro_f1(labels, base, CLASSES) - macro_f1(labels, other, CLASSES)
    for _ in range(400):
        rows = rng.integers(0, labels.size, 500)
        found = f1_loss(labels[rows], [base[rows]], [other[rows]], CLASSES, how).estimate
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_two_changed_documents_have_no_interval() -> None:
    labels = np.arange(300) % CLASSES
    other = labels.copy()
    other[:2] = (other[:2] + 1) % CLASSES
    found = f1_loss(labels, [labels], [other], CLASSES)
    assert found.estimate.value > 0
    assert found.estimate.high == np.inf
    assert found.p_value(0.005) == 1.0


def test_seeds_are_averaged() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, CLASSES, 500)
    runs = [predicted(rng, labels, share) for share in (0.9, 0.8)]
    alone = [f1_loss(labels, [labels], [run], CLASSES).estimate.value for run in runs]
    both = f1_loss(labels, [labels], runs, CLASSES).estimate.value
    assert both == pytest.approx(np.mean(alone))


def test_the_macro_scores_of_a_perfect_matrix_are_one() -> None:
    found = score_estimates(np.diag([5, 6, 7]))
    assert {name: one.value for name, one in found.items()} == {
        "macro_precision": 1.0, "macro_recall": 1.0, "macro_f1": 1.0,
    }  # fmt: skip


def test_nothing_to_score_is_an_error() -> None:
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(DataError, match="at least one document"):
        f1_loss(empty, [empty], [empty], CLASSES)
