"""Document scores as records and as measurements."""

import json
import math

import numpy as np
import pytest

from quantale.core.errors import DataError
from quantale.core.records import to_json_line
from quantale.evaluation.scores import DocumentScore, by_model, read_scores
from quantale.evaluation.summary import measurements


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
