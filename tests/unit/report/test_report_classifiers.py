"""Comparing classifiers from their files: verdicts, flips, margins in points, refusals."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from quantale.core.errors import DataError, UsageError
from quantale.report.compare import compare_files
from quantale.report.margins import Margin

CLASSES = ("World", "Sports", "Business")
PRINT = {"protocol": "head(length=64)", "data_sha256": "d" * 64, "tokenizer_sha256": "t" * 64}


def result(
    folder: Path, model: str, wrong: float, *, seed: int = 0, n: int = 3000, **stated: str
) -> Path:
    """Write an evaluation: all models miss 5 % of the same documents, and `wrong` on their own."""
    shared, own = random.Random(1), random.Random(f"{model}{seed}")
    lines: list[dict[str, Any]] = [
        {"model": model, "metric": "accuracy", "task": "classification", **PRINT, **stated}
    ]
    for i in range(n):
        label, missed = shared.choice(CLASSES), shared.random() < 0.05
        missed = missed or own.random() < wrong
        said = CLASSES[(CLASSES.index(label) + 1) % 3] if missed else label
        share = own.uniform(0.4, 0.99)
        rest = dict.fromkeys(CLASSES, (1 - share) / 2)
        line = {"model": model, "document": f"d{i}", "label": label, "predicted": said}
        lines.append({**line, "probabilities": {**rest, said: share}})
    path = folder / f"{model}-{seed}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_classifier_is_compared_by_accuracy_within_half_a_point(tmp_path: Path) -> None:
    base, bad = result(tmp_path, "base", 0.0), result(tmp_path, "bad", 0.1)
    found = compare_files(base, [bad])
    (pair,) = found["pairs"]
    assert (pair["metric"], pair["margin"], found["verdict"]) == ("accuracy", 0.005, "FAIL")
    assert pair["delta"] == pytest.approx(-0.095, abs=0.02)
    assert pair["ci_low"] < pair["delta"] < pair["ci_high"] < 0
    assert (pair["broken"] > 200, pair["fixed"], pair["n"]) == (True, 0, 3000)
    assert pair["mcnemar_p"] == pair["p_holm"] < 1e-30


def test_few_flips_cannot_tell_within_a_tenth_of_a_point(tmp_path: Path) -> None:
    base, near = result(tmp_path, "base", 0.0), result(tmp_path, "near", 0.002)
    (pair,) = compare_files(base, [near], 0.001)["pairs"]
    assert pair["verdict"] == "CANNOT TELL"
    assert pair["n_that_would_tell"] > 3000
    assert compare_files(base, [near], 0.02)["verdict"] == "PASS"


def test_the_same_predictions_prove_little_but_the_same_function_passes(tmp_path: Path) -> None:
    base = result(tmp_path, "base", 0.0, n=100)
    again = compare_files(base, [base])
    assert (again["verdict"], again["pairs"][0]["delta"]) == ("PASS", 0.0)
    other = result(tmp_path, "other", 0.0, n=100)
    (pair,) = compare_files(base, [other])["pairs"]
    assert (pair["verdict"], pair["n_that_would_tell"]) == ("CANNOT TELL", 765)


def test_macro_f1_has_its_own_interval(tmp_path: Path) -> None:
    base, bad = result(tmp_path, "base", 0.0), result(tmp_path, "bad", 0.05)
    (pair,) = compare_files(base, [bad], metric="macro_f1", resamples=2000)["pairs"]
    assert (pair["metric"], pair["verdict"]) == ("macro_f1", "FAIL")
    assert pair["ci_low"] < pair["delta"] < pair["ci_high"] < -0.005
    assert compare_files(base, [base], metric="macro_f1", resamples=200)["verdict"] == "PASS"


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_three_training_seeds_speak_of_methods(tmp_path: Path, metric: str) -> None:
    seeds = [
        [result(tmp_path, name, wrong, seed=s, training_seed=str(s)) for s in (1, 2, 3)]
        for name, wrong in (("base", 0.01), ("bad", 0.08))
    ]
    found = compare_files(seeds[0][0], [*seeds[0][1:], *seeds[1]], metric=metric, resamples=1000)
    (pair,) = found["pairs"]
    assert (pair["verdict"], pair["scope"]) == ("FAIL", "methods, 3 training seeds")
    assert pair["delta"] == pytest.approx(-0.07, abs=0.02)


@pytest.mark.parametrize(
    ("stated", "said"),
    [("protocol", "differ in protocol"), ("data_sha256", "differ in data")],
)
def test_the_two_routes_and_other_data_are_never_mixed(
    tmp_path: Path, stated: str, said: str
) -> None:
    more: dict[str, Any] = {stated: "likelihood(normalise=bytes)"}
    base, other = result(tmp_path, "base", 0.0), result(tmp_path, "other", 0.0, **more)
    with pytest.raises(UsageError, match=said):
        compare_files(base, [other])


def test_another_tokenizer_is_no_obstacle_to_an_accuracy(tmp_path: Path) -> None:
    base = result(tmp_path, "base", 0.0)
    other = result(tmp_path, "other", 0.1, tokenizer_sha256="u" * 64)
    assert compare_files(base, [other])["verdict"] == "FAIL"


def test_a_metric_that_the_file_does_not_hold_is_refused(tmp_path: Path) -> None:
    base = result(tmp_path, "base", 0.0, n=5)
    with pytest.raises(UsageError, match="holds no perplexity; it has accuracy, macro_f1"):
        compare_files(base, [base], metric="perplexity")
    path = tmp_path / "unlabelled.jsonl"
    path.write_text(json.dumps({"model": "m", "document": "d", "predicted": "World"}))
    with pytest.raises(DataError, match="needs a label"):
        compare_files(path, [path])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.5pt", 0.005), ("0.5 points", 0.005), ("0.005", 0.005), (".005", 0.005)],
)
def test_margins_of_accuracy_are_points(tmp_path: Path, text: str, expected: float) -> None:
    base = result(tmp_path, "base", 0.0, n=5)
    (pair,) = compare_files(base, [base], Margin.parse(text))["pairs"]
    assert pair["margin"] == pytest.approx(expected)


def test_a_percentage_of_an_accuracy_is_ambiguous(tmp_path: Path) -> None:
    base = result(tmp_path, "base", 0.0, n=5)
    with pytest.raises(UsageError, match="margin of accuracy is points"):
        compare_files(base, [base], Margin.parse("1%"))


def scores(path: Path) -> Path:
    lines = [
        {"model": "m", "document": f"d{i}", "nll": 8.0, "tokens": 4, "bytes": 16} for i in "ab"
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_percentage_is_of_the_base(tmp_path: Path) -> None:
    path = scores(tmp_path / "m.jsonl")
    (pair,) = compare_files(path, [path], Margin.parse("1%"))["pairs"]
    assert pair["margin"] == 0.01
    (pair,) = compare_files(path, [path], Margin.parse("1%"), metric="bits_per_byte")["pairs"]
    assert pair["margin"] == pytest.approx(0.01 * 8.0 / 16 / 0.6931471805599453)
    with pytest.raises(UsageError, match="a share of the base"):
        compare_files(path, [path], Margin.parse("1pt"))


@pytest.mark.parametrize("text", ["", "-1%", "one", "1e400", "1 %%", "nan"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a margin is a number"):
        Margin.parse(text)
