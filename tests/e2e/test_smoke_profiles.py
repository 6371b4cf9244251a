"""The smoke profiles of shipped recipes from end to end at tiny sizes: every variant is made."""

import json
from pathlib import Path

import pytest
from tiny_recipes import tiny_sets

from quantale.core.progress import Silent
from quantale.core.recipe_file import load_recipe, recipe_names, recipe_profiles
from quantale.core.records import read_json
from quantale.stages.pipeline import plan_recipe, run_recipe

SMOKE = [name for name in recipe_names() if "smoke" in recipe_profiles(name)]


@pytest.fixture
def data(tmp_path: Path) -> dict[str, list[str]]:
    """What recipes read whose corpus is not built in."""
    rows = [f"{i % 4},word {i} of class {i % 4} and more words" for i in range(90)]
    news, functions = tmp_path / "news.csv", tmp_path / "functions.jsonl"
    news.write_text("label,text\n" + "\n".join(rows) + "\n")
    code = ({"func_code_string": f"def f{i}(x):\n    return x + {i}\n" * 3} for i in range(120))
    functions.write_text("".join(json.dumps(line) + "\n" for line in code))
    return {
        "ag-news": [f"data={news}"],
        "onebit-qlora": [f"data={functions}#func_code_string"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKE)
def test_a_smoke_profile_makes_every_variant_and_its_page(
    name: str, data: dict[str, list[str]], tmp_path: Path
) -> None:
    resolved = load_recipe(name, tiny_sets(name, data.get(name, [])), "smoke")
    out = tmp_path / "run"
    result = run_recipe(resolved, out, only=None, resume=False, progress=Silent())
    names = [variant.name for variant in resolved.recipe.variants]
    assert set(result.summary["verdicts"]) == set(names)
    assert set(read_json(out / "verify" / "verified.json")) == set(names)
    page = result.report.read_text(encoding="utf-8")
    assert all(f">{name}</th>" in page or name in page for name in names)
    for sweep in resolved.recipe.sweep:
        assert page.count(f"Sweep over {next(iter(sweep.over))}</p>") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKE)
def test_plan_predicts_every_variant_of_a_smoke_profile(
    name: str, data: dict[str, list[str]]
) -> None:
    resolved = load_recipe(name, tiny_sets(name, data.get(name, [])), "smoke")
    predicted = plan_recipe(resolved, None)
    made = {line["stage"].partition("/")[2] for line in predicted["stages"]} - {""}
    assert made == {variant.name for variant in resolved.recipe.variants}
