"""Classification numbers against scikit-learn, scipy and four published confusion matrices."""

import math
import random

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics as sklearn_metrics

from quantale.evaluation.confusion import as_text, confusion_matrix, report
from quantale.evaluation.macro_f1 import macro_f1
from quantale.evaluation.proportions import (
    Flips,
    accuracy_loss,
    apart_from_counts,
    two_proportions,
    wilson,
)

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
PUBLISHED = {
    "baseline": [[1811, 11, 45, 33], [11, 1875, 11, 3], [35, 8, 1735, 122], [27, 9, 89, 1775]],
    "int8": [[1813, 10, 43, 34], [9, 1875, 11, 5], [32, 11, 1738, 119], [24, 9, 93, 1774]],
    "bnb-int8": [[1811, 11, 45, 33], [11, 1874, 12, 3], [35, 9, 1734, 122], [28, 9, 90, 1773]],
    "bnb-nf4": [[1811, 10, 46, 33], [9, 1875, 14, 2], [33, 7, 1735, 125], [26, 7, 85, 1782]],
}
"""GPT-2 on the 7,600 test rows of AG News, full precision and quantized three ways."""


def test_the_published_matrices_give_the_published_accuracies() -> None:
    found = {name: report(np.array(m), CLASSES).accuracy for name, m in PUBLISHED.items()}
    assert [round(value, 6) for value in found.values()] == [0.946842, 0.947368, 0.946316, 0.947763]


def test_the_first_published_matrix_gives_the_published_macro_scores() -> None:
    found = report(np.array(PUBLISHED["baseline"]), CLASSES)
    scores = (found.macro_precision, found.macro_recall, found.macro_f1)
    assert [round(score, 6) for score in scores] == [0.946918, 0.946842, 0.946852]


def test_the_four_published_accuracies_cannot_be_told_apart() -> None:
    right = {name: (int(np.trace(m)), int(np.sum(m))) for name, m in PUBLISHED.items()}
    assert right["baseline"] == (7196, 7600)
    found = apart_from_counts(right)
    assert found.verdict == "cannot tell apart"
    assert len(found.p_holm) == 6
    assert min(found.p_holm.values()) == 1.0
    assert apart_from_counts({"a": (7196, 7600), "b": (7000, 7600)}).verdict == "told apart"


def predictions(seed: int, classes: int) -> tuple[list[str], list[str]]:
    """Labels and predictions of unequal classes; the last class is never predicted."""
    rng = random.Random(seed)
    names = [f"class {i}" for i in range(classes)]
    labels = rng.choices(names, weights=range(1, classes + 1), k=300)
    return labels, [y if rng.random() < 0.7 else rng.choice(names[:-1]) for y in labels]


@pytest.mark.parametrize(("seed", "classes"), [(0, 2), (1, 3), (2, 5), (3, 11)])
def test_the_report_is_that_of_scikit_learn_to_the_letter(seed: int, classes: int) -> None:
    labels, predicted = predictions(seed, classes)
    predicted = [name if name != f"class {classes - 1}" else "class 0" for name in predicted]
    names = [f"class {i}" for i in range(classes)]
    matrix = confusion_matrix(labels, predicted, names)
    assert (matrix == sklearn_metrics.confusion_matrix(labels, predicted, labels=names)).all()
    expected = sklearn_metrics.classification_report(
        labels, predicted, labels=names, digits=4, zero_division=0
    )
    assert as_text(report(matrix, names)) == expected
    scores = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=names, average="macro", zero_division=0
    )
    found = report(matrix, names)
    assert (found.macro_precision, found.macro_recall, found.macro_f1) == pytest.approx(scores[:3])
    codes = [np.array([names.index(name) for name in side]) for side in (labels, predicted)]
    assert macro_f1(codes[0], codes[1], classes) == pytest.approx(scores[2])


@pytest.mark.parametrize(("broken", "fixed"), [(0, 0), (3, 0), (5, 9), (40, 20), (700, 800)])
def test_mcnemar_is_the_exact_binomial_test(broken: int, fixed: int) -> None:
    expected = scipy_stats.binomtest(broken, broken + fixed).pvalue if broken + fixed else 1.0
    assert Flips(broken, fixed, 5000).mcnemar() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("right", "n"), [(0, 9), (9, 9), (7196, 7600), (1, 40)])
def test_the_interval_of_an_accuracy_is_wilsons(right: int, n: int) -> None:
    z = scipy_stats.norm.ppf(0.975)
    expected = scipy_stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n, z) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_unpaired_test_is_the_uncorrected_chi_square() -> None:
    table = [[7196, 404], [7100, 500]]
    expected = scipy_stats.chi2_contingency(table, correction=False).pvalue
    difference, p = two_proportions((7196, 7600), (7100, 7600))
    assert p == pytest.approx(expected, rel=1e-9)
    assert difference.low < 96 / 7600 < difference.high


@pytest.mark.parametrize(("broken", "fixed", "n"), [(40, 20, 160), (3, 0, 60), (9, 7, 100)])
@pytest.mark.parametrize("loss", [-0.05, 0.02, 0.15])
def test_tangos_statistic_agrees_with_a_search_for_the_likeliest_table(
    broken: int, fixed: int, n: int, loss: float
) -> None:
    """The nuisance parameter is found by brute force over a fine grid."""
    grid = np.linspace(max(0.0, -loss) + 1e-9, (1 - loss) / 2, 2_000_001)
    same = 1 - 2 * grid - loss
    with np.errstate(divide="ignore"):
        likelihood = (
            broken * np.log(grid + loss)
            + (fixed * np.log(grid) if fixed else 0.0)
            + (n - broken - fixed) * np.log(np.maximum(same, 1e-300))
        )
    best = float(grid[likelihood.argmax()])
    expected = (broken - fixed - n * loss) / math.sqrt(n * (2 * best + loss * (1 - loss)))
    assert Flips(broken, fixed, n).score(loss) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("n", [10, 764, 7600])
def test_without_a_flip_the_interval_has_its_closed_form(n: int) -> None:
    z = 1.959963984540054
    found = accuracy_loss(Flips(0, 0, n))
    assert found.estimate.high == pytest.approx(z * z / (n + z * z), rel=1e-9)
    assert found.estimate.low == pytest.approx(-found.estimate.high, rel=1e-9)
    assert found.documents_needed(0.005) == math.ceil(z * z * 0.995 / 0.005)
