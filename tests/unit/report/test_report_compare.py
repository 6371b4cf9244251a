"""Verdicts from result files: closed forms, refusals, and files as people hand them in."""

import json
import math
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quantale.core import files
from quantale.core.errors import DataError, ModelFileError, UsageError
from quantale.report.compare import compare_files, tied_models
from quantale.report.scored import read_scored

PRINT = {"protocol": "document/1", "data_sha256": "d" * 64, "tokenizer_sha256": "t" * 64}


def rows(model: str, shift: float = 0.0, noise: float = 0.0, n: int = 120) -> list[dict[str, Any]]:
    """Documents of unequal lengths; `shift` nats a token worse than the base, give or take."""
    lengths, wobble = random.Random(1), random.Random(2)
    found = []
    for i in range(n):
        tokens = lengths.randint(50, 400)
        nll = tokens * (1.5 + lengths.gauss(0, 0.2))
        nll += tokens * (shift + wobble.gauss(0, noise))
        line = {"model": model, "document": f"d{i}", "nll": nll, "tokens": tokens}
        found.append({**line, "bytes": tokens * 3})
    return found


def summary(model: str, **change: str) -> dict[str, Any]:
    return {"model": model, "metric": "perplexity", "task": "language", **PRINT, **change}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def result(folder: Path, model: str, shift: float = 0.0, noise: float = 0.0, n: int = 120) -> Path:
    lines = [summary(model), *rows(model, shift, noise, n)]
    return write(folder / f"{model}.jsonl", lines)


def test_a_constant_shift_is_found_exactly(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base"), result(tmp_path, "other", shift=0.02)
    found = compare_files(base, [other], margin=0.01)
    (pair,) = found["pairs"]
    assert pair["delta"] == pytest.approx(math.expm1(0.02), rel=1e-9)
    assert pair["ci_low"] == pytest.approx(pair["ci_high"], rel=1e-9)
    assert (found["verdict"], pair["verdict"], pair["n"]) == ("FAIL", "FAIL", 120)
    assert set(pair) >= {"base", "other", "metric", "delta", "ci_low", "ci_high", "margin"}


def test_bits_per_byte_follow_from_the_same_sums(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base"), result(tmp_path, "other", shift=0.03)
    (pair,) = compare_files(base, [other], 0.05, metric="bits_per_byte")["pairs"]
    assert pair["delta"] == pytest.approx(0.03 / math.log(2) / 3, rel=1e-9)
    assert pair["verdict"] == "PASS"


def test_a_model_against_itself_passes_with_zero(tmp_path: Path) -> None:
    base = result(tmp_path, "base")
    found = compare_files(base, [base], margin=0.0)
    (pair,) = found["pairs"]
    assert (pair["delta"], pair["p_holm"], found["verdict"]) == (0.0, 1.0, "PASS")


def test_noise_across_the_margin_cannot_tell_and_says_what_would(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base"), result(tmp_path, "other", shift=0.009, noise=0.05)
    found = compare_files(base, [other], margin=0.01, resamples=2000)
    assert found["verdict"] == "CANNOT TELL"
    assert found["pairs"][0]["n_that_would_tell"] > 120


def test_one_failure_fails_the_whole_comparison(tmp_path: Path) -> None:
    base = result(tmp_path, "base")
    others = [result(tmp_path, "good"), result(tmp_path, "bad", shift=0.2)]
    found = compare_files(base, others, margin=0.01, resamples=500)
    assert [pair["verdict"] for pair in found["pairs"]] == ["PASS", "FAIL"]
    assert found["verdict"] == "FAIL"


def test_the_answer_is_the_same_twice_and_json_able(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base"), result(tmp_path, "other", 0.004, 0.02)
    first, second = (compare_files(base, [other], 0.01, resamples=500) for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second)


def test_one_document_cannot_tell_and_has_no_interval(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base", n=1), result(tmp_path, "other", 0.5, n=1)
    (pair,) = compare_files(base, [other], 0.01, resamples=100)["pairs"]
    assert (pair["ci_low"], pair["verdict"]) == (None, "CANNOT TELL")
    json.dumps(pair, allow_nan=False)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("protocol", "differ in protocol"),
        ("data_sha256", "differ in data"),
        ("tokenizer_sha256", "bits_per_byte"),
    ],
)
def test_unlike_measurements_are_refused(tmp_path: Path, key: str, said: str) -> None:
    base = result(tmp_path, "base")
    other = write(tmp_path / "o.jsonl", [summary("o", **{key: "z" * 64}), *rows("o")])
    with pytest.raises(UsageError, match=said):
        compare_files(base, [other], 0.01)


def test_other_tokenizers_compare_in_bits_per_byte(tmp_path: Path) -> None:
    base = result(tmp_path, "base")
    lines = [{**row, "tokens": row["tokens"] // 2} for row in rows("o")]
    other = write(tmp_path / "o.jsonl", [summary("o", tokenizer_sha256="z"), *lines])
    found = compare_files(base, [other], 0.01, metric="bits_per_byte", resamples=200)
    assert found["verdict"] == "PASS"
    bare = write(tmp_path / "bare.jsonl", lines)
    with pytest.raises(UsageError, match="differ in tokenizer"):
        compare_files(base, [bare], 0.01)


def test_other_documents_are_refused_with_an_example(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base"), result(tmp_path, "other", n=100)
    with pytest.raises(UsageError, match="120 and 100, for example 'd100'"):
        compare_files(base, [other], 0.01)


def test_the_order_of_documents_does_not_matter(tmp_path: Path) -> None:
    base = result(tmp_path, "base")
    other = write(tmp_path / "o.jsonl", rows("o", 0.02)[::-1])
    (pair,) = compare_files(base, [other], 0.05, resamples=200)["pairs"]
    assert pair["delta"] == pytest.approx(math.expm1(0.02))


def test_one_file_with_several_models_compares_the_first_with_the_rest(tmp_path: Path) -> None:
    lines = [*rows("fp32"), *rows("w8", 0.001), *rows("w4", 0.03)]
    path = write(tmp_path / "documents.jsonl", lines)
    found = compare_files(path, [], 0.01, resamples=200)
    pairs = [(p["base"], p["other"], p["verdict"]) for p in found["pairs"]]
    assert pairs == [("fp32", "w8", "PASS"), ("fp32", "w4", "FAIL")]


def test_a_model_of_a_file_can_be_picked_and_a_typo_gets_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [*rows("fp32"), *rows("gptq-w4", 0.03)])
    base, other = Path(f"{path}#fp32"), Path(f"{path}#gptq-w4")
    assert len(compare_files(base, [other], 0.01, resamples=100)["pairs"]) == 1
    with pytest.raises(UsageError, match="did you mean 'gptq-w4'"):
        compare_files(base, [Path(f"{path}#gptqw4")], 0.01)
    with pytest.raises(UsageError, match="pick the base with"):
        compare_files(path, [other], 0.01)


def test_a_sealed_folder_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "evaluate"
    folder.mkdir(parents=True)
    write(folder / "documents.jsonl", [*rows("fp32"), *rows("w8", 0.001)])
    write(folder / "results.jsonl", [summary("fp32"), summary("w8")])
    with pytest.raises(ModelFileError, match="not sealed"):
        compare_files(folder, [], 0.01)
    files.seal(folder)
    assert compare_files(tmp_path / "run", [], 0.01, resamples=100)["verdict"] == "PASS"
    assert read_scored(folder)[0].fingerprint == PRINT
    write(folder / "results.jsonl", [summary("fp32")])
    with pytest.raises(ModelFileError):
        compare_files(folder, [], 0.01)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"model": "m", "document": "x"}, "needs numbers"),
        ({"model": "m", "document": "x", "nll": math.nan, "tokens": 1, "bytes": 1}, "impossible"),
        ({"model": "m", "document": "d0", "nll": 1.0, "tokens": 1, "bytes": 1}, "came twice"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "bad.jsonl", [*rows("m", n=2), line])
    with pytest.raises(DataError, match=said):
        read_scored(path)


def test_files_without_documents_or_without_others_are_refused(tmp_path: Path) -> None:
    only = write(tmp_path / "results.jsonl", [summary("a")])
    with pytest.raises(DataError, match="no per-document lines"):
        compare_files(only, [], 0.01)
    with pytest.raises(DataError, match="no such file"):
        compare_files(tmp_path / "none.jsonl", [], 0.01)
    with pytest.raises(UsageError, match="at least one other"):
        compare_files(result(tmp_path, "base"), [], 0.01)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_that_means_nothing_is_refused(tmp_path: Path, margin: float) -> None:
    base = result(tmp_path, "base")
    with pytest.raises(UsageError, match="margin"):
        compare_files(base, [base], margin)


def test_an_unknown_metric_is_refused_with_a_hint(tmp_path: Path) -> None:
    base = result(tmp_path, "base")
    with pytest.raises(UsageError, match="did you mean 'perplexity'"):
        compare_files(base, [base], 0.01, metric="perplexty")


def test_ties_are_the_pairs_whose_interval_holds_zero(tmp_path: Path) -> None:
    paths = [
        result(tmp_path, "a"),
        result(tmp_path, "b", shift=0.0001, noise=0.05),
        result(tmp_path, "c", shift=0.5, noise=0.01),
    ]
    scored = [read_scored(path)[0] for path in paths]
    assert tied_models(scored) == (("a", "b"),)


def test_two_files_are_compared_without_torch_and_in_a_moment(tmp_path: Path) -> None:
    base, other = result(tmp_path, "base", n=400), result(tmp_path, "o", 0.004, 0.02, n=400)
    code = (
        "import sys; from pathlib import Path; from quantale.report.compare import compare_files;"
        f"compare_files(Path({str(base)!r}), [Path({str(other)!r})], 0.01);"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_verdicts_over_many_variants_are_adjusted_together(tmp_path: Path) -> None:
    """What barely passes alone may not pass as one of twenty."""
    base = result(tmp_path, "base")
    others = []
    for i in range(20):
        wobble = random.Random(i)
        lines = [summary(f"v{i}")]
        for line in rows("base"):
            change = line["tokens"] * wobble.gauss(0, 0.042)
            lines.append({**line, "model": f"v{i}", "nll": line["nll"] + change})
        others.append(write(tmp_path / f"v{i}.jsonl", lines))
    alone = [compare_files(base, [one], 0.01, resamples=2000)["verdict"] for one in others]
    together = compare_files(base, others, 0.01, resamples=2000)["pairs"]
    passed = [pair["verdict"] for pair in together].count("PASS")
    assert passed < alone.count("PASS")


def test_more_documents_than_there_are_would_tell(tmp_path: Path) -> None:
    """Three cannot tell whatever their spread says, so the answer is not two."""
    lines = [summary("a"), *rows("a", n=3), summary("b"), *rows("b", -0.007, 0.0005, n=3)]
    pair = compare_files(write(tmp_path / "a.jsonl", lines), [], 0.01)["pairs"][0]
    assert (pair["verdict"], pair["n_that_would_tell"]) == ("CANNOT TELL", 4)
