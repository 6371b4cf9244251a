"""The page on comparing tells the truth where a machine can check it."""

import re
from pathlib import Path

from repository import ROOT, fences

from quantale.cli.terminal import EXIT_CODES
from quantale.core.recipe_file import load_recipe
from quantale.report.metrics import METRICS

PAGE = ROOT / "docs" / "comparing.md"


def test_its_exit_codes_are_those_of_the_command() -> None:
    rows = re.findall(r"^\| (PASS|FAIL|CANNOT TELL) \|.*\| (\d+) \|$", PAGE.read_text(), re.M)
    assert {verdict: int(code) for verdict, code in rows} == EXIT_CODES


def test_it_names_every_metric() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in text] == []


def test_its_recipe_is_valid(tmp_path: Path) -> None:
    (example,) = [fence for fence in fences(PAGE, "yaml") if "evaluate:" in fence.text]
    path = tmp_path / "news.yaml"
    path.write_text(example.text, encoding="utf-8")
    recipe = load_recipe(str(path)).recipe
    assert recipe.evaluate.classification is not None
    assert recipe.compare.accuracy_margin == 0.005
