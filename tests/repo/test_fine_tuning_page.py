"""The page on fine-tuning tells the truth where a machine can check it."""

import dataclasses
import re
from pathlib import Path

import pytest
from repository import ROOT, Fence, fences

from quantale.core.recipe_file import load_recipe
from quantale.core.registry import TUNINGS
from quantale.stages.tune import check_tuning
from quantale.tuning.methods.qat import Qat

PAGE = ROOT / "docs" / "fine-tuning.md"
REST = """name: page
tokenizer: {kind: pretrained}
model: {kind: pretrained, path: somewhere}
"""
EXAMPLES = [fence for fence in fences(PAGE, "yaml") if fence.text.startswith("variants:")]


def test_its_table_names_every_tuning_method() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|[^|]*\|[^|]*\|[^|]*\|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(TUNINGS.names())


def test_its_table_of_settings_is_complete() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [f.name for f in dataclasses.fields(Qat) if f"| `{f.name}` |" not in text] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda fence: fence.place)
def test_its_variants_are_valid(example: Fence, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(REST + example.text, encoding="utf-8")
    variants = load_recipe(str(path)).recipe.variants
    assert variants
    for variant in variants:
        check_tuning(variant)
