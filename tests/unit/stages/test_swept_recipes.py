"""Sweeps in the pipeline: their variants on the page, several training seeds in the verdicts."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import TRAIN, tiny_recipe

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_file import Draft, ResolvedRecipe, resolve
from quantale.core.records import read_json, read_lines
from quantale.stages.pipeline import run_recipe
from quantale.stages.swept import swept

RTN = {"name": "rtn", "method": "rtn", "bits": 4, "group_size": 16}
TUNED = {"name": "longer", "tune": {**TRAIN, "method": "full"}}


def recipe(*variants: dict[str, Any], sweep: list[dict[str, Any]], **more: Any) -> ResolvedRecipe:
    data = tiny_recipe(*variants).recipe.model_dump(mode="json")
    return resolve(Draft({**data, "sweep": sweep, **more}, {}), [], "here")


def test_a_line_is_a_method_and_a_point_a_variant() -> None:
    over = {"group_size": [8, 16, "row"], "symmetric": [True, False]}
    asked = recipe({**RTN, "symmetric": True}, sweep=[{"variant": "rtn", "over": over}])
    lines = swept(asked.recipe)
    assert [line.name for line in lines] == ["rtn, symmetric true", "rtn, symmetric false"]
    assert {line.key for line in lines} == {"group_size"}
    found = [[(p.value, p.variant) for p in line.points] for line in lines]
    assert found[0] == [("8", "rtn-group_size-8"), ("16", "rtn"), ("row", "rtn-group_size-row")]
    assert found[1][1] == ("16", "rtn-symmetric-false")


def test_variants_that_a_group_leaves_out_are_no_points() -> None:
    sweep = [{"variant": "rtn", "over": {"bits": [3, 4]}}]
    whole = recipe({**RTN, "group": "one"}, sweep=sweep).recipe
    kept = whole.model_copy(update={"variants": whole.variants[:1]})
    assert [[p.variant for p in line.points] for line in swept(kept)] == [["rtn"]]
    assert swept(whole.model_copy(update={"variants": ()})) == ()


def test_every_seed_is_trained_scored_and_part_of_the_verdict(tmp_path: Path) -> None:
    sweep: list[dict[str, Any]] = [
        {"over": {"seed": [1, 2, 3]}},
        {"variant": "rtn", "over": {"bits": [3, 4]}},
    ]
    asked = recipe(RTN, TUNED, sweep=sweep)
    run_recipe(asked, tmp_path, only=None, resume=False, progress=Silent())
    pairs = read_json(tmp_path / "compare" / "verdicts.json")["pairs"]
    assert [pair["other"] for pair in pairs] == ["rtn", "longer", "rtn-bits-3"]
    assert {pair["scope"] for pair in pairs} == {"methods, 3 training seeds"}
    delta = next(pair["delta"] for pair in pairs if pair["other"] == "longer")
    each = [_rise(path) for path in (tmp_path, tmp_path / "seeds/2", tmp_path / "seeds/3")]
    assert len(set(each)) == 3
    assert min(each) < delta < max(each)
    page = (tmp_path / "compare" / "report.html").read_text()
    assert "Sweep over bits</p>" in page
    assert "1, 2, 3: verdicts and losses are over all of them" in page
    assert "One checkpoint was measured" not in page
    lines = [
        json.loads(x) for x in (tmp_path / "compare" / "results.jsonl").read_text().splitlines()
    ]
    trained = {x["model"]: x["value"] for x in lines if x["metric"] == "training_tokens"}
    assert set(trained) == {"fp32", "longer"}
    run_recipe(asked, tmp_path, only="compare", resume=False, progress=Silent())


def _rise(out: Path) -> float:
    found = {
        line["model"]: line["value"]
        for line in read_lines(out / "evaluate" / "results.jsonl")
        if line["metric"] == "perplexity"
    }
    return float(found["longer"]) / float(found["fp32"]) - 1


def test_a_missing_seed_is_named(tmp_path: Path) -> None:
    asked = recipe(sweep=[{"over": {"seed": [2]}}])
    for stage in ("train", "verify", "evaluate"):
        run_recipe(asked, tmp_path, only=stage, resume=False, progress=Silent())
    with pytest.raises(UsageError, match="seeds/2/evaluate is missing"):
        run_recipe(asked, tmp_path, only="compare", resume=False, progress=Silent())


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"over": {"bits": [3]}}, "sweep[0].variant: is missing"),
        ({"over": {"seed": [1.5]}}, "sweep[0].over.seed: seeds are whole numbers from 0"),
        ({"over": {"seed": [True]}}, "seeds are whole numbers from 0"),
        ({"over": {"seed": [1, 1]}}, "should be one value or more, all different"),
    ],
)
def test_seeds_that_are_none_are_refused(sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(sweep=[sweep])
    assert message in str(caught.value)


def test_seeds_of_what_is_not_trained_or_a_classifier_are_refused() -> None:
    sweep = [{"over": {"seed": [1, 2]}}]
    model, tokenizer = {"kind": "pretrained", "path": "somewhere"}, {"kind": "pretrained"}
    with pytest.raises(UsageError, match="a base that is not trained has no seed"):
        recipe(sweep=sweep, model=model, tokenizer=tokenizer, train=None)
    with pytest.raises(UsageError, match="seeds of classifiers"):
        recipe(sweep=sweep, evaluate={"classification": {"route": "likelihood"}})
