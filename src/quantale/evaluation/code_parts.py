"""Perplexity of docstrings and of code, from scores of the protocol `code`; free of torch.

The function is the unit of the intervals. Models are paired by function.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantale.core.records import Measurement
from quantale.evaluation import stats
from quantale.evaluation.scores import DocumentScore, by_model, column
from quantale.evaluation.stats import Bootstrap, Estimate

TASK = "code"
PARTS = ("code", "docstring")

Floats = NDArray[np.float64]


def part_measurements(
    scores: Sequence[DocumentScore], base: str | None, protocol: str, how: Bootstrap
) -> list[Measurement]:
    """Return perplexity and bits per byte of both parts for every model.

    `extra` has `to_base`: the perplexity over the base's, minus 1, with its paired interval, and a
    p-value, Holm-corrected over the models. A part that no function has is left out.
    """
    found = []
    for part in PARTS:
        kept = [one for one in scores if one.document.endswith(f"#{part}")]
        if kept:
            found += _part(part, by_model(kept), base, protocol, how)
    return found


def _part(
    part: str,
    groups: dict[str, list[DocumentScore]],
    base: str | None,
    protocol: str,
    how: Bootstrap,
) -> list[Measurement]:
    extras = _differences(groups, base, how)
    found = []
    for model, own in groups.items():
        nll, tokens, sizes = (column(own, name) for name in ("nll", "tokens", "bytes"))
        perplexity = _exponential(stats.ratio(nll, tokens, how))
        bits = stats.ratio(nll / math.log(2), sizes, how)
        for metric, unit, estimate in (
            (f"perplexity_{part}", "per token", perplexity),
            (f"bits_per_byte_{part}", "bits/byte", bits),
        ):
            extra: dict[str, float | str | int] = {"tokens": int(tokens.sum())}
            if metric.startswith("perplexity"):
                extra |= extras.get(model, {})
            found.append(_measurement(model, metric, unit, estimate, protocol, extra, how))
    return found


def _differences(
    groups: dict[str, list[DocumentScore]], base: str | None, how: Bootstrap
) -> dict[str, dict[str, float | str | int]]:
    others = [model for model in groups if model != base]
    if base is None or not others:
        return {}
    reference, tokens = column(groups[base], "nll"), column(groups[base], "tokens")
    changes: Floats = np.array([column(groups[model], "nll") - reference for model in others])
    found = stats.differences(changes, tokens, how)
    adjusted = stats.holm([one.p_value() for one in found])
    extras: dict[str, dict[str, float | str | int]] = {}
    for model, one, p in zip(others, found, adjusted, strict=True):
        estimate = one.estimate
        extras[model] = {"to_base": math.expm1(estimate.value), "to_base_n": estimate.n}
        if math.isfinite(estimate.low) and math.isfinite(estimate.high):
            extras[model] |= {
                "to_base_low": math.expm1(estimate.low),
                "to_base_high": math.expm1(estimate.high),
                "to_base_p_holm": p,
            }
    return extras


def _exponential(estimate: Estimate) -> Estimate:
    value = math.exp(estimate.value)
    low, high = (math.exp(e) if math.isfinite(e) else e for e in (estimate.low, estimate.high))
    return Estimate(value, value * estimate.stderr, low, high, estimate.n)


def _measurement(
    model: str,
    metric: str,
    unit: str,
    estimate: Estimate,
    protocol: str,
    extra: dict[str, float | str | int],
    how: Bootstrap,
) -> Measurement:
    return Measurement(
        model=model,
        task=TASK,
        protocol=protocol,
        metric=metric,
        value=estimate.value,
        unit=unit,
        n=estimate.n,
        stderr=estimate.stderr if math.isfinite(estimate.stderr) else None,
        ci_low=estimate.low if math.isfinite(estimate.low) else None,
        ci_high=estimate.high if math.isfinite(estimate.high) else None,
        seed=how.seed,
        extra=extra,
    )
