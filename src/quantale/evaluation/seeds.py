"""Differences over several training seeds: documents are resampled, seeds get a t distribution.

A method trained with S seeds gives S models that score the same documents. Its estimate is the mean
over seeds; the error of that mean has two parts. Documents: the bootstrap of `stats`, on each
document's mean over seeds. Seeds: the spread s of the per-seed results, of which only S are known,
enters as s / sqrt(S) times a draw from Student's t with S - 1 degrees of freedom (Welch 1947 where
the two sides were trained with other seeds). Each resample adds one draw of either. Resampling
three seeds themselves would be far too narrow: it draws one seed three times in one of nine. The
spread of the seeds holds the interaction of seeds and documents too, so the sum is on the
wide side, never the narrow one. numpy only.
"""

import math
from collections.abc import Sequence

import numpy as np

from quantale.evaluation.stats import Bootstrap, Difference, Floats, interval_of

ENOUGH = 3
"""Training seeds from which on a difference is about methods and not about checkpoints."""


def is_about_methods(base_seeds: int, other_seeds: int) -> bool:
    """Say whether both sides have enough training seeds for a claim about methods."""
    return min(base_seeds, other_seeds) >= ENOUGH


def with_seed_spread(
    difference: Difference,
    base: Sequence[float],
    other: Sequence[float],
    how: Bootstrap | None = None,
    *,
    is_paired: bool,
) -> Difference:
    """Return the difference of means over seeds with the spread of the seeds added to its error.

    difference: of the documents' means over seeds. base, other: the result of each seed, in the
    difference's unit. is_paired: both sides have the same seeds, in the same order. A side of
    fewer than `ENOUGH` seeds is taken as it is: fixed checkpoints.
    """
    how = how or Bootstrap()
    estimate = difference.estimate
    stderr, freedom = _spread(base, other, is_paired)
    if stderr == 0.0 or not math.isfinite(estimate.stderr):
        return difference
    drawn = np.random.default_rng([how.seed, freedom]).standard_t(freedom, how.resamples)
    total = math.hypot(estimate.stderr, stderr)
    order = np.random.default_rng([how.seed, 0]).permutation(how.resamples)
    documents = difference.studentized[order] * estimate.stderr
    deviations = np.sort((documents + stderr * drawn) / total)
    return Difference(
        interval_of(estimate.value, total, deviations, estimate.n, how.level), deviations
    )


def _spread(base: Sequence[float], other: Sequence[float], is_paired: bool) -> tuple[float, int]:
    """Return the standard error that seeds bring into the difference, and its freedom."""
    if is_paired:
        sides = [np.subtract(other, base)]
    else:
        sides = [np.asarray(side, dtype=np.float64) for side in (base, other)]
    known: list[Floats] = [side for side in sides if side.size >= ENOUGH]
    if not known:
        return 0.0, 1
    variance = sum(float(side.var(ddof=1)) / side.size for side in known)
    return math.sqrt(variance), min(side.size for side in known) - 1
