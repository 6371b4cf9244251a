"""How much worse a model is than the one it was made from, paired document by document."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantale.core.progress import Progress
from quantale.data.documents import Documents
from quantale.evaluation.language import LanguageSettings
from quantale.evaluation.scores import by_model, column
from quantale.evaluation.stats import Bootstrap, Estimate, differences, ratio
from quantale.stages.evaluate import Plan, load_all, score

_LARGEST = 700.0
"""Nats whose exponential is still a number; an interval that is open ends there."""


@dataclass(frozen=True)
class Paired:
    """What was lost, in nats a token."""

    rise: Estimate
    """Of the mean negative log-likelihood."""
    kl: Estimate
    """Mean divergence of the base from the model."""

    def record(self) -> dict[str, Any]:
        """Return the rise of perplexity as a share with its 95 % interval, and the divergence."""
        rise = self.rise
        return {
            "rise": _share(rise.value),
            "rise_low": _share(rise.low),
            "rise_high": _share(rise.high),
            "kl": self.kl.value,
            "documents": rise.n,
        }


def pair(base: Path, other: Path, documents: Documents, seed: int, progress: Progress) -> Paired:
    """Score both models on the same documents; raises UsageError for different tokenizers."""
    plan = Plan({"base": base, "other": other}, {}, "base", documents, LanguageSettings(), seed)
    models, tokenizer = load_all(plan.folders)
    scores = by_model(score(models, tokenizer, plan, progress).documents)
    tokens, how = column(scores["base"], "tokens"), Bootstrap(seed=seed)
    change = column(scores["other"], "nll") - column(scores["base"], "nll")
    rise = differences(np.asarray(change)[None, :], tokens, how)[0].estimate
    return Paired(rise, ratio(column(scores["other"], "kl_sum"), tokens, how))


def _share(nats: float) -> float:
    return math.expm1(min(nats, _LARGEST))
