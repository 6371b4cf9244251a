"""Sweeps: the variants they write, their names and origins, and what is refused."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.core.recipe_file import Draft, ResolvedRecipe, dump, load_recipe, resolve
from quantale.core.recipe_sweep import points

TINY = """\
name: tiny
train: {steps: 2, batch_size: 2, learning_rate: 1e-3, evaluate_every: 2, checkpoint_every: 2}
variants:
  - {name: a, method: rtn, bits: 4, group_size: 32}
  - {name: b, method: hqq, rules: [{role: head, method: rtn, bits: 8}]}
sweep:
"""


def load(tmp_path: Path, sweep: str, *sets: str) -> ResolvedRecipe:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{TINY}  - {sweep}\n")
    return load_recipe(str(path), sets)


def test_each_value_is_a_variant_and_its_own_value_is_the_variant_itself(tmp_path: Path) -> None:
    recipe = load(tmp_path, "{variant: a, over: {group_size: [16, 32, row]}}").recipe
    made = {v.name: v for v in recipe.variants}
    assert list(made) == ["a", "b", "a-group_size-16", "a-group_size-row"]
    assert [made[n].group_size for n in made if n != "b"] == [32, 16, "row"]
    assert {(made[n].method, made[n].bits) for n in made if n != "b"} == {("rtn", 4)}
    known = {name: v.model_dump(mode="json") for name, v in made.items()}
    found = [point.name for point in points(recipe.sweep[0], known)]
    assert found == ["a-group_size-16", "a", "a-group_size-row"]


def test_settings_and_rules_are_reached_and_several_keys_combine(tmp_path: Path) -> None:
    over = "{rules.0.bits: [8, 6], settings.axis: [0, 1]}"
    recipe = load(tmp_path, f"{{variant: b, over: {over}}}").recipe
    made = {v.name: (v.rules[0].bits, v.settings.get("axis")) for v in recipe.variants[2:]}
    assert made == {
        "b-axis-0": (8, 0),
        "b-axis-1": (8, 1),
        "b-bits-6-axis-0": (6, 0),
        "b-bits-6-axis-1": (6, 1),
    }
    assert recipe.variants[1].settings == {}


def test_what_was_set_is_swept_and_the_origins_name_the_line(tmp_path: Path) -> None:
    resolved = load(tmp_path, "{variant: a, over: {bits: [3, 4]}}", "variants.0.group_size=8")
    assert resolved.recipe.variants[2].group_size == 8
    assert resolved.origins["variants.2.bits"] == f"sweep {tmp_path}/tiny.yaml:7"
    assert resolved.origins["variants.2.group_size"].startswith("sweep ")
    assert resolved.origins["variants.0.group_size"] == "--set"
    assert resolved.origins["variants.2.symmetric"] == "default"


def test_a_recipe_that_was_written_down_is_not_swept_twice(tmp_path: Path) -> None:
    recipe = load(tmp_path, "{variant: a, over: {bits: [3, 4], group_size: [16]}}").recipe
    path = tmp_path / "again.yaml"
    path.write_text(dump(recipe))
    assert load_recipe(str(path)).recipe == recipe


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{variant: aa, over: {bits: [3]}}", "tiny.yaml:7: sweep[0].variant: no variant 'aa'"),
        ("{variant: a, over: {bitz: [3]}}", "tiny.yaml:7: variants[2].bitz: unknown key"),
        ("{variant: a, over: {bits: [3, 3]}}", "tiny.yaml:7: sweep[0].over.bits: should be one"),
        ("{variant: a, over: {name: [c]}}", "sweep[0].over.name: 'name' is not how"),
        ("{variant: a, over: {}}", "sweep[0].over: "),
        ("{variant: a, over: {bits: 3}}", "sweep[0].over.bits: "),
        ("{variant: a, over: {bits: [9]}}", "variants[2].bits: should be less than or equal to 8"),
        ("{variant: a, over: {method: ['r/t']}}", "variants[2].name: 'a-method-r/t' is not safe"),
        ("{variant: a, over: {bits.deep: [3]}}", "sweep[0].over: the variant 'a-deep-3'"),
    ],
)
def test_a_faulty_sweep_is_named_with_its_line(sweep: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, sweep)
    assert message in str(caught.value)


def test_a_variant_in_the_way_of_a_sweep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    text = TINY.replace("name: b,", "name: a-bits-3,") + "  - {variant: a, over: {bits: [3]}}\n"
    path.write_text(text)
    with pytest.raises(UsageError, match="'a-bits-3' should be its, and has other values"):
        load_recipe(str(path))


VALUES = st.lists(st.integers(1, 8), min_size=1, max_size=4, unique=True)
GROUPS = st.lists(
    st.sampled_from([16, 32, 64, "row", "tensor"]), min_size=1, max_size=4, unique=True
)


@settings(deadline=None, max_examples=30)
@given(bits=VALUES, groups=GROUPS)
def test_a_sweep_makes_every_combination_once(bits: list[int], groups: list[Any]) -> None:
    data: dict[str, Any] = {
        "name": "tiny",
        "model": {"kind": "pretrained", "path": "somewhere"},
        "tokenizer": {"kind": "pretrained"},
        "variants": [{"name": "a", "method": "rtn", "bits": 4, "group_size": 32}],
        "sweep": [{"variant": "a", "over": {"bits": bits, "group_size": groups}}],
    }
    recipe = resolve(Draft(data, {}), [], "here").recipe
    made = {v.name: (v.bits, v.group_size) for v in recipe.variants}
    known = {v.name: v.model_dump(mode="json") for v in recipe.variants}
    found = [made[point.name] for point in points(recipe.sweep[0], known)]
    assert found == list(itertools.product(bits, groups))
    assert len(made) == len(set(made.values()))
