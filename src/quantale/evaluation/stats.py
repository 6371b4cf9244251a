"""Intervals, paired differences and verdicts that treat the document as the unit.

Tokens of one document are correlated, so an interval over tokens is far too narrow. Everything
here resamples whole documents. A statistic is a ratio of sums, such as total nll over total
tokens. Its interval is the studentized (bootstrap-t) one: each resample carries its own
linearised standard error, which keeps the coverage with few documents and skewed sums, where
the plain percentile interval is too narrow. numpy only, float64 throughout.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK_ELEMENTS = 4_000_000
_ROUNDING = 1e-13  # a relative error below this is float64 noise, not spread


@dataclass(frozen=True)
class Estimate:
    """A statistic with its standard error and interval; not finite where n is too small."""

    value: float
    stderr: float
    low: float
    high: float
    n: int
    """How many documents (or other independent units) it rests on."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn; the same seed and n give the same resamples to every statistic."""

    resamples: int = RESAMPLES
    seed: int = 0
    level: float = LEVEL


@dataclass(frozen=True)
class Difference:
    """Other minus base on the same units, with what a test against a margin needs."""

    estimate: Estimate
    studentized: Floats
    """(resamples,): deviation of each resample over its own standard error, sorted."""

    def p_value(self, margin: float = 0.0) -> float:
        """Return the two-sided bootstrap p-value of "the true difference is `margin`"."""
        distance = self.estimate.value - margin
        count = len(self.studentized)
        if math.isinf(self.estimate.stderr):
            return 1.0
        if self.estimate.stderr == 0.0:
            return 1.0 if distance == 0.0 else 0.0
        observed = distance / self.estimate.stderr
        below = int(np.searchsorted(self.studentized, observed, side="right"))
        above = count - int(np.searchsorted(self.studentized, observed, side="left"))
        return min(1.0, 2.0 * (min(below, above) + 1) / (count + 1))

    def documents_needed(self, margin: float) -> int | None:
        """Return how many such documents tell it from `margin`, None where none would."""
        return documents_needed(self.estimate, margin)


class Verdict(StrEnum):
    """What a comparison says about a declared margin."""

    PASS = "PASS"
    FAIL = "FAIL"
    CANNOT_TELL = "CANNOT TELL"


@dataclass(frozen=True)
class Judgement:
    """A verdict and, where it cannot tell, the number of documents that would."""

    verdict: Verdict
    n_that_would_tell: int | None = None


def ratio(numerators: Floats, denominators: Floats, how: Bootstrap | None = None) -> Estimate:
    """Return sum(numerators) / sum(denominators) over documents; both are (documents,)."""
    return differences(np.asarray(numerators)[None, :], denominators, how)[0].estimate


def differences(
    changes: Floats, denominators: Floats, how: Bootstrap | None = None
) -> list[Difference]:
    """Return one paired difference a row: sum(change) / sum(denominators).

    changes: (others, documents), other minus base of each document. All rows share the resamples.
    Raises DataError when there is no document or nothing to divide by.
    """
    how = how or Bootstrap()
    changes = np.atleast_2d(np.asarray(changes, dtype=np.float64))
    sizes = np.asarray(denominators, dtype=np.float64)
    if sizes.size == 0 or sizes.sum() <= 0:
        raise DataError("statistics need at least one document with something scored, none came")
    values = changes.sum(axis=1) / sizes.sum()
    errors = changes - values[:, None] * sizes
    stderrs = _stderr((errors**2).sum(axis=1), sizes.sum(), sizes.size)
    stderrs[stderrs <= _ROUNDING * np.abs(values)] = 0.0
    deviations = _studentized(errors, sizes, how)
    return [
        Difference(interval_of(value, stderr, row, sizes.size, how.level), row)
        for value, stderr, row in zip(values.tolist(), stderrs.tolist(), deviations, strict=True)
    ]


def quantile(
    values: NDArray[np.floating],
    owners: NDArray[np.integer],
    probability: float,
    level: float = LEVEL,
) -> Estimate:
    """Return a quantile over tokens whose interval is clustered by document (Woodruff 1952).

    values: (tokens,); owners: (tokens,), the document of each. The clustered error of the share
    of tokens below the quantile is carried back through the empirical distribution.
    """
    if values.size == 0:
        raise DataError("a quantile needs at least one value, none came")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    value = float(np.quantile(ordered, probability))
    _, codes = np.unique(owners, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    errors = np.bincount(codes, weights=(values <= value)) - sizes * np.mean(values <= value)
    spread = float(_stderr(np.array([np.sum(errors**2)]), sizes.sum(), sizes.size)[0])
    if math.isinf(spread):
        return Estimate(value, math.inf, -math.inf, math.inf, sizes.size)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    ends = np.clip([probability - z * spread, probability + z * spread], 0.0, 1.0)
    low, high = (float(end) for end in np.quantile(ordered, ends))
    return Estimate(value, (high - low) / (2 * z), low, high, sizes.size)


def median_of_groups(groups: Sequence[Floats], how: Bootstrap | None = None) -> Estimate:
    """Return the median over all runs, resampling groups (processes) and runs within each.

    groups: one (runs,) array a process, all of one length. n is the number of all runs.
    """
    how = how or Bootstrap()
    table = np.asarray(groups, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise DataError(f"a median needs groups of equally many runs, shape {table.shape} came")
    rng = np.random.default_rng(how.seed)
    count, runs = table.shape
    rows = rng.integers(0, count, size=(how.resamples, count, 1))
    columns = rng.integers(0, runs, size=(how.resamples, count, runs))
    medians = np.median(table[rows, columns].reshape(how.resamples, -1), axis=1)
    tail = (1 - how.level) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    value = float(np.median(table))
    return Estimate(value, float(medians.std()), float(low), float(high), table.size)


def interval_of(
    value: float, stderr: float, deviations: Floats, n: int, level: float = LEVEL
) -> Estimate:
    """Return the bootstrap-t interval; deviations: (resamples,), over their errors, sorted."""
    if math.isinf(stderr):
        return Estimate(value, stderr, -math.inf, math.inf, n)
    if stderr == 0.0:
        return Estimate(value, 0.0, value, value, n)
    tail = (1 - level) / 2
    low, high = np.quantile(deviations, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(value, stderr, value - stderr * float(high), value - stderr * float(low), n)


def judge(estimate: Estimate, margin: float, *, power: float = 0.8) -> Judgement:
    """Say whether a loss (positive is worse) stays within `margin`, exceeds it, or neither.

    The n that would tell is for the difference seen here, found with probability `power`.
    """
    if estimate.high <= margin:
        return Judgement(Verdict.PASS)
    if estimate.low > margin:
        return Judgement(Verdict.FAIL)
    needed = documents_needed(estimate, margin, power=power)
    return Judgement(Verdict.CANNOT_TELL, needed and max(needed, estimate.n + 1))


def documents_needed(
    estimate: Estimate, margin: float, *, level: float = LEVEL, power: float = 0.8
) -> int | None:
    """Return how many such documents tell the estimate from the margin, None where none would."""
    distance = abs(estimate.value - margin)
    if distance == 0.0 or not math.isfinite(estimate.stderr):
        return None
    normal = NormalDist()
    reach = normal.inv_cdf(0.5 + level / 2) + normal.inv_cdf(power)
    return max(2, math.ceil(estimate.n * (reach * estimate.stderr / distance) ** 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _studentized(errors: Floats, sizes: Floats, how: Bootstrap) -> Floats:
    """Return (rows, resamples), each row sorted; 0/0 counts as no deviation."""
    rows, n = errors.shape
    if n < 2:
        return np.zeros((rows, how.resamples))
    columns = np.vstack([errors, errors**2, errors * sizes, sizes, sizes**2]).T
    found = []
    for counts in _resampled_counts(n, how):
        sums = counts @ columns
        total, squares = sums[:, -2:-1], sums[:, -1:]
        shift = sums[:, :rows] / total
        residual = sums[:, rows : 2 * rows] - 2 * shift * sums[:, 2 * rows : 3 * rows]
        stderr = _stderr(residual + shift**2 * squares, total, n)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.where(shift == 0.0, 0.0, shift / stderr))
    return np.sort(np.concatenate(found).T, axis=1)


def _resampled_counts(n: int, how: Bootstrap) -> Iterator[Floats]:
    """Yield (chunk, n) arrays: how often each resample holds each document."""
    rng = np.random.default_rng(how.seed)
    chunk = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, how.resamples, chunk):
        size = min(chunk, how.resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n)
        yield counts.reshape(size, n).astype(np.float64)


def _stderr(squared_errors: Floats, total: Floats | float, n: int) -> Floats:
    """Return the linearised standard error of a ratio of sums over n documents."""
    if n < 2:
        return np.full_like(squared_errors, math.inf)
    return np.sqrt(np.maximum(squared_errors, 0.0) * n / (n - 1)) / total
