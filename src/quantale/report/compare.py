"""Verdicts from result files alone: paired by document, with intervals and a declared margin.

The same documents, protocol and tokenizer are required; unlike numbers are refused, never
ranked. Across tokenizers only bits per byte may be compared, and only when asked for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from quantale.core.errors import UsageError, nearest
from quantale.evaluation import stats
from quantale.evaluation.stats import Bootstrap, Difference, Judgement, Verdict
from quantale.report.scored import FINGERPRINT, Scored, read_scored

_NAMES = {"protocol": "protocol", "data_sha256": "data", "tokenizer_sha256": "tokenizer"}


@dataclass(frozen=True)
class Scale:
    """How a paired mean becomes the number that is reported, and a margin the mean."""

    divisor: Callable[[Scored], Sequence[int]]
    unit: float
    """Nats in one unit of the paired mean."""
    shown: Callable[[float], float]
    hidden: Callable[[float], float]
    """The inverse of `shown`."""


SCALES = {
    "perplexity": Scale(lambda scored: scored.tokens, 1.0, math.expm1, math.log1p),
    "bits_per_byte": Scale(lambda scored: scored.size, math.log(2), float, float),
}


def compare_files(
    base: Path,
    others: Sequence[Path],
    margin: float,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
    *,
    metric: str = "perplexity",
) -> dict[str, Any]:
    """Compare every other model with the base; return `verdict` and `pairs`.

    margin: in the metric's unit: relative perplexity (0.01 is 1 %) or bits per byte. Without
    others, the first model of the base's file is compared with the rest of that file.
    """
    if metric not in SCALES:
        known = ", ".join(SCALES)
        raise UsageError(f"metric {metric!r} is unknown{nearest(metric, SCALES)}; known: {known}")
    first, *rest = read_scored(base)
    if others and rest:
        names = [scored.model for scored in (first, *rest)]
        raise UsageError(f"{base}: holds {names}; pick the base with {base}#{first.model}")
    rest += [scored for path in others for scored in read_scored(path)]
    return compare_scored(first, rest, margin, Bootstrap(resamples, seed), metric=metric)


def compare_scored(
    base: Scored,
    others: Sequence[Scored],
    margin: float,
    how: Bootstrap | None = None,
    *,
    metric: str = "perplexity",
) -> dict[str, Any]:
    """Compare models that were read or measured already; see `compare_files`.

    Verdicts hold for all others together: with several, their p-values are Holm-adjusted.
    """
    if not others:
        raise UsageError("a comparison needs a base and at least one other model; one came")
    if not math.isfinite(margin) or margin < 0:
        raise UsageError(f"a margin is a number from 0 up, such as 0.01; {margin} came")
    for other in others:
        refuse_unlike(base, other, metric)
    differences = _differences([(base, other) for other in others], metric, how)
    adjusted = stats.holm([difference.p_value() for difference in differences])
    bound = SCALES[metric].hidden(margin)
    against = stats.holm([difference.p_value(bound) for difference in differences])
    pairs = [
        {
            "base": base.model,
            "other": other.model,
            "metric": metric,
            **_judged(difference, margin, SCALES[metric], p_margin),
            "p_holm": p,
            "n": len(base.documents),
        }
        for other, difference, p, p_margin in zip(
            others, differences, adjusted, against, strict=True
        )
    ]
    return {"verdict": _overall([pair["verdict"] for pair in pairs]), "pairs": pairs}


def tied_models(
    scored: Sequence[Scored], how: Bootstrap | None = None, *, metric: str = "bits_per_byte"
) -> tuple[tuple[str, str], ...]:
    """Return the pairs of models whose paired interval holds zero: ties, as the page draws them."""
    pairs = list(combinations(scored, 2))
    if not pairs:
        return ()
    for first, second in pairs:
        refuse_unlike(first, second, metric)
    differences = _differences(pairs, metric, how)
    return tuple(
        (first.model, second.model)
        for (first, second), difference in zip(pairs, differences, strict=True)
        if difference.estimate.low <= 0.0 <= difference.estimate.high
    )


def refuse_unlike(base: Scored, other: Scored, metric: str) -> None:
    """Raise UsageError where two results were not measured alike."""
    across_tokenizers = metric == "bits_per_byte"
    for key in FINGERPRINT:
        mine, theirs = base.fingerprint.get(key), other.fingerprint.get(key)
        if not mine or not theirs or mine == theirs:
            continue
        if key == "tokenizer_sha256" and across_tokenizers:
            continue
        raise UsageError(_unlike(base, other, _NAMES[key], mine, theirs))
    _refuse_unlike_documents(base, other)
    if not across_tokenizers and base.tokens != other.tokens:
        raise UsageError(_unlike(base, other, "tokenizer", sum(base.tokens), sum(other.tokens)))


def _refuse_unlike_documents(base: Scored, other: Scored) -> None:
    if base.documents == other.documents and base.size == other.size:
        return
    odd = sorted(set(base.documents).symmetric_difference(other.documents))
    where = f", for example {odd[0]!r}" if odd else ", the same names with other texts"
    raise UsageError(
        f"{base.model} and {other.model} were measured on other documents ({len(base.documents)} "
        f"and {len(other.documents)}{where}); evaluate both with the same --data and --limit"
    )


def _unlike(base: Scored, other: Scored, what: str, mine: object, theirs: object) -> str:
    remedy = {
        "protocol": "evaluate both with one --protocol",
        "data": "evaluate both with the same --data",
        "tokenizer": "token perplexity is not comparable; use bits per byte "
        "(--metric bits_per_byte)",
    }[what]
    digits = None if what == "protocol" else 16  # of a hash
    shown = " and ".join(str(value)[:digits] for value in (mine, theirs))
    return f"{base.model} and {other.model} differ in {what} ({shown}); {remedy}"


def _differences(
    pairs: Sequence[tuple[Scored, Scored]], metric: str, how: Bootstrap | None
) -> list[Difference]:
    """Other minus base a document, over the documents' tokens or bytes, which all pairs share."""
    scale = SCALES[metric]
    changes = [np.subtract(other.nll, base.nll) / scale.unit for base, other in pairs]
    return stats.differences(np.array(changes), np.array(scale.divisor(pairs[0][0]), float), how)


def _judged(difference: Difference, margin: float, scale: Scale, p_margin: float) -> dict[str, Any]:
    """Judge one pair; `p_margin` is the Holm-adjusted p-value of "the true loss is the margin"."""
    estimate = difference.estimate
    judgement = stats.judge(estimate, scale.hidden(margin))
    if p_margin > 1 - stats.LEVEL and estimate.stderr > 0:
        needed = stats.documents_needed(estimate, scale.hidden(margin))
        judgement = Judgement(Verdict.CANNOT_TELL, needed)
    low, high = (
        scale.shown(v) if math.isfinite(v) else None for v in (estimate.low, estimate.high)
    )
    return {
        "delta": scale.shown(estimate.value),
        "ci_low": low,
        "ci_high": high,
        "margin": margin,
        "verdict": str(judgement.verdict),
        "n_that_would_tell": judgement.n_that_would_tell,
    }


def _overall(verdicts: Sequence[str]) -> str:
    """One FAIL fails; otherwise one CANNOT TELL leaves it open."""
    return next((v for v in ("FAIL", "CANNOT TELL") if v in verdicts), "PASS")
