"""Two accuracies: paired on the same documents, or from counts alone.

Paired: flips (right in one, wrong in the other), McNemar's exact test, and Tango's score interval
of the difference (Statistics in Medicine 17, 1998), which keeps a width where no document flips:
ten documents without a flip are no proof. From counts alone: the two-proportion test with pooled
variance and Newcombe's hybrid score interval (ibid., method 10). numpy and the standard library.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError
from quantale.evaluation.stats import LEVEL, Estimate, documents_needed, holm

_NORMAL = NormalDist()
_HALVINGS = 60


@dataclass(frozen=True)
class Flips:
    """Where two classifiers differ in being right, over n documents."""

    broken: int
    """Right in the base, wrong in the other."""
    fixed: int
    """Wrong in the base, right in the other."""
    n: int

    @classmethod
    def between(cls, base: NDArray[np.bool_], other: NDArray[np.bool_]) -> "Flips":
        """Count from (documents,) masks of right predictions."""
        return cls(int((base & ~other).sum()), int((~base & other).sum()), len(base))

    def mcnemar(self) -> float:
        """Return McNemar's exact two-sided p-value: a fair coin for each flip."""
        flips, fewer = self.broken + self.fixed, min(self.broken, self.fixed)
        if 2 * fewer >= flips:
            return 1.0
        logs = [_log_binomial(flips, k) for k in range(fewer + 1)]
        return min(1.0, 2 * math.fsum(math.exp(one - flips * math.log(2)) for one in logs))

    def score(self, loss: float) -> float:
        """Return Tango's statistic of "the true loss of accuracy is `loss`": standard normal."""
        b, c, n = self.broken, self.fixed, self.n
        linear = (2 * n - b + c) * loss - b - c
        constant = -c * loss * (1 - loss)
        fixed = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * fixed + loss * (1 - loss))
        distance = b - c - n * loss
        if variance <= 0:
            return 0.0 if distance == 0 else math.copysign(math.inf, distance)
        return distance / math.sqrt(variance)


@dataclass(frozen=True)
class AccuracyLoss:
    """Accuracy of the base less that of the other, paired; see `stats.Difference`."""

    flips: Flips
    estimate: Estimate

    def p_value(self, margin: float = 0.0) -> float:
        """Return McNemar's exact p-value for no loss, the score test's for another one."""
        if self.estimate.stderr == 0.0 and self.estimate.low == self.estimate.high:
            return 1.0 if margin == self.estimate.value else 0.0
        if margin == 0.0:
            return self.flips.mcnemar()
        return 2 * _NORMAL.cdf(-abs(self.flips.score(margin)))

    def documents_needed(self, margin: float) -> int | None:
        """Return how many documents with such a share of flips tell the loss from `margin`."""
        b, c, n = self.flips.broken, self.flips.fixed, self.flips.n
        if b + c == 0:
            z = _NORMAL.inv_cdf(0.5 + LEVEL / 2)
            return math.ceil(z * z * (1 - margin) / margin) if margin > 0 else None
        stderr = math.sqrt(b + c - (b - c) ** 2 / n) / n
        return documents_needed(replace(self.estimate, stderr=stderr), margin)


def accuracy_loss(
    flips: Flips, *, is_identical: bool = False, level: float = LEVEL
) -> AccuracyLoss:
    """Return the paired loss with Tango's interval.

    is_identical: both gave the same probabilities on every document, to the bit. They are one
    function then, and the difference is zero and not an estimate of zero.
    """
    if flips.n < 1:
        raise DataError("statistics need at least one document with something scored, none came")
    value = (flips.broken - flips.fixed) / flips.n
    if is_identical:
        return AccuracyLoss(flips, Estimate(0.0, 0.0, 0.0, 0.0, flips.n))
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    low = _crossing(lambda loss: flips.score(loss) - z, -1.0, value)
    high = _crossing(lambda loss: flips.score(loss) + z, value, 1.0)
    return AccuracyLoss(flips, Estimate(value, (high - low) / (2 * z), low, high, flips.n))


@dataclass(frozen=True)
class Apart:
    """What counts alone say of several accuracies."""

    told_apart: tuple[tuple[str, str], ...]
    """Pairs whose Holm-adjusted p-value is at most 5 %."""
    p_holm: Mapping[tuple[str, str], float]

    @property
    def verdict(self) -> str:
        """Return "cannot tell apart" unless some pair was."""
        return "told apart" if self.told_apart else "cannot tell apart"


def apart_from_counts(counts: Mapping[str, tuple[int, int]], level: float = LEVEL) -> Apart:
    """Compare accuracies of which only (right, n) is known, unpaired, pair by pair with Holm.

    On the same test rows this is cautious: it knows nothing of the rows both got right.
    """
    pairs = list(combinations(counts, 2))
    p_values = holm([two_proportions(counts[a], counts[b])[1] for a, b in pairs])
    found = dict(zip(pairs, p_values, strict=True))
    return Apart(tuple(pair for pair, p in found.items() if p <= 1 - level), found)


def two_proportions(
    base: tuple[int, int], other: tuple[int, int], level: float = LEVEL
) -> tuple[Estimate, float]:
    """Return base's share less the other's, unpaired, and the p-value of "the same".

    base, other: (right, n). The estimate's n is the smaller one.
    """
    for right, n in (base, other):
        if n < 1 or not 0 <= right <= n:
            raise DataError(f"{right} right of {n} is no accuracy")
    (a, n), (b, m) = base, other
    first, second, pooled = a / n, b / m, (a + b) / (n + m)
    stderr = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    p = 1.0 if stderr == 0 else 2 * _NORMAL.cdf(-abs(first - second) / stderr)
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    (low_1, high_1), (low_2, high_2) = wilson(a, n, z), wilson(b, m, z)
    low = first - second - math.hypot(first - low_1, high_2 - second)
    high = first - second + math.hypot(high_1 - first, second - low_2)
    return Estimate(first - second, stderr, low, high, min(n, m)), p


def wilson(right: int, n: int, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share."""
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def wilson_estimate(right: int, n: int, level: float = LEVEL) -> Estimate:
    """Return an accuracy with Wilson's interval."""
    low, high = wilson(right, n, _NORMAL.inv_cdf(0.5 + level / 2))
    share = right / n
    return Estimate(share, math.sqrt(share * (1 - share) / n), low, high, n)


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses zero between two ends, by halving."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2
