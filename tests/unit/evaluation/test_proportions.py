"""Verdicts on accuracies: flips, coverage, and what no flip at all means."""

import numpy as np
import pytest

from quantale.core.errors import DataError
from quantale.evaluation.proportions import Flips, accuracy_loss, two_proportions
from quantale.evaluation.stats import Verdict, judge

REPEATS = 2000


def flips(rng: np.random.Generator, n: int, broken: float, fixed: float) -> Flips:
    both, only_base, only_other = rng.multinomial(n, [0.9 - broken, broken, fixed, 0.1 - fixed])[:3]
    assert both >= 0
    return Flips(int(only_base), int(only_other), n)


@pytest.mark.parametrize(("n", "broken", "fixed"), [(200, 0.03, 0.02), (1000, 0.01, 0.01)])
def test_the_paired_interval_covers_the_true_loss(n: int, broken: float, fixed: float) -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(REPEATS):
        found = accuracy_loss(flips(rng, n, broken, fixed)).estimate
        hits += found.low <= broken - fixed <= found.high
    assert 0.93 <= hits / REPEATS <= 0.975


def test_a_loss_of_exactly_the_margin_is_rarely_called_a_failure() -> None:
    rng = np.random.default_rng(1)
    failed = sum(
        judge(accuracy_loss(flips(rng, 800, 0.025, 0.02)).estimate, 0.005).verdict is Verdict.FAIL
        for _ in range(REPEATS)
    )
    assert failed / REPEATS <= 0.05


def test_the_predicted_number_of_documents_tells_four_times_of_five() -> None:
    rng, told = np.random.default_rng(2), 0
    needed = accuracy_loss(Flips(30, 30, 1500)).documents_needed(0.005)
    assert needed is not None
    for _ in range(400):
        found = accuracy_loss(flips(rng, needed, 0.02, 0.02))
        told += judge(found.estimate, 0.005).verdict is Verdict.PASS
    assert 0.72 <= told / 400 <= 0.88


def test_flips_are_counted_both_ways() -> None:
    base = np.array([True, True, True, False, False])
    other = np.array([True, False, False, True, False])
    assert Flips.between(base, other) == Flips(broken=2, fixed=1, n=5)


def test_few_documents_without_a_flip_prove_nothing_but_one_function_is_one() -> None:
    found = accuracy_loss(Flips(0, 0, 100))
    assert judge(found.estimate, 0.005).verdict is Verdict.CANNOT_TELL
    same = accuracy_loss(Flips(0, 0, 100), is_identical=True)
    assert judge(same.estimate, 0.005).verdict is Verdict.PASS
    assert (same.p_value(), same.p_value(0.005)) == (1.0, 0.0)


def test_the_p_value_against_a_margin_agrees_with_the_interval() -> None:
    found = accuracy_loss(Flips(40, 25, 900))
    for end in (found.estimate.low, found.estimate.high):
        assert found.p_value(end) == pytest.approx(0.05, abs=1e-6)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(DataError, match="9 right of 8"):
        two_proportions((9, 8), (1, 8))
    with pytest.raises(DataError, match="at least one document"):
        accuracy_loss(Flips(0, 0, 0))
