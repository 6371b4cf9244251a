"""Means over prompts with an interval that is finite for rare events too.

The studentized interval has no end, or a wild one, where a resample can miss every case of a rare
event, such as two stories of a hundred with a loop: its own error is zero then, or rounding. Where
an end lies outside of all values, which no mean can, the plain percentile interval is taken for
both. Values that are all equal have an interval without width; with n
prompts the true share of an event that never came is still up to about 3 / n.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quantale.evaluation import stats
from quantale.evaluation.stats import Bootstrap, Difference

Floats = NDArray[np.float64]

_CHUNK = 1_000_000


def mean_over_prompts(values: Floats, how: Bootstrap) -> Difference:
    """Return the mean of (prompts,) values, or of differences, with its interval and p-value."""
    found = stats.differences(values[None, :], np.ones(len(values)), how)[0]
    estimate = found.estimate
    if len(values) < 2 or values.min() <= estimate.low <= estimate.high <= values.max():
        return found
    means = np.concatenate(list(_resampled_means(values, how)))
    tail = (1 - how.level) / 2
    low, high = (float(end) for end in np.quantile(means, [tail, 1 - tail]))
    return replace(found, estimate=replace(estimate, low=low, high=high))


def _resampled_means(values: Floats, how: Bootstrap) -> Iterator[Floats]:
    rng = np.random.default_rng(how.seed)
    chunk = max(1, _CHUNK // len(values))
    for start in range(0, how.resamples, chunk):
        size = min(chunk, how.resamples - start)
        yield values[rng.integers(0, len(values), size=(size, len(values)))].mean(axis=1)
