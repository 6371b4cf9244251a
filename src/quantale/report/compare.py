"""Verdicts from result files alone: paired by document, with intervals and a declared margin.

The same documents, protocol and tokenizer are required; unlike numbers are refused, never
ranked. Across tokenizers only what does not count tokens may be compared: bits per byte when asked
for, accuracy and F1 always. Results of several training seeds of one method are one group.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from quantale.core.errors import UsageError, nearest
from quantale.evaluation import stats
from quantale.evaluation.stats import Bootstrap, Judgement, Verdict
from quantale.report import predicted, scored
from quantale.report.groups import grouped
from quantale.report.lines import FINGERPRINT, ResultLines, read_result
from quantale.report.margins import Margin
from quantale.report.metrics import METRICS, Group, Loss, Metric, scope
from quantale.report.predicted import Predicted, predicted_in
from quantale.report.scored import Scored, nothing_in, scored_in

_NAMES = {"protocol": "protocol", "data_sha256": "data", "tokenizer_sha256": "tokenizer"}
_KINDS: Mapping[str, tuple[str, Callable[[ResultLines], Sequence[Any]]]] = {
    "perplexity": (scored.KEY, scored_in),
    "bits_per_byte": (scored.KEY, scored_in),
    "accuracy": (predicted.KEY, predicted_in),
    "macro_f1": (predicted.KEY, predicted_in),
}
"""By metric: what a document line has, and who reads it; a result's first metric is its own."""


def compare_files(
    base: Path | Sequence[Path],
    others: Sequence[Path | Sequence[Path]],
    margin: float | Margin | None = None,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
    *,
    metric: str | None = None,
) -> dict[str, Any]:
    """Compare every other model with the base; return `verdict` and `pairs`.

    base, others: results; several paths in place of one are training seeds of one method. Results
    of one model name with different training seeds are grouped by themselves. margin: in the
    metric's unit (None: its default). metric: None for perplexity, or accuracy where the base is a
    classifier's. Without others, the first model of the base is compared with the rest of it.
    """
    metric = _metric_of(_first(base), metric)
    (first, *rest), *more = [_read(path, metric) for path in (base, *others)]
    if others and rest:
        raise UsageError(
            f"{_first(base)}: holds {[first.model, *(group.model for group in rest)]}; pick the "
            f"base with {_first(base)}#{first.model}"
        )
    groups = grouped([first, *rest, *(group for found in more for group in found)])
    return compare_groups(groups[0], groups[1:], margin, Bootstrap(resamples, seed), metric=metric)


def compare_scored(
    base: Scored | Predicted,
    others: Sequence[Scored | Predicted],
    margin: float | Margin | None,
    how: Bootstrap | None = None,
    *,
    metric: str = "perplexity",
) -> dict[str, Any]:
    """Compare single results that were read or measured already; see `compare_files`."""
    groups: list[Group[Any]] = [Group((one,)) for one in others]
    return compare_groups(Group((base,)), groups, margin, how, metric=metric)


def compare_groups(
    base: Group[Any],
    others: Sequence[Group[Any]],
    margin: float | Margin | None,
    how: Bootstrap | None = None,
    *,
    metric: str = "perplexity",
) -> dict[str, Any]:
    """Compare groups of results.

    Verdicts hold for all others together: with several, their p-values are Holm-adjusted.
    """
    if not others:
        raise UsageError(
            "a comparison needs a base and at least one other model; one came (training seeds of "
            "one model count once: write the seeds of each method as A1.jsonl,A2.jsonl,A3.jsonl)"
        )
    for run in [*base.runs[1:], *(run for other in others for run in other.runs)]:
        refuse_unlike(base.runs[0], run, metric)
    kind = METRICS[metric]
    allowed = _allowed(margin, metric, base)
    losses = kind.losses(base, others, how)
    bound = kind.inner(allowed)
    adjusted = stats.holm([loss.p_value() for loss in losses])
    against = stats.holm([loss.p_value(bound) for loss in losses])
    pairs = [
        {
            "base": base.model,
            "other": other.model,
            "metric": metric,
            **_judged(loss, allowed, kind, p_margin),
            **_standing(base, other, loss, bound),
            **kind.details(base, other),
            "p_holm": p,
            "n": len(base.runs[0].documents),
        }
        for other, loss, p, p_margin in zip(others, losses, adjusted, against, strict=True)
    ]
    return {"verdict": _overall([pair["verdict"] for pair in pairs]), "pairs": _told(pairs)}


def tied_models(
    results: Sequence[Scored | Predicted],
    how: Bootstrap | None = None,
    *,
    metric: str = "bits_per_byte",
) -> tuple[tuple[str, str], ...]:
    """Return the pairs of models whose paired interval holds zero: ties, as the page draws them."""
    found = []
    for first, second in combinations(results, 2):
        refuse_unlike(first, second, metric)
        (loss,) = METRICS[metric].losses(Group((first,)), [Group((second,))], how)
        if loss.estimate.low <= 0.0 <= loss.estimate.high:
            found.append((first.model, second.model))
    return tuple(found)


def refuse_unlike(base: Scored | Predicted, other: Scored | Predicted, metric: str) -> None:
    """Raise UsageError where two results were not measured alike."""
    across_tokenizers = METRICS[metric].is_across_tokenizers
    for key in FINGERPRINT:
        mine, theirs = base.fingerprint.get(key), other.fingerprint.get(key)
        if not mine or not theirs or mine == theirs:
            continue
        if key == "tokenizer_sha256" and across_tokenizers:
            continue
        raise UsageError(_unlike(base, other, _NAMES[key], mine, theirs))
    _refuse_unlike_documents(base, other)
    if across_tokenizers or not isinstance(base, Scored) or not isinstance(other, Scored):
        return
    if base.tokens != other.tokens:
        raise UsageError(_unlike(base, other, "tokenizer", sum(base.tokens), sum(other.tokens)))


def _refuse_unlike_documents(base: Scored | Predicted, other: Scored | Predicted) -> None:
    if base.documents == other.documents and base.content == other.content:
        return
    odd = sorted(set(base.documents).symmetric_difference(other.documents))
    where = f", for example {odd[0]!r}" if odd else ", the same names with other texts or labels"
    raise UsageError(
        f"{base.model} and {other.model} were measured on other documents ({len(base.documents)} "
        f"and {len(other.documents)}{where}); evaluate both with the same --data and --limit"
    )


def _unlike(
    base: Scored | Predicted, other: Scored | Predicted, what: str, mine: object, theirs: object
) -> str:
    remedy = {
        "protocol": "evaluate both with one protocol",
        "data": "evaluate both with the same --data",
        "tokenizer": "token perplexity is not comparable; use bits per byte "
        "(--metric bits_per_byte)",
    }[what]
    digits = None if what == "protocol" else 16  # of a hash
    shown = " and ".join(str(value)[:digits] for value in (mine, theirs))
    return f"{base.model} and {other.model} differ in {what} ({shown}); {remedy}"


def _metric_of(path: Path, metric: str | None) -> str:
    """Return the metric asked for, or the first one that the result can be read for."""
    if metric is not None and metric not in METRICS:
        known = ", ".join(METRICS)
        raise UsageError(f"metric {metric!r} is unknown{nearest(metric, METRICS)}; known: {known}")
    result = read_result(path)
    usable = [name for name, (key, _) in _KINDS.items() if result.models(key)]
    if not usable:
        raise nothing_in(path)
    if metric is not None and metric not in usable:
        raise UsageError(f"{path}: holds no {metric}; it has {', '.join(usable)}")
    return metric or usable[0]


def _read(paths: Path | Sequence[Path], metric: str) -> list[Group[Any]]:
    """Return a group a model, or with several paths one group of all their only models."""
    if isinstance(paths, Path):
        found = _KINDS[metric][1](read_result(paths))
        if not found:
            raise nothing_in(paths)
        return [Group((one,)) for one in found]
    singles = [_read(path, metric) for path in paths]
    for path, single in zip(paths, singles, strict=True):
        if len(single) > 1:
            names = [group.model for group in single]
            raise UsageError(f"{path}: holds {names}; pick one with {path}#{names[0]}")
    return [_one_method([single[0].runs[0] for single in singles])]


def _one_method(runs: Sequence[Any]) -> Group[Any]:
    """Return results that the caller calls seeds of one method; refuses one seed twice."""
    stated = [run.training_seed for run in runs if run.training_seed is not None]
    if len(set(stated)) < len(stated):
        twice = next(seed for seed in stated if stated.count(seed) > 1)
        raise UsageError(
            f"two results of {runs[0].model} have the training seed {twice}: a seed counts once"
        )
    return Group(tuple(sorted(runs, key=lambda run: run.training_seed or "")))


def _first(paths: Path | Sequence[Path]) -> Path:
    return paths if isinstance(paths, Path) else paths[0]


def _allowed(margin: float | Margin | None, metric: str, base: Group[Any]) -> float:
    if margin is None:
        return METRICS[metric].default_margin
    value = margin.of(metric, base) if isinstance(margin, Margin) else margin
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"a margin is a number from 0 up, such as 0.01; {value} came")
    return value


def _judged(loss: Loss, margin: float, kind: Metric, p_margin: float) -> dict[str, Any]:
    """Judge one pair; `p_margin` is the Holm-adjusted p-value of "the true loss is the margin"."""
    estimate, bound = loss.estimate, kind.inner(margin)
    judgement = stats.judge(estimate, bound)
    if p_margin > 1 - stats.LEVEL and estimate.stderr > 0:
        judgement = Judgement(Verdict.CANNOT_TELL)
    ends = sorted((estimate.low, estimate.high), key=kind.shown)
    low, high = (_finite(kind.shown(end)) if math.isfinite(end) else None for end in ends)
    return {
        "delta": kind.shown(estimate.value),
        "ci_low": low,
        "ci_high": high,
        "margin": margin,
        "verdict": str(judgement.verdict),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _standing(base: Group[Any], other: Group[Any], loss: Loss, bound: float) -> dict[str, Any]:
    """Say what the pair is about and what more of it would tell."""
    needed, n = loss.documents_needed(bound), loss.estimate.n
    about = scope(base, other)
    seeds = None
    if needed is not None and about.startswith("methods"):
        seeds = math.ceil(min(base.seeds, other.seeds) * needed / n)
    if needed is not None and needed <= n:  # a rule for many; with few the interval is wider
        needed = n + 1
    return {
        "scope": about,
        "training_seeds": [base.seeds, other.seeds],
        "n_that_would_tell": needed,
        "seeds_that_would_tell": seeds,
    }


def _told(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop what would tell from pairs that told."""
    silent: Mapping[str, None] = {"n_that_would_tell": None, "seeds_that_would_tell": None}
    return [p if p["verdict"] == Verdict.CANNOT_TELL else {**p, **silent} for p in pairs]


def _overall(verdicts: Sequence[str]) -> str:
    """One FAIL fails; otherwise one CANNOT TELL leaves it open."""
    return next((v for v in ("FAIL", "CANNOT TELL") if v in verdicts), "PASS")
