"""Intervals, verdicts and Holm's adjustment."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantale.core.errors import DataError
from quantale.evaluation.stats import (
    Bootstrap,
    Estimate,
    Verdict,
    differences,
    documents_needed,
    holm,
    judge,
    median_of_groups,
    quantile,
    ratio,
)

REPEATS = 300
QUICK = Bootstrap(resamples=400)


def correlated_documents(rng: np.random.Generator, documents: int = 40) -> list[np.ndarray]:
    """Per-token differences of mean zero: each document shifts all of its tokens together."""
    return [
        rng.normal(rng.normal(0.0, 0.3), 1.0, size=rng.integers(20, 200)) for _ in range(documents)
    ]


def test_a_ratio_of_sums_is_not_a_mean_of_ratios() -> None:
    found = ratio(np.array([1.0, 30.0]), np.array([1.0, 10.0]))
    assert found.value == pytest.approx(31 / 11)
    assert found.n == 2


def test_the_standard_error_of_equal_documents_is_that_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0, 9.0, 2.5])
    found = ratio(values * 10, np.full(6, 10.0))
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(6))


def test_the_interval_of_many_normal_documents_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = ratio(values, np.ones(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.stderr, rel=0.05)
    assert found.low < found.value < found.high


def test_per_document_intervals_cover_the_truth_and_per_token_ones_do_not() -> None:
    by_document = by_token = 0
    for repeat in range(REPEATS):
        tokens = correlated_documents(np.random.default_rng(repeat))
        sums, sizes = np.array([t.sum() for t in tokens]), np.array([len(t) for t in tokens])
        found = ratio(sums, sizes, QUICK)
        by_document += found.low <= 0.0 <= found.high
        flat = np.concatenate(tokens)
        by_token += abs(flat.mean()) <= 1.96 * flat.std(ddof=1) / math.sqrt(len(flat))
    assert 0.91 <= by_document / REPEATS <= 0.98
    assert by_token / REPEATS < 0.75


def test_a_true_difference_of_nothing_is_rarely_called_significant() -> None:
    rejected = 0
    for repeat in range(REPEATS):
        tokens = correlated_documents(np.random.default_rng(1000 + repeat))
        sums, sizes = np.array([t.sum() for t in tokens]), np.array([len(t) for t in tokens])
        rejected += differences(sums, sizes, QUICK)[0].p_value() <= 0.05
    assert rejected / REPEATS <= 0.09


def test_the_p_value_agrees_with_the_interval() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(10, 99, 60).astype(float)
    found = differences(rng.normal(0.05, 0.2, 60) * sizes, sizes)[0]
    width = found.estimate.high - found.estimate.low
    assert found.p_value(found.estimate.low - 0.02 * width) < 0.05
    assert found.p_value(found.estimate.low + 0.02 * width) > 0.05
    assert found.p_value(found.estimate.high + 0.02 * width) < 0.05


def test_pairing_makes_the_interval_narrow() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 300, 200).astype(float)
    base = sizes * rng.normal(2.0, 0.5, 200)
    other = base + sizes * rng.normal(0.01, 0.02, 200)
    paired = differences(other - base, sizes)[0].estimate
    alone = ratio(other, sizes)
    assert paired.high - paired.low < (alone.high - alone.low) / 10


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values, sizes = np.random.default_rng(0).normal(size=50), np.ones(50)
    first, again = ratio(values, sizes), ratio(values, sizes)
    assert first == again
    assert ratio(values, sizes, Bootstrap(seed=1)) != first


def test_all_rows_share_their_resamples() -> None:
    rng = np.random.default_rng(0)
    changes, sizes = rng.normal(size=(3, 30)), rng.integers(1, 9, 30).astype(float)
    together = [one.estimate for one in differences(changes, sizes, QUICK)]
    alone = [differences(row, sizes, QUICK)[0].estimate for row in changes]
    for a, b in zip(together, alone, strict=True):
        assert a.low == pytest.approx(b.low, rel=1e-9)
        assert a.high == pytest.approx(b.high, rel=1e-9)


def test_no_difference_at_all_passes_with_an_interval_of_width_zero() -> None:
    found = differences(np.zeros(10), np.ones(10))[0]
    assert (found.estimate.low, found.estimate.value, found.estimate.high) == (0.0, 0.0, 0.0)
    assert judge(found.estimate, 0.01).verdict is Verdict.PASS
    assert found.p_value() == 1.0
    assert found.p_value(0.01) == 0.0


def test_a_constant_ratio_has_no_spread() -> None:
    sizes = np.array([3.0, 7.0, 11.0])
    found = ratio(sizes * math.log(17), sizes)
    assert found.stderr == 0.0
    assert found.low == found.high == found.value


def test_one_document_has_no_interval_and_cannot_tell() -> None:
    found = ratio(np.array([3.0]), np.array([2.0]))
    assert found.value == 1.5
    assert found.stderr == math.inf
    assert (found.low, found.high) == (-math.inf, math.inf)
    judged = judge(found, 0.01)
    assert judged.verdict is Verdict.CANNOT_TELL
    assert judged.n_that_would_tell is None
    assert differences(np.array([3.0]), np.array([2.0]))[0].p_value(0.01) == 1.0


def test_no_document_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one document"):
        ratio(np.array([]), np.array([]))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.02, 0.009, Verdict.PASS),
        (-0.02, 0.01, Verdict.PASS),
        (0.011, 0.03, Verdict.FAIL),
        (0.005, 0.02, Verdict.CANNOT_TELL),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side_of_the_margin(
    low: float, high: float, verdict: Verdict
) -> None:
    middle = (low + high) / 2
    assert judge(Estimate(middle, (high - low) / 4, low, high, 50), 0.01).verdict is verdict


def test_the_n_that_would_tell_follows_the_closed_form() -> None:
    estimate = Estimate(0.004, 0.005, -0.006, 0.014, 100)
    expected = 100 * ((1.959964 + 0.841621) * 0.005 / 0.006) ** 2
    assert documents_needed(estimate, 0.01) == math.ceil(expected)
    assert documents_needed(estimate, 0.004) is None


def test_the_n_that_would_tell_does_tell_four_times_of_five() -> None:
    told = 0
    few = Estimate(0.0, 0.3 / math.sqrt(50), -1.0, 1.0, 50)
    needed = documents_needed(few, 0.05)
    assert needed is not None
    for repeat in range(200):
        values = np.random.default_rng(repeat).normal(0.0, 0.3, needed)
        found = ratio(values, np.ones(needed), QUICK)
        told += judge(found, 0.05).verdict is Verdict.PASS
    assert 0.7 <= told / 200 <= 0.9


def test_holm_matches_a_hand_computed_table() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_the_interval_of_a_median_covers_it_with_correlated_tokens() -> None:
    hits = 0
    for repeat in range(REPEATS):
        tokens = correlated_documents(np.random.default_rng(repeat))
        owners = np.repeat(np.arange(len(tokens)), [len(t) for t in tokens])
        found = quantile(np.concatenate(tokens), owners, 0.5)
        hits += found.low <= 0.0 <= found.high
    assert 0.90 <= hits / REPEATS <= 0.98


def test_a_quantile_is_that_of_all_tokens() -> None:
    values = np.arange(101, dtype=np.float32)
    found = quantile(values, np.arange(101) // 10, 0.99)
    assert found.value == pytest.approx(99.0)
    assert found.low <= 99.0 <= found.high


def test_a_median_of_runs_spans_the_processes() -> None:
    found = median_of_groups([np.array([1.0, 1.1, 1.2]), np.array([2.0, 2.1, 2.2])])
    assert found.value == pytest.approx(1.6)
    assert found.low <= 1.2
    assert found.high >= 2.0
    assert found.n == 6


def test_groups_of_unlike_length_are_refused() -> None:
    with pytest.raises(DataError, match="equally many"):
        median_of_groups([np.array([])])


def test_ten_thousand_resamples_of_400_documents_take_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    started = time.process_time()
    differences(rng.normal(size=(8, 400)), np.ones(400))
    assert time.process_time() - started < 1.0
