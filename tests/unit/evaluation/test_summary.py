"""Document scores as records and as measurements."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from quantale.core.errors import DataError, UsageError
from quantale.core.records import to_json_line
from quantale.evaluation import stats
from quantale.evaluation.scores import DocumentScore, by_model, column, read_scores
from quantale.evaluation.summary import measurements


def test_scores_survive_a_json_line() -> None:
    score = DocumentScore("m", "d", 12.5, 7, 31, 1, 0.25, 6, words=5)
    line = to_json_line(score.record())
    assert read_scores([json.loads(line)]) == [score]


def test_a_score_without_a_field_is_told_by_number() -> None:
    with pytest.raises(DataError, match="document score 1: not complete"):
        read_scores([{"model": "m"}])


def test_a_document_scored_twice_is_an_error() -> None:
    score = DocumentScore("m", "d", 1.0, 1, 1)
    with pytest.raises(DataError, match="twice"):
        by_model([score, score])


def test_measurements_are_ratios_of_sums_per_token_word_and_byte() -> None:
    scores = [
        DocumentScore("m", "a", 10.0, 5, 20, words=4),
        DocumentScore("m", "b", 90.0, 30, 130, 2, words=22),
        DocumentScore("m", "c", 30.0, 12, 50, words=9),
    ]
    found = {one.metric: one for one in measurements(scores, "document(...)")}
    expected = {
        "nll_per_token": 130 / 47,
        "perplexity": math.exp(130 / 47),
        "word_perplexity": math.exp(130 / 35),
        "bits_per_byte": 130 / math.log(2) / 200,
        "byte_perplexity": math.exp(130 / 200),
    }
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)
    for one in found.values():
        assert one.protocol == "document(...)"
        assert one.extra == {"tokens": 47, "words": 35, "bytes": 200, "unknown": 2}
        assert one.n == 3


def test_records_without_words_have_no_number_per_word() -> None:
    scores = [DocumentScore("m", "a", 10.0, 5, 20), DocumentScore("m", "b", 9.0, 3, 13)]
    assert "word_perplexity" not in {one.metric for one in measurements(scores, "p")}


def many(model: str, seed: int, documents: int = 60) -> list[DocumentScore]:
    """Documents whose sizes do not depend on the model."""
    sizes = np.random.default_rng(9).integers(5, 80, documents).tolist()
    rng = np.random.default_rng(seed)
    return [
        DocumentScore(model, str(i), size * float(rng.gamma(9, 0.3)), size, 4 * size, words=size)
        for i, size in enumerate(sizes)
    ]


def test_intervals_of_many_models_at_once_are_those_of_each_alone() -> None:
    together = measurements([*many("a", 0), *many("b", 1), *many("c", 2)], "p", base="a")
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        own = many(name, seed)
        alone = stats.ratio(column(own, "nll"), column(own, "tokens"))
        (found,) = (m for m in together if (m.model, m.metric) == (name, "nll_per_token"))
        assert found.value == pytest.approx(alone.value, rel=1e-12)
        assert found.ci_low == pytest.approx(alone.low, rel=1e-9)
        assert found.ci_high == pytest.approx(alone.high, rel=1e-9)


def test_the_perplexity_ratio_is_paired_and_far_tighter_than_the_perplexities() -> None:
    base = many("base", 0)
    rng = np.random.default_rng(5)
    worse = [
        replace(one, model="worse", nll=one.nll + one.tokens * float(rng.normal(0.02, 0.01)),
                kl_sum=0.1, top1_same=one.tokens)
        for one in base
    ]  # fmt: skip
    base = [replace(one, kl_sum=0.0, top1_same=one.tokens) for one in base]
    found = {(m.model, m.metric): m for m in measurements([*base, *worse], "p", base="base")}
    ratio, log = found["worse", "perplexity_ratio"], found["worse", "log_perplexity_ratio"]
    quotient = found["worse", "perplexity"].value / found["base", "perplexity"].value
    assert ratio.value == pytest.approx(quotient, rel=1e-12)
    assert log.value == pytest.approx(math.log(quotient), rel=1e-12)
    changes = column(worse, "nll") - column(base, "nll")
    (alone,) = stats.differences(changes[None], column(base, "tokens"))
    assert log.ci_low == pytest.approx(alone.estimate.low, rel=1e-9)
    assert log.stderr == pytest.approx(alone.estimate.stderr, rel=1e-9)
    assert log.stderr is not None
    unpaired = found["worse", "nll_per_token"].stderr
    assert unpaired is not None
    assert 10 * log.stderr < unpaired
    assert ratio.extra == {"base": "base"}
    assert found["base", "perplexity_ratio"].value == 1.0


def test_scores_of_unlike_units_and_unknown_bases_are_refused() -> None:
    with pytest.raises(DataError, match="'a' and 'b' scored different units"):
        measurements([*many("a", 0), *many("b", 1, documents=59)], "p")
    with pytest.raises(UsageError, match="no base 'c'"):
        measurements(many("a", 0), "p", base="c")


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
