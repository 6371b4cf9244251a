"""What several training seeds add to a paired difference."""

import math

import numpy as np
import pytest

from quantale.evaluation.seeds import is_about_methods, with_seed_spread
from quantale.evaluation.stats import Bootstrap, differences

SIZES = np.full(400, 100.0)
HOW = Bootstrap(resamples=4000)


def change(value: float = 0.02, noise: float = 0.0) -> np.ndarray:
    return SIZES * (value + noise * np.random.default_rng(0).normal(size=SIZES.size))


def test_with_steady_documents_the_interval_is_students_over_the_seeds() -> None:
    """Three seeds have two degrees of freedom: 4.303 standard errors each way."""
    (documents,) = differences(change(), SIZES, HOW)
    base, other = [0.0, 0.01, -0.01], [0.03, 0.01, 0.02]
    found = with_seed_spread(documents, base, other, HOW, is_paired=True).estimate
    stderr = np.std(np.subtract(other, base), ddof=1) / math.sqrt(3)
    assert found.value == documents.estimate.value
    assert found.stderr == pytest.approx(stderr)
    assert (found.high - found.low) / 2 == pytest.approx(4.303 * stderr, rel=0.1)


def test_seeds_that_agree_add_nothing() -> None:
    (documents,) = differences(change(noise=0.1), SIZES, HOW)
    steady = with_seed_spread(documents, [1.0] * 3, [1.02] * 3, HOW, is_paired=True)
    assert steady.estimate.stderr == pytest.approx(documents.estimate.stderr)


def test_two_seeds_are_checkpoints_and_not_a_method() -> None:
    (documents,) = differences(change(noise=0.1), SIZES, HOW)
    assert with_seed_spread(documents, [0.0, 9.0], [5.0, 1.0], HOW, is_paired=False) == documents
    assert [is_about_methods(*pair) for pair in ((3, 3), (3, 2), (1, 5))] == [True, False, False]


def test_unpaired_seeds_add_the_spread_of_both_sides() -> None:
    (documents,) = differences(change(), SIZES, HOW)
    base, other = [0.0, 0.02, 0.04, 0.06], [0.1, 0.1, 0.13]
    found = with_seed_spread(documents, base, other, HOW, is_paired=False).estimate
    expected = math.sqrt(np.var(base, ddof=1) / 4 + np.var(other, ddof=1) / 3)
    assert found.stderr == pytest.approx(expected)


def test_the_same_seed_of_the_bootstrap_gives_the_same_interval() -> None:
    (documents,) = differences(change(noise=0.1), SIZES, HOW)
    first, second = (
        with_seed_spread(documents, [0, 1, 2], [1, 1, 1], HOW, is_paired=True).estimate
        for _ in range(2)
    )
    assert first == second
