"""Predictions as records, and the calibration error in closed form."""

import numpy as np
import pytest

from quantale.core.errors import DataError
from quantale.evaluation.classified import measurements
from quantale.evaluation.predictions import Prediction, calibration_error
from quantale.evaluation.scores import by_model


def prediction(name: str, label: str, share: float, model: str = "m") -> Prediction:
    return Prediction(model, name, label, {"a": share, "b": 1 - share})


def test_the_likeliest_class_is_predicted_and_of_equals_the_first() -> None:
    assert prediction("d", "a", 0.3).predicted == "b"
    assert prediction("d", "a", 0.5).predicted == "a"
    assert prediction("d", "b", 0.25).record() == {
        "model": "m", "document": "d", "label": "b", "predicted": "b",
        "probabilities": {"a": 0.25, "b": 0.75},
    }  # fmt: skip


def test_a_constant_confidence_is_off_by_its_distance_from_the_accuracy() -> None:
    rows = [prediction(f"d{i}", "a" if i < 60 else "b", 0.8) for i in range(100)]
    assert calibration_error(rows) == pytest.approx(0.2)


def test_bins_are_weighted_by_their_documents() -> None:
    """30 documents sure to 0.9 with 20 right, 10 sure to 0.6 with all right."""
    rows = [prediction(f"x{i}", "a" if i < 20 else "b", 0.9) for i in range(30)]
    rows += [prediction(f"y{i}", "a", 0.6) for i in range(10)]
    expected = 0.75 * (0.9 - 20 / 30) + 0.25 * (1 - 0.6)
    assert calibration_error(rows) == pytest.approx(expected)
    assert calibration_error(rows, bins=1) == pytest.approx(abs(30 / 40 - (27 + 6) / 40))


def test_one_that_knows_how_often_it_is_right_has_no_error() -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.5, 1.0, 40_000)
    rows = [
        prediction(f"d{i}", "a" if rng.random() < share else "b", float(share))
        for i, share in enumerate(shares)
    ]
    assert calibration_error(rows) < 0.012


def test_a_sure_one_that_is_always_right_has_no_error() -> None:
    assert calibration_error([prediction("d", "a", 1.0)]) == 0.0


def test_a_document_that_came_twice_is_refused() -> None:
    with pytest.raises(DataError, match="has document 'd' twice"):
        by_model([prediction("d", "a", 0.7), prediction("d", "a", 0.7)])
    with pytest.raises(DataError, match="at least one document"):
        calibration_error([])


def test_measurements_hold_every_score_of_every_class() -> None:
    rows = [prediction(f"d{i}", "a" if i % 4 else "b", 0.7) for i in range(40)]
    found = {(o.metric, o.extra.get("class")): o for o in measurements(rows, "head(labels=2)")}
    assert found["accuracy", None].value == 0.75
    assert found["accuracy", None].extra == {"right": 30}
    assert found["macro_recall", None].value == 0.5
    assert found["class_recall", "b"].value == 0.0
    assert found["class_precision", "a"].extra["support"] == 30
    assert found["calibration_error", None].value == pytest.approx(0.05)
    assert {(o.protocol, o.task, o.n) for o in found.values()} == {
        ("head(labels=2)", "classification", 40)
    }
