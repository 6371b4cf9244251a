"""Several training seeds in result files: recognised, grouped, refused where they are one."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from quantale.core.errors import UsageError
from quantale.report.compare import compare_files

HOW: dict[str, Any] = {"resamples": 2000}


def result(
    folder: Path,
    method: str,
    seed: int | None,
    shift: float,
    *,
    model: str | None = None,
    drift: float = 0.002,
) -> Path:
    """Write one evaluation; a training seed shifts the model by about `drift` nats a token."""
    lengths, luck = random.Random(1), random.Random(f"{method}{seed}")
    moved = luck.gauss(shift, drift)
    model = model or method
    stated = {} if seed is None else {"training_seed": seed}
    head = {"model": model, "metric": "perplexity", "task": "language", "protocol": "document"}
    lines: list[dict[str, Any]] = [{**head, "extra": stated}]
    for i in range(80):
        tokens = lengths.randint(50, 400)
        nll = tokens * (1.5 + lengths.gauss(0, 0.2) + moved + luck.gauss(0, 0.01))
        line = {"model": model, "document": f"d{i}", "nll": nll, "tokens": tokens, "bytes": 900}
        lines.append(line)
    path = folder / f"{method}-{seed}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def family(folder: Path, method: str, shift: float, **more: Any) -> list[Path]:
    return [result(folder, method, seed, shift, **more) for seed in (1, 2, 3)]


def test_three_seeds_a_side_make_a_claim_about_methods(tmp_path: Path) -> None:
    base, other = family(tmp_path, "a", 0.0), family(tmp_path, "b", 0.05)
    found = compare_files(base[0], [*base[1:], *other], 0.01, **HOW)
    (pair,) = found["pairs"]
    assert (pair["base"], pair["other"], pair["verdict"]) == ("a", "b", "FAIL")
    assert pair["training_seeds"] == [3, 3]
    assert pair["scope"] == "methods, 3 training seeds"
    assert pair["delta"] == pytest.approx(0.05, abs=0.01)


def test_a_list_says_what_belongs_together_whatever_the_names(tmp_path: Path) -> None:
    base = family(tmp_path, "a", 0.0, model="model")
    other = family(tmp_path, "b", 0.05, model="model")
    listed = compare_files(base, [other], 0.01, **HOW)["pairs"][0]
    found = compare_files(base[0], [other[0], base[1], other[1], base[2], other[2]], 0.01, **HOW)
    assert found["pairs"] == [listed]


def test_one_or_two_seeds_speak_of_checkpoints(tmp_path: Path) -> None:
    base, other = family(tmp_path, "a", 0.0), family(tmp_path, "b", 0.05)
    alone = compare_files(base[0], [other[0]], 0.01, **HOW)["pairs"][0]
    two = compare_files(base[:2], [other[:2]], 0.01, **HOW)["pairs"][0]
    fixed = compare_files(base[0], [other], 0.01, **HOW)["pairs"][0]
    assert [one["scope"] for one in (alone, two, fixed)] == [
        "this checkpoint", "these checkpoints", "these checkpoints",
    ]  # fmt: skip
    assert [one["seeds_that_would_tell"] for one in (alone, two, fixed)] == [None] * 3


def test_the_spread_of_the_seeds_widens_the_interval(tmp_path: Path) -> None:
    base, other = (family(tmp_path, name, 0.0, drift=0.03) for name in "ab")
    alone = compare_files(base[0], [other[0]], 0.01, **HOW)["pairs"][0]
    methods = compare_files(base, [other], 0.01, **HOW)["pairs"][0]
    assert methods["ci_high"] - methods["ci_low"] > 5 * (alone["ci_high"] - alone["ci_low"])
    close = compare_files(base, [other], abs(methods["delta"]) + 0.001, **HOW)["pairs"][0]
    assert close["verdict"] == "CANNOT TELL"
    assert close["n_that_would_tell"] > 80
    assert close["seeds_that_would_tell"] > 3


def test_results_that_state_no_seed_are_never_averaged(tmp_path: Path) -> None:
    base = result(tmp_path, "a", None, 0.0)
    others = [result(tmp_path, "b", None, 0.0), base]
    assert len(compare_files(base, others, 0.01, **HOW)["pairs"]) == 2


def test_one_seed_twice_is_no_second_seed(tmp_path: Path) -> None:
    base, other = result(tmp_path, "a", 1, 0.0), result(tmp_path, "b", 1, 0.0)
    with pytest.raises(UsageError, match="training seed 1: a seed counts once"):
        compare_files([base, base], [other], 0.01)
    with pytest.raises(UsageError, match="at least one other"):
        compare_files(base, [result(tmp_path, "a", 2, 0.0)], 0.01)


def test_a_file_with_two_training_seeds_of_one_model_is_refused(tmp_path: Path) -> None:
    path = result(tmp_path, "a", 1, 0.0)
    line = {"model": "a", "metric": "kl_mean", "extra": {"training_seed": 2}}
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    with pytest.raises(UsageError, match="several training seeds"):
        compare_files(path, [path], 0.01)
