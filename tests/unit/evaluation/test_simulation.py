"""The statistics on made-up evaluations whose truth is known, many times over.

A repeat is one paired comparison: tokens of a document share a shift, so they are correlated, and
the two models differ by a true loss a token. All repeats have documents of the same lengths and are
rows of one array; the bootstrap's draws do not depend on them.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from quantale.evaluation.seeds import with_seed_spread
from quantale.evaluation.stats import (
    Bootstrap,
    Difference,
    Verdict,
    differences,
    documents_needed,
    holm,
    judge,
)

FULL = pytest.mark.slow
AT_ONCE = 250
"""Rows of one call, which bounds the memory."""


@dataclass(frozen=True)
class World:
    """How two models differ, in nats a token."""

    documents: int
    loss: float = 0.0
    by_document: float = 0.05
    """Standard deviation of a document's own shift: what correlates its tokens."""
    by_token: float = 0.3

    def sizes(self) -> np.ndarray:
        """Tokens of every document: most are short."""
        return np.random.default_rng(99).integers(20, 200, self.documents).astype(np.float64)

    def changes(self, rng: np.random.Generator, repeats: int) -> np.ndarray:
        """(repeats, documents): summed differences over the tokens; skewed, as losses are."""
        sizes, shape = self.sizes(), (repeats, self.documents)
        shift = self.by_document * (rng.gamma(4.0, 0.5, shape) - 2.0)
        tokens = self.by_token * np.sqrt(sizes) * rng.normal(size=shape)
        return sizes * (self.loss + shift) + tokens


def compared(world: World, repeats: int, resamples: int, seed: int = 0) -> list[Difference]:
    rng, how = np.random.default_rng(seed), Bootstrap(resamples=resamples)
    return [
        one
        for start in range(0, repeats, AT_ONCE)
        for one in differences(
            world.changes(rng, min(AT_ONCE, repeats - start)), world.sizes(), how
        )
    ]


def within(repeats: int, share: float, low: float, high: float) -> bool:
    """Say whether a share lies in [low, high], three standard errors granted below 2,000."""
    slack = 0.0 if repeats >= 2000 else 3 * (low * (1 - low) / repeats) ** 0.5
    return low - slack <= share <= high + slack


SIZES = [(400, 1000), pytest.param(2000, 10_000, marks=FULL)]


@pytest.mark.parametrize(("repeats", "resamples"), SIZES)
@pytest.mark.parametrize("documents", [40, 200])
def test_intervals_cover_the_truth_with_correlated_tokens(
    documents: int, repeats: int, resamples: int
) -> None:
    found = compared(World(documents, loss=0.01), repeats, resamples)
    hits = sum(one.estimate.low <= 0.01 <= one.estimate.high for one in found)
    assert within(repeats, hits / repeats, 0.93, 0.97)


@pytest.mark.parametrize(("repeats", "resamples"), SIZES)
@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_a_loss_within_the_margin_is_called_a_failure_at_most_once_in_twenty(
    loss: float, repeats: int, resamples: int
) -> None:
    """The hardest null is a loss of exactly the margin."""
    found = compared(World(60, loss=loss), repeats, resamples)
    failed = sum(judge(one.estimate, 0.01).verdict is Verdict.FAIL for one in found)
    assert failed / repeats <= 0.05


@pytest.mark.parametrize(("repeats", "resamples"), SIZES)
def test_eight_variants_without_a_loss_fail_together_at_most_once_in_twenty(
    repeats: int, resamples: int
) -> None:
    found = compared(World(60, loss=0.01), repeats, resamples)
    families = [found[start : start + 8] for start in range(0, repeats - 7, 8)]
    failed = 0
    for family in families:
        p_values = holm([one.p_value(0.01) for one in family])
        failed += any(
            p <= 0.05 and one.estimate.low > 0.01 for p, one in zip(p_values, family, strict=True)
        )
    assert failed / len(families) <= 0.05 + (0.04 if repeats < 2000 else 0.0)


@pytest.mark.parametrize(("repeats", "resamples"), SIZES)
@pytest.mark.parametrize("margin", [0.0, 0.005])
def test_a_planted_loss_of_one_percent_is_found_with_the_n_that_was_predicted(
    margin: float, repeats: int, resamples: int
) -> None:
    """Pilots predict the documents for a power of 80 %; so many find it that often.

    A pilot's own spread is uncertain by some percent, and its prediction by twice as many, so
    the power is that of twenty pilots together.
    """
    loss, pilots, told = float(np.log(1.01)), 20, 0
    for seed in range(pilots):
        pilot = compared(World(400, loss=loss), 1, 500, seed=seed)[0].estimate
        needed = documents_needed(replace(pilot, value=loss), margin)
        assert needed is not None
        found = compared(World(needed, loss=loss), repeats // pilots, resamples, seed=1000 + seed)
        told += sum(judge(one.estimate, margin).verdict is Verdict.FAIL for one in found)
    assert within(repeats, told / repeats, 0.76, 0.84)


@pytest.mark.parametrize(("repeats", "resamples"), SIZES)
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("is_paired", [True, False])
def test_intervals_over_seeds_cover_the_difference_of_methods(
    is_paired: bool, seeds: int, repeats: int, resamples: int
) -> None:
    """Seeds shift whole models; intervals over documents alone would miss most of it."""
    world, rng = World(60, loss=0.02), np.random.default_rng(3)
    sizes, how = world.sizes(), Bootstrap(resamples=resamples)
    hits = hits_of_documents = 0
    for start in range(0, repeats, AT_ONCE):
        rows = min(AT_ONCE, repeats - start)
        shared = world.changes(rng, rows) - 0.5 * sizes * world.loss
        base = 0.03 * rng.normal(size=(rows, seeds, 1)) * sizes
        other = shared[:, None] + (0.01 + 0.03 * rng.normal(size=(rows, seeds, 1))) * sizes
        found = differences((other - base).mean(axis=1), sizes, how)
        rates = [side.sum(axis=2) / sizes.sum() for side in (base, other)]
        for row, one in enumerate(found):
            wide = with_seed_spread(
                one, rates[0][row].tolist(), rates[1][row].tolist(), how, is_paired=is_paired
            )
            hits += wide.estimate.low <= 0.02 <= wide.estimate.high
            hits_of_documents += one.estimate.low <= 0.02 <= one.estimate.high
    assert hits / repeats >= 0.93
    assert hits_of_documents / repeats < 0.75
