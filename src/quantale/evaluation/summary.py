"""Document scores as Measurements, with intervals clustered by document; free of torch.

A rate is a sum over documents divided by the sum of their tokens, words or bytes. All rates with
one divisor, of all models, share one bootstrap: each model is seen on the same resamples.
Comparisons with a base are paired: what is resampled is the difference of each document.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantale.core.errors import DataError, UsageError, nearest
from quantale.core.records import Measurement
from quantale.evaluation.scores import DocumentScore, Floats, by_model, column
from quantale.evaluation.stats import Bootstrap, Estimate, differences, quantile

TASK = "language"

_LARGEST_EXPONENT = 700.0  # exp of more is not a float64

Transform = Callable[[Estimate], Estimate]


@dataclass(frozen=True)
class _Rate:
    """One row of a bootstrap and the metrics that are read off it."""

    divisor: str
    """Field of `DocumentScore`."""
    sums: Floats
    """(documents,)."""
    metrics: tuple[tuple[str, str, Transform], ...]
    """Name, unit, and how the rate becomes the metric."""
    extra: Mapping[str, float | str | int]


def measurements(
    scores: Sequence[DocumentScore],
    protocol: str,
    how: Bootstrap | None = None,
    base: str | None = None,
) -> list[Measurement]:
    """Return all metrics of all models; divergence ones where the scores were made with a base.

    base: its name, for the paired perplexity ratio. Fields that the scores do not know (kernel,
    dtype, hashes, provenance) are left empty. Raises DataError when the models scored different
    units, UsageError for a base that is not there.
    """
    how = how or Bootstrap()
    groups = by_model(scores)
    _check_alike(groups)
    if base is not None and base not in groups:
        raise UsageError(f"no base {base!r} in the scores{nearest(base, groups)}")
    against = None if base is None else column(groups[base], "nll")
    rates = {name: list(_rates(own, against, base)) for name, own in groups.items()}
    flat = [rate for own in rates.values() for rate in own]
    estimates = iter(_estimates(flat, next(iter(groups.values()), ()), how))
    found: list[Measurement] = []
    for name, own in groups.items():
        for rate in rates[name]:
            found += _read_off(name, rate, next(estimates))
        found += _quantiles(name, own, how, base)
    return [replace(one, protocol=protocol, seed=how.seed) for one in found]


def _check_alike(groups: Mapping[str, Sequence[DocumentScore]]) -> None:
    sizes = {
        name: [(one.document, one.tokens, one.bytes, one.words) for one in own]
        for name, own in groups.items()
    }
    first, *rest = sizes or [""]
    for name in rest:
        if sizes[name] != sizes[first]:
            raise DataError(f"{first!r} and {name!r} scored different units; summarise them apart")


def _rates(
    scores: Sequence[DocumentScore], against: Floats | None, base: str | None
) -> Iterator[_Rate]:
    nll = column(scores, "nll")
    names = ("tokens", "words", "bytes", "unknown")
    counts = {name: int(column(scores, name).sum()) for name in names}
    perplexity = ("perplexity", "per token", exponential)
    yield _Rate("tokens", nll, (perplexity, ("nll_per_token", "nats/token", _as_it_is)), counts)
    if counts["words"]:
        yield _Rate("words", nll, (("word_perplexity", "per word", exponential),), counts)
    if counts["bytes"]:
        per_byte = ("byte_perplexity", "per byte", exponential)
        bits = ("bits_per_byte", "bits/byte", _in_bits)
        yield _Rate("bytes", nll, (bits, per_byte), counts)
    if any(score.kl_sum is None for score in scores):
        return
    extra = {} if base is None else {"base": base}
    mean = ("kl_mean", "nats/token", _as_it_is)
    yield _Rate("tokens", column(scores, "kl_sum"), (mean,), extra)
    agreement = ("top1_agreement", "share", _as_it_is)
    yield _Rate("tokens", column(scores, "top1_same"), (agreement,), extra)
    if against is not None:
        both = (
            ("perplexity_ratio", "ratio", exponential),
            ("log_perplexity_ratio", "nats/token", _as_it_is),
        )
        yield _Rate("tokens", nll - against, both, extra)


def _estimates(
    rates: Sequence[_Rate], units: Sequence[DocumentScore], how: Bootstrap
) -> list[Estimate]:
    """Return the estimate of every rate; one bootstrap a divisor."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, rate in enumerate(rates):
        rows[rate.divisor].append(i)
    found: dict[int, Estimate] = {}
    for divisor, chosen in rows.items():
        sums = np.array([rates[i].sums for i in chosen])
        for i, one in zip(chosen, differences(sums, column(units, divisor), how), strict=True):
            found[i] = one.estimate
    return [found[i] for i in range(len(rates))]


def _read_off(model: str, rate: _Rate, estimate: Estimate) -> Iterator[Measurement]:
    for metric, unit, transform in rate.metrics:
        one = _measurement(model, metric, unit, transform(estimate))
        yield replace(one, extra=dict(rate.extra))


def _quantiles(
    model: str, scores: Sequence[DocumentScore], how: Bootstrap, base: str | None
) -> Iterator[Measurement]:
    kept = [score.kl_tokens for score in scores if score.kl_tokens is not None]
    if not kept or len(kept) < len(scores):
        return
    values = np.concatenate(kept)
    owners = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
    for metric, probability in (("kl_median", 0.5), ("kl_p99", 0.99)):
        found = quantile(values, owners, probability, how.level)
        one = _measurement(model, metric, "nats/token", found)
        yield replace(one, extra={} if base is None else {"base": base})


def exponential(estimate: Estimate) -> Estimate:
    """Return exp of an estimate; the standard error by the delta method."""
    value = _exp(estimate.value)
    low = _exp(estimate.low) if math.isfinite(estimate.low) else -math.inf
    return Estimate(value, value * estimate.stderr, low, _exp(estimate.high), estimate.n)


def _in_bits(estimate: Estimate) -> Estimate:
    nats = (estimate.value, estimate.stderr, estimate.low, estimate.high)
    value, stderr, low, high = (number / math.log(2) for number in nats)
    return Estimate(value, stderr, low, high, estimate.n)


def _as_it_is(estimate: Estimate) -> Estimate:
    return estimate


def _exp(value: float) -> float:
    return math.exp(value) if value < _LARGEST_EXPONENT else math.inf


def _measurement(model: str, metric: str, unit: str, estimate: Estimate) -> Measurement:
    return Measurement(
        model=model,
        task=TASK,
        protocol="",
        metric=metric,
        value=estimate.value,
        unit=unit,
        n=estimate.n,
        stderr=_finite(estimate.stderr),
        ci_low=_finite(estimate.low),
        ci_high=_finite(estimate.high),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
