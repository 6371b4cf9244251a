"""Paired comparison of document scores, and their summary as measurements."""

import json
import math

import numpy as np
import pytest

from quantale.core.errors import DataError, UsageError
from quantale.core.records import to_json_line
from quantale.evaluation.comparison import compare
from quantale.evaluation.scores import DocumentScore, by_model, read_scores
from quantale.evaluation.stats import Verdict
from quantale.evaluation.summary import measurements


def scores_of(model: str, losses: np.ndarray, tokens: int = 100) -> list[DocumentScore]:
    return [
        DocumentScore(model, f"d{i}", float(loss) * tokens, tokens, tokens * 4)
        for i, loss in enumerate(losses)
    ]


@pytest.fixture
def losses() -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 0.4, 120)


def test_a_model_against_itself_passes_with_no_difference(losses: np.ndarray) -> None:
    (found,) = compare([*scores_of("a", losses), *scores_of("b", losses)], "a")
    assert (found.delta, found.ci_low, found.ci_high) == (0.0, 0.0, 0.0)
    assert found.verdict is Verdict.PASS
    assert found.n == 120


def test_a_planted_loss_beyond_the_margin_fails(losses: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(0.05, 0.02, 120)
    (found,) = compare([*scores_of("a", losses), *scores_of("b", losses + noise)], "a")
    assert found.verdict is Verdict.FAIL
    assert found.delta == pytest.approx(noise.mean())
    assert found.margin == pytest.approx(math.log(1.01))


def test_a_noisy_difference_cannot_be_told_and_says_how_many_documents_would(
    losses: np.ndarray,
) -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.2, 120)
    (found,) = compare([*scores_of("a", losses), *scores_of("b", losses + noise)], "a")
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.n_that_would_tell is not None
    assert found.n_that_would_tell > 120


def test_many_variants_are_adjusted_together(losses: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    noises = [rng.normal(0.0, 0.046, 120) for _ in range(20)]
    alone = [
        compare([*scores_of("a", losses), *scores_of("b", losses + noise)], "a")[0].verdict
        for noise in noises
    ]
    many = scores_of("a", losses)
    for i, noise in enumerate(noises):
        many += scores_of(f"v{i}", losses + noise)
    together = [one.verdict for one in compare(many, "a")]
    assert together.count(Verdict.PASS) < alone.count(Verdict.PASS)


def test_bits_per_byte_states_the_same_margin_in_its_own_unit(losses: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(0.05, 0.02, 120)
    scores = [*scores_of("a", losses), *scores_of("b", losses + noise)]
    (nats,) = compare(scores, "a")
    (bits,) = compare(scores, "a", metric="bits_per_byte")
    assert bits.delta == pytest.approx(nats.delta / math.log(2) / 4)
    assert bits.margin / bits.delta == pytest.approx(nats.margin / nats.delta)
    assert bits.verdict is nats.verdict


def test_documents_pair_by_name_not_by_order(losses: np.ndarray) -> None:
    scores = [*scores_of("a", losses), *reversed(scores_of("b", losses))]
    (found,) = compare(scores, "a")
    assert found.delta == 0.0


def test_unlike_documents_and_unlike_tokens_are_refused(losses: np.ndarray) -> None:
    base = scores_of("a", losses)
    with pytest.raises(UsageError, match="same documents"):
        compare([*base, *scores_of("b", losses[:50])], "a")
    with pytest.raises(UsageError, match="unlike tokenizers"):
        compare([*base, *scores_of("b", losses, tokens=90)], "a")


def test_unknown_names_are_told_with_the_nearest(losses: np.ndarray) -> None:
    with pytest.raises(UsageError, match="did you mean 'base'"):
        compare(scores_of("base", losses), "bse")
    with pytest.raises(UsageError, match="did you mean 'bits_per_byte'"):
        compare(scores_of("a", losses), "a", metric="bits_per_bite")


def test_a_base_alone_compares_with_nothing(losses: np.ndarray) -> None:
    assert compare(scores_of("a", losses), "a") == []


def test_scores_survive_a_json_line() -> None:
    score = DocumentScore("m", "d", 12.5, 7, 31, 1, 0.25, 6)
    line = to_json_line(score.record())
    assert read_scores([json.loads(line)]) == [score]


def test_a_score_without_a_field_is_told_by_number() -> None:
    with pytest.raises(DataError, match="document score 1: not complete"):
        read_scores([{"model": "m"}])


def test_a_document_scored_twice_is_an_error() -> None:
    score = DocumentScore("m", "d", 1.0, 1, 1)
    with pytest.raises(DataError, match="twice"):
        by_model([score, score])


def test_measurements_are_ratios_of_sums_with_intervals() -> None:
    scores = [DocumentScore("m", "a", 10.0, 5, 20), DocumentScore("m", "b", 90.0, 30, 130, 2)]
    scores.append(DocumentScore("m", "c", 30.0, 12, 50))
    found = {one.metric: one for one in measurements(scores, "document(...)")}
    assert set(found) == {"perplexity", "nll_per_token", "bits_per_byte"}
    assert found["nll_per_token"].value == pytest.approx(130 / 47)
    assert found["perplexity"].value == pytest.approx(math.exp(130 / 47))
    assert found["bits_per_byte"].value == pytest.approx(130 / math.log(2) / 200)
    assert found["perplexity"].protocol == "document(...)"
    assert found["perplexity"].extra == {"tokens": 47, "bytes": 200, "unknown": 2}
    assert found["perplexity"].n == 3


def test_measurements_of_one_document_have_no_interval_and_still_make_json() -> None:
    (first, *_) = measurements([DocumentScore("m", "a", 10.0, 5, 20)], "p")
    assert first.stderr is None
    assert first.ci_low is None
    assert '"ci_high": null' in to_json_line(first)


def test_divergence_is_summarised_where_a_base_was_given() -> None:
    kl = [np.array([0.0, 0.1], np.float32), np.array([0.2, 0.3, 0.4], np.float32)]
    scores = [
        DocumentScore("m", str(i), 1.0, len(one), 9, 0, float(one.sum()), 1, one)
        for i, one in enumerate(kl)
    ]
    found = {one.metric: one for one in measurements(scores, "p")}
    assert found["kl_mean"].value == pytest.approx(0.2)
    assert found["kl_median"].value == pytest.approx(0.2)
    assert found["kl_p99"].value == pytest.approx(0.396)
    assert found["top1_agreement"].value == pytest.approx(0.4)
