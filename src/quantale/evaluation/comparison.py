"""Models against their base on the same documents: paired differences and verdicts.

Free of torch, so that result files can be compared anywhere. A margin is a relative loss of
perplexity; `bits_per_byte` states the same margin in its own unit. With several others the
verdicts are Holm-adjusted: each adjusted p-value tests that the true loss equals the margin.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from quantale.core.errors import UsageError, nearest
from quantale.evaluation.scores import DocumentScore, by_model, column
from quantale.evaluation.stats import (
    Bootstrap,
    Difference,
    Floats,
    Judgement,
    Verdict,
    differences,
    documents_needed,
    holm,
    judge,
)

_ALPHA = 0.05


@dataclass(frozen=True)
class Metric:
    """A loss per something that the documents fix; lower is better."""

    name: str
    unit: str
    scale: float
    """Factor from nats."""
    denominator: str
    """Field of the score that the loss is divided by, equal for all models."""


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "ln_perplexity": Metric("ln_perplexity", "nats/token", 1.0, "tokens"),
        "bits_per_byte": Metric("bits_per_byte", "bits/byte", 1 / math.log(2), "bytes"),
    }
)


@dataclass(frozen=True)
class Comparison:
    """One model against its base; a positive delta is a loss."""

    base: str
    other: str
    metric: str
    unit: str
    delta: float
    stderr: float | None
    ci_low: float | None
    """Lower end of the 95 % interval of delta, not adjusted for several others."""
    ci_high: float | None
    margin: float
    """In the unit of delta."""
    p_adjusted: float
    """Holm-adjusted p-value of "the true delta is the margin"."""
    verdict: Verdict
    n: int
    """Documents."""
    n_that_would_tell: int | None = None
    """Documents that would tell, where this comparison cannot."""


def compare(
    scores: Sequence[DocumentScore],
    base: str,
    *,
    metric: str = "ln_perplexity",
    margin: float = 0.01,
    how: Bootstrap | None = None,
) -> list[Comparison]:
    """Compare every other model with the base, paired by document.

    margin: tolerated relative loss of perplexity (0.01 is 1 %). Raises UsageError for an unknown
    base or metric, or when the models were not scored on the same documents and tokens.
    """
    groups = by_model(scores)
    if base not in groups:
        known = ", ".join(groups)
        raise UsageError(f"base {base!r} has no scores; there are {known}{nearest(base, groups)}")
    if metric not in METRICS:
        known = ", ".join(METRICS)
        raise UsageError(f"metric {metric!r} is none of {known}{nearest(metric, METRICS)}")
    others = [name for name in groups if name != base]
    if not others:
        return []
    chosen = METRICS[metric]
    paired = [_paired(groups[base], groups[name], chosen) for name in others]
    sizes = column(groups[base], chosen.denominator)
    bound = _margin(groups[base], chosen, margin)
    found = differences(np.stack(paired), sizes, how)
    adjusted = holm([one.p_value(bound) for one in found])
    return [
        _comparison(base, other, chosen, bound, one, p)
        for other, one, p in zip(others, found, adjusted, strict=True)
    ]


def _paired(
    base: Sequence[DocumentScore], other: Sequence[DocumentScore], metric: Metric
) -> Floats:
    """Return other minus base of each document, in the base's order."""
    theirs = {score.document: score for score in other}
    names = (base[0].model, other[0].model)
    if set(theirs) != {score.document for score in base}:
        raise UsageError(f"{names[0]!r} and {names[1]!r} were not scored on the same documents")
    matched = [theirs[score.document] for score in base]
    if not np.array_equal(column(base, metric.denominator), column(matched, metric.denominator)):
        raise UsageError(
            f"{names[0]!r} and {names[1]!r} scored other {metric.denominator} of the same "
            "documents: unlike tokenizers or protocols; only bits_per_byte of one protocol compares"
        )
    return metric.scale * (column(matched, "nll") - column(base, "nll"))


def _margin(base: Sequence[DocumentScore], metric: Metric, relative: float) -> float:
    """Return the relative perplexity margin in the unit of the metric."""
    per_unit = column(base, "tokens").sum() / column(base, metric.denominator).sum()
    return math.log1p(relative) * metric.scale * float(per_unit)


def _comparison(
    base: str, other: str, metric: Metric, margin: float, found: Difference, p_adjusted: float
) -> Comparison:
    estimate = found.estimate
    judged = judge(estimate, margin)
    if p_adjusted > _ALPHA:
        judged = Judgement(Verdict.CANNOT_TELL, documents_needed(estimate, margin))
    return Comparison(
        base=base,
        other=other,
        metric=metric.name,
        unit=metric.unit,
        delta=estimate.value,
        stderr=_finite(estimate.stderr),
        ci_low=_finite(estimate.low),
        ci_high=_finite(estimate.high),
        margin=margin,
        p_adjusted=p_adjusted,
        verdict=judged.verdict,
        n=estimate.n,
        n_that_would_tell=judged.n_that_would_tell,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
