"""The metrics that results can be compared in, each as a loss: positive is worse than the base.

A metric takes groups, one for each method: a group is one result, or the results of several
training seeds. Its losses are paired by document, the documents being the clusters.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from quantale.evaluation import stats
from quantale.evaluation.macro_f1 import f1_loss, macro_f1
from quantale.evaluation.proportions import Flips, accuracy_loss
from quantale.evaluation.seeds import is_about_methods, with_seed_spread
from quantale.evaluation.stats import Bootstrap, Difference, Estimate, Floats
from quantale.report.predicted import Predicted, class_names
from quantale.report.scored import Scored

_LARGEST_EXPONENT = math.log(sys.float_info.max)
Result = TypeVar("Result", bound=Scored | Predicted)


class Loss(Protocol):
    """What a verdict needs."""

    @property
    def estimate(self) -> Estimate:
        """The loss with its interval, in the metric's inner unit."""

    def p_value(self, margin: float = 0.0) -> float:
        """Return the p-value of "the true loss is `margin`"."""

    def documents_needed(self, margin: float) -> int | None:
        """Return how many documents would tell the loss from the margin, None where none would."""


@dataclass(frozen=True)
class Group(Generic[Result]):
    """Results of one method: one, or one for each training seed."""

    runs: tuple[Result, ...]

    @property
    def model(self) -> str:
        """The name of the first run."""
        return self.runs[0].model

    @property
    def seeds(self) -> int:
        """How many training seeds it holds."""
        return len(self.runs)


@dataclass(frozen=True)
class Metric:
    """How results become losses, and losses the numbers that are reported."""

    default_margin: float
    losses: Callable[[Group[Any], Sequence[Group[Any]], Bootstrap | None], Sequence[Loss]]
    shown: Callable[[float], float]
    """From a loss to the reported change of the metric, other less base."""
    inner: Callable[[float], float]
    """From a margin to the largest loss that it allows."""
    is_across_tokenizers: bool = False
    details: Callable[[Group[Any], Group[Any]], Mapping[str, Any]] = lambda *_: {}
    """Further fields of a pair."""


@dataclass(frozen=True)
class _Sums:
    """A loss in nats over a count of each document."""

    divisor: Callable[[Scored], Sequence[int]]
    nats: float
    """In one unit of the loss."""

    def __call__(
        self, base: Group[Scored], others: Sequence[Group[Scored]], how: Bootstrap | None = None
    ) -> Sequence[Difference]:
        """Return one difference a group; all share their resamples."""
        sizes = np.array(self.divisor(base.runs[0]), dtype=np.float64)
        means = self._nll(base).mean(axis=0)
        changes = np.array([self._nll(other).mean(axis=0) - means for other in others])
        found = stats.differences(changes, sizes, how)
        own = self._nll(base).sum(axis=1) / sizes.sum()
        return [
            _with_seeds(one, (base, own), (other, self._nll(other).sum(axis=1) / sizes.sum()), how)
            for one, other in zip(found, others, strict=True)
        ]

    def _nll(self, group: Group[Scored]) -> Floats:
        """Return (seeds, documents) in the loss's unit."""
        return np.array([run.nll for run in group.runs], dtype=np.float64) / self.nats


def _accuracy(
    base: Group[Predicted], others: Sequence[Group[Predicted]], how: Bootstrap | None = None
) -> Sequence[Loss]:
    return [_accuracy_loss(base, other, how) for other in others]


def _accuracy_loss(base: Group[Predicted], other: Group[Predicted], how: Bootstrap | None) -> Loss:
    if base.seeds == other.seeds == 1:
        first, second = base.runs[0], other.runs[0]
        flips = Flips.between(first.right, second.right)
        return accuracy_loss(flips, is_identical=first.is_identical(second))
    mine, theirs = (np.array([r.right for r in group.runs], float) for group in (base, other))
    change = mine.mean(axis=0) - theirs.mean(axis=0)
    (found,) = stats.differences(change, np.ones(change.size), how)
    return _with_seeds(found, (base, -mine.mean(axis=1)), (other, -theirs.mean(axis=1)), how)


def _macro_f1(
    base: Group[Predicted], others: Sequence[Group[Predicted]], how: Bootstrap | None = None
) -> Sequence[Difference]:
    return [_macro_f1_loss(base, other, how) for other in others]


def _macro_f1_loss(
    base: Group[Predicted], other: Group[Predicted], how: Bootstrap | None
) -> Difference:
    names = class_names([*base.runs, *other.runs])
    place = {name: number for number, name in enumerate(names)}
    labels = np.array([place[name] for name in base.runs[0].labels])
    mine, theirs = (
        [np.array([place[name] for name in run.predicted]) for run in group.runs]
        for group in (base, other)
    )
    if base.seeds == other.seeds == 1 and base.runs[0].is_identical(other.runs[0]):
        return stats.differences(np.zeros(labels.size), np.ones(labels.size), how)[0]
    found = f1_loss(labels, mine, theirs, len(names), how)
    own, new = (
        np.array([-macro_f1(labels, run, len(names)) for run in side]) for side in (mine, theirs)
    )
    return _with_seeds(found, (base, own), (other, new), how)


def _with_seeds(
    difference: Difference,
    base: tuple[Group[Any], Floats],
    other: tuple[Group[Any], Floats],
    how: Bootstrap | None,
) -> Difference:
    """Add the spread of seeds; base, other: a group with the loss of each of its runs."""
    first, second = ([run.training_seed for run in group.runs] for group, _ in (base, other))
    is_paired = first == second and None not in first
    return with_seed_spread(
        difference, base[1].tolist(), other[1].tolist(), how, is_paired=is_paired
    )


def _flips(base: Group[Predicted], other: Group[Predicted]) -> Mapping[str, Any]:
    if base.seeds > 1 or other.seeds > 1:
        return {}
    found = Flips.between(base.runs[0].right, other.runs[0].right)
    return {"broken": found.broken, "fixed": found.fixed, "mcnemar_p": found.mcnemar()}


def _relative(loss: float) -> float:
    """Return the relative rise of perplexity of a loss in nats, infinite beyond float64."""
    return math.expm1(loss) if loss < _LARGEST_EXPONENT else math.inf


METRICS = {
    "perplexity": Metric(0.01, _Sums(lambda scored: scored.tokens, 1.0), _relative, math.log1p),
    "bits_per_byte": Metric(
        0.01, _Sums(lambda scored: scored.size, math.log(2)), float, float,
        is_across_tokenizers=True,
    ),
    "accuracy": Metric(
        0.005, _accuracy, lambda loss: -loss, float, is_across_tokenizers=True, details=_flips
    ),
    "macro_f1": Metric(
        0.005, _macro_f1, lambda loss: -loss, float, is_across_tokenizers=True, details=_flips
    ),
}  # fmt: skip
"""By name. Margins: relative perplexity, bits per byte, and shares (0.005 is half a point)."""


def scope(base: Group[Any], other: Group[Any]) -> str:
    """Say what a verdict is about: methods need several training seeds on both sides."""
    if is_about_methods(base.seeds, other.seeds):
        return f"methods, {min(base.seeds, other.seeds)} training seeds"
    if base.seeds == other.seeds == 1:
        return "this checkpoint"
    return "these checkpoints"
