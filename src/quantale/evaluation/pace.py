"""Is one model faster than another? Ratios of neighbours in time, and an interval without a model.

Both models were timed in every round, one soon after the other, so a slow round is slow for both
and their ratio keeps out what the machine does meanwhile. The interval of the median ratio is made
of order statistics: it covers at least 95 % whatever the distribution (Thompson, "On confidence
ranges for the median", Annals of Mathematical Statistics 7, 1936), and needs six rounds for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb
from statistics import median

from quantale.core.errors import UsageError

FEWEST = 6
"""Rounds: the extremes of five cover 93.75 %."""
_MISSED = 0.05


class Pace(StrEnum):
    """What the ratios say."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference"
    TOO_FEW = "too few rounds"


@dataclass(frozen=True)
class Ratio:
    """Time of one model over that of another in the same rounds."""

    value: float
    """Median over rounds; below 1 is faster."""
    low: float
    high: float
    rounds: int

    @property
    def pace(self) -> Pace:
        """What it says, at 95 %."""
        if self.rounds < FEWEST:
            return Pace.TOO_FEW
        if self.low > 1:
            return Pace.SLOWER
        return Pace.FASTER if self.high < 1 else Pace.SAME


def ratio(times: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> Ratio:
    """Return times over base; each holds the runs of every round, whose medians are paired.

    With fewer than `FEWEST` rounds the interval is from the smallest to the largest ratio. Raises
    UsageError when the rounds cannot be paired.
    """
    if len(times) != len(base) or not times:
        raise UsageError(f"{len(times)} and {len(base)} rounds cannot be paired")
    found = sorted(median(ours) / median(theirs) for ours, theirs in zip(times, base, strict=True))
    cut = left_out(len(found))
    return Ratio(median(found), found[cut], found[-1 - cut], len(found))


def left_out(count: int) -> int:
    """Return how many values at each end the 95 % interval of a median leaves out.

    With k left out it misses the median with probability 2 * P(Binomial(count, 1/2) <= k).
    """
    k, missed = -1, 0.0
    while True:
        missed += 2 * comb(count, k + 1) / 2**count
        if missed > _MISSED:
            return max(k, 0)
        k += 1
