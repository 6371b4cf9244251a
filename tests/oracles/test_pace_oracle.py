"""Intervals of a median by order statistics, against the binomial law and by simulation."""

import numpy as np
import pytest

from quantale.core.errors import UsageError
from quantale.evaluation.pace import FEWEST, Pace, left_out, ratio


def coverage(count: int, cut: int) -> float:
    """Return how often values on both sides of the median remain, over all patterns of sides."""
    below = np.bitwise_count(np.arange(2**count))
    return float(((below > cut) & (count - below > cut)).mean())


@pytest.mark.parametrize("count", range(6, 19))
def test_as_many_values_are_left_out_as_keep_the_coverage(count: int) -> None:
    assert coverage(count, left_out(count)) >= 0.95
    assert coverage(count, left_out(count) + 1) < 0.95


@pytest.mark.parametrize("rounds", [6, 10, 15])
def test_the_interval_covers_the_true_ratio_of_skewed_times(rounds: int) -> None:
    """Rounds of unequal slowness, log-normal noise with a heavy tail: 95 % and more."""
    rng = np.random.default_rng(rounds)
    covered, repeats = 0, 2000
    for _ in range(repeats):
        slow = np.exp(rng.exponential(1.0, rounds))[:, None]
        noise = np.exp(0.1 * rng.standard_t(2, (2, rounds, 3)))
        found = ratio((slow * noise[0] * 1.3).tolist(), (slow * noise[1]).tolist())
        covered += found.low <= 1.3 <= found.high
    assert covered / repeats >= 0.94


def test_a_model_twice_as_fast_is_found_on_a_machine_that_slows_down_tenfold() -> None:
    slow = [1.0, 1.5, 3.0, 6.0, 9.0, 10.0]
    base = [[2 * one, 2.1 * one] for one in slow]
    ours = [[one, 1.1 * one] for one in slow]
    assert ratio(ours, base).pace is Pace.FASTER
    assert ratio(base, ours).pace is Pace.SLOWER
    assert ratio(ours, ours).pace is Pace.SAME


def test_too_few_rounds_say_so_whatever_they_show() -> None:
    found = ratio([[1.0]] * (FEWEST - 1), [[2.0]] * (FEWEST - 1))
    assert found.pace is Pace.TOO_FEW
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_unlike_rounds_are_refused() -> None:
    with pytest.raises(UsageError, match="2 and 1 rounds cannot be paired"):
        ratio([[1.0], [1.0]], [[1.0]])
