"""Document scores as Measurements, with intervals clustered by document; free of torch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from quantale.core.records import Measurement
from quantale.evaluation.scores import DocumentScore, by_model, column
from quantale.evaluation.stats import Bootstrap, Estimate, quantile, ratio

TASK = "language"

_LARGEST_EXPONENT = 700.0  # exp of more is not a float64


def measurements(
    scores: Sequence[DocumentScore], protocol: str, how: Bootstrap | None = None
) -> list[Measurement]:
    """Return all metrics of all models; divergence ones where a base was given.

    Fields that the scores do not know (kernel, dtype, hashes, provenance) are left empty.
    """
    how = how or Bootstrap()
    return [
        replace(one, protocol=protocol, seed=how.seed)
        for model, own in by_model(scores).items()
        for one in [*_language(model, own, how), *_divergence(model, own, how)]
    ]


def _language(model: str, scores: Sequence[DocumentScore], how: Bootstrap) -> Iterator[Measurement]:
    nll, tokens, sizes = (column(scores, name) for name in ("nll", "tokens", "bytes"))
    extra: dict[str, float | str | int] = {
        "tokens": int(tokens.sum()),
        "bytes": int(sizes.sum()),
        "unknown": sum(score.unknown for score in scores),
    }
    per_token = ratio(nll, tokens, how)
    found = [
        _measurement(model, "perplexity", "per token", _exponential(per_token)),
        _measurement(model, "nll_per_token", "nats/token", per_token),
    ]
    if sizes.sum() > 0:
        per_byte = ratio(nll / math.log(2), sizes, how)
        found.append(_measurement(model, "bits_per_byte", "bits/byte", per_byte))
    for one in found:
        yield replace(one, extra=extra)


def _divergence(
    model: str, scores: Sequence[DocumentScore], how: Bootstrap
) -> Iterator[Measurement]:
    if any(score.kl_sum is None for score in scores):
        return
    tokens = column(scores, "tokens")
    mean = ratio(column(scores, "kl_sum"), tokens, how)
    yield _measurement(model, "kl_mean", "nats/token", mean)
    agreement = ratio(column(scores, "top1_same"), tokens, how)
    yield _measurement(model, "top1_agreement", "share", agreement)
    kept = [score.kl_tokens for score in scores if score.kl_tokens is not None]
    if len(kept) < len(scores):
        return
    owners = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
    for metric, probability in (("kl_median", 0.5), ("kl_p99", 0.99)):
        found = quantile(np.concatenate(kept), owners, probability, how.level)
        yield _measurement(model, metric, "nats/token", found)


def _exponential(estimate: Estimate) -> Estimate:
    """Return exp of an estimate; the standard error by the delta method."""
    value = _exp(estimate.value)
    low = _exp(estimate.low) if math.isfinite(estimate.low) else -math.inf
    return Estimate(value, value * estimate.stderr, low, _exp(estimate.high), estimate.n)


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
