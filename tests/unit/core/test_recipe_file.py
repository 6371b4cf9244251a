"""Loading: names and paths, `--set`, origins, and errors that point at the line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.core.recipe_file import (
    dump,
    load_recipe,
    load_rules,
    parse_assignment,
    recipe_description,
    recipe_names,
    recipe_text,
)

TINY = """\
name: tiny
train:
  steps: 10
  batch_size: 2
  learning_rate: 1e-3
  min_learning_rate: 1e-4
  warmup_steps: 2
  evaluate_every: 5
  checkpoint_every: 5
variants:
  - name: a
    method: rtn
    bits: 4
  - name: b
    method: gptq
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def fault(path: Path, *sets: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(str(path), sets)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def test_a_recipe_is_found_by_name_or_by_path(tiny: Path) -> None:
    assert load_recipe("quickstart").recipe.name == "quickstart"
    assert load_recipe(str(tiny)).recipe.name == "tiny"


def test_a_name_that_is_not_shipped_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'quickstart'"):
        load_recipe("quikstart")


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert "no recipe file" in fault(tmp_path / "none.yaml")
    assert "cannot read" in fault(tmp_path)


def test_a_file_that_is_not_text_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    assert "cannot read recipe" in fault(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    method: gptq",
            "    methd: gptq",
            "tiny.yaml:15: variants[1].methd: unknown key; did you mean 'method'?",
        ),
        (
            "    bits: 4",
            "    bitz: 4",
            "tiny.yaml:13: variants[0].bitz: unknown key; did you mean 'bits'?",
        ),
        ("method: rtn", "method: rtm", "tiny.yaml:12: variants[0].method: no method named 'rtm'"),
        (
            "  steps: 10",
            "  stpes: 10",
            "tiny.yaml:3: train.stpes: unknown key; did you mean 'steps'?",
        ),
        ("steps: 10", "steps: ten", "tiny.yaml:3: train.steps: should be a valid integer"),
        ("bits: 4", "bits: 9", "tiny.yaml:13: variants[0].bits: should be less than or equal to 8"),
        ("name: b", "name: a", "tiny.yaml:14: variants[1].name: 'a' is already"),
        ("name: b", "name: ../b", "tiny.yaml:14: variants[1].name: '../b' is not safe"),
        ("warmup_steps: 2", "warmup_steps: 11", "tiny.yaml:7: train.warmup_steps: longer"),
        ("name: tiny", "nmae: tiny", "tiny.yaml:1: nmae: unknown key; did you mean 'name'?"),
        ("name: tiny", "name: tiny\nmodle: {}", "tiny.yaml:2: modle: unknown key; did you mean"),
        ("name: tiny", "name: tiny\nname: x", "tiny.yaml:2: name: duplicate key"),
        (
            "    bits: 4",
            "    group_size: rwo",
            "tiny.yaml:13: variants[0].group_size: should be a valid integer, "
            "or should be 'row' or 'tensor'; got 'rwo'; did you mean 'row'?",
        ),
        (
            "name: tiny",
            "name: tiny\ntokenizer: {kind: characers}",
            "tiny.yaml:2: tokenizer.kind: should be 'characters', 'bpe' or 'pretrained'; "
            "got 'characers'; did you mean 'characters'?",
        ),
        (
            "name: tiny",
            "name: tiny\nevaluate: {protocol: documnet}",
            "tiny.yaml:2: evaluate.protocol: no protocol named 'documnet'; "
            "did you mean 'document'?",
        ),
        (
            "    bits: 4",
            "    settings:\n      act_order: [1]",
            "tiny.yaml:14: variants[0].settings.act_order: should be",
        ),
    ],
)
def test_a_fault_names_file_line_key_and_nearest(
    tiny: Path, old: str, new: str, message: str
) -> None:
    tiny.write_text(TINY.replace(old, new, 1), encoding="utf-8")
    assert fault(tiny).startswith(message)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("trian.steps=3", "--set trian.steps=3: trian: unknown key; did you mean 'train'?"),
        ("train.stps=3", "--set train.stps=3: train.stps: unknown key; did you mean 'steps'?"),
        ("variants.0.methd=x", "variants[0].methd: unknown key; did you mean 'method'?"),
        ("variants.2.bits=3", "variants is a list of 2: take a number below 2, not 2"),
        ("variants.a.bits=3", "variants is a list of 2: take a number below 2, not 'a'"),
        ("name.x=3", "name is a single value, it has no 'x'"),
        ("train.betas.0=0.5", "train.betas is no list in the file: set it whole"),
        ("train.clip=.inf", "--set train.clip=.inf: .inf is not a finite number"),
        ("train.clip=[1", "--set train.clip=[1: not YAML"),
        ("train", "--set train: should be key=value"),
        ("=1", "--set =1: should be key=value"),
        ("variants.0.bits=0", "--set variants.0.bits=0: variants[0].bits: should be greater"),
        ("train=null", "--set train=null: train: a nanogpt starts from random weights"),
    ],
)
def test_a_bad_set_names_itself(tiny: Path, assignment: str, message: str) -> None:
    assert message in fault(tiny, assignment)


def test_set_changes_values_typed_as_yaml(tiny: Path) -> None:
    sets = ["train.learning_rate=5e-4", "variants.1.bits=3", "model.bias=true", "bench=null"]
    recipe = load_recipe(str(tiny), sets).recipe
    assert recipe.train is not None
    assert recipe.train.learning_rate == 5e-4
    assert recipe.variants[1].bits == 3
    assert recipe.model.bias is True
    assert recipe.bench is None


def test_the_last_set_wins_and_keeps_what_it_does_not_name(tiny: Path) -> None:
    recipe = load_recipe(str(tiny), ["train.steps=20", "train.steps=30"]).recipe
    assert recipe.train is not None
    assert (recipe.train.steps, recipe.train.batch_size) == (30, 2)


def test_data_equals_a_path_is_short_for_its_source(tiny: Path) -> None:
    resolved = load_recipe(str(tiny), ["data=../stories.csv#Story"])
    assert resolved.recipe.data.source == "../stories.csv#Story"
    assert resolved.origins["data.source"] == "--set"
    assert resolved.origins["data.split"] == "default"


def test_the_origin_of_each_value_is_known(tiny: Path) -> None:
    resolved = load_recipe(str(tiny), ["variants.0.bits=3", "report.prompts=[Hello]"])
    origins = resolved.origins
    assert origins["name"] == f"recipe {tiny}:1"
    assert origins["train.steps"] == f"recipe {tiny}:3"
    assert origins["variants.0.bits"] == "--set"
    assert origins["variants.1.method"] == f"recipe {tiny}:15"
    assert origins["report.prompts"] == "--set"
    assert origins["train.betas"] == "default"
    assert origins["seed"] == "default"


@pytest.mark.parametrize("name", recipe_names())
def test_a_dumped_recipe_loads_to_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name).recipe
    path = tmp_path / "again.yaml"
    path.write_text(dump(recipe), encoding="utf-8")
    assert load_recipe(str(path)).recipe == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_the_first_paragraph_holds_name_and_description(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert recipe_description(name) == recipe.description


def test_a_shipped_recipe_is_printed_with_its_comments() -> None:
    assert "#" in recipe_text("nanogptq")


@given(
    st.integers(-(2**62), 2**62) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
)
def test_assignments_keep_their_type(value: float) -> None:
    key, found = parse_assignment(f"damp={str(value).lower()}")
    assert key == "damp"
    assert found == value
    assert type(found) is type(value)


RULES = """\
- match: "transformer.h.[0-2].**"
  method: hqq
  bits: 4
- {role: [attention, mlp], method: nf4}
- role: head
  method: null
  min_size: 100
"""


def test_rules_are_read_from_a_list(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    early, late, head = load_rules(path)
    assert (early.match, early.plugin, early.given()) == (
        "transformer.h.[0-2].**",
        "hqq",
        {"bits": 4},
    )
    assert (late.role, late.plugin, late.given()) == (("attention", "mlp"), "nf4", {})
    assert (head.role, head.plugin, head.min_size) == ("head", None, 100)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  bits: 4", "  bit: 4", "rules.yaml:3: rules[0].bit: unknown key; did you mean 'bits'?"),
        ("  bits: 4", "  bits: 9", "rules.yaml:3: rules[0].bits: should be less than or equal"),
        ("method: hqq", "method: hq", "rules.yaml:2: rules[0].method: no method named 'hq'; did"),
        ("role: head", "role: haed", "rules.yaml:5: rules[2].role: should be"),
        ("role: head", "role: haed", "did you mean 'head'?"),
        ("  method: null", "  bits: 4", "rules.yaml:5: rules[2].method: is missing"),
        ("null", "none\n  bits: 4", "rules.yaml:6: rules[2].method: full precision has no"),
        (RULES, "match: a", "rules.yaml:1: should be a list of rules"),
        (RULES, "[]", "rules.yaml:1: should be a list of rules"),
        (RULES, "[3]", "rules.yaml:1: rules[0]: should be"),
        (RULES, "[", "rules.yaml:1: not YAML"),
    ],
)
def test_a_fault_in_rules_has_its_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_rules(path)
    assert message in str(caught.value)


def test_rules_that_are_not_there_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rules file"):
        load_rules(tmp_path / "none.yaml")


HYBRID = """\
  - name: hybrid
    rules:
      - {match: "**.h.[0-2].**", method: hqq, bits: 4}
      - {role: head, method: rtn, bits: 8}
    method: nf4
    embedding_method: nf4
    dtype: float16
"""


def test_a_hybrid_variant_loads_and_survives_a_dump(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY + HYBRID, encoding="utf-8")
    resolved = load_recipe(str(tiny))
    variant = resolved.recipe.variants[2]
    assert [rule.plugin for rule in variant.rules] == ["hqq", "rtn"]
    assert (variant.method, variant.embedding_method, variant.given()) == ("nf4", "nf4", {})
    assert resolved.origins["variants.2.rules.0.bits"] == f"recipe {tiny}:18"
    again = tmp_path / "again.yaml"
    again.write_text(dump(resolved.recipe), encoding="utf-8")
    assert load_recipe(str(again)).recipe == resolved.recipe


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hqq", "hqqq", "tiny.yaml:18: variants[2].rules[0].method: no method named 'hqqq'; did"),
        ("match:", "mach:", "tiny.yaml:18: variants[2].rules[0].mach: unknown key; did you mean"),
        ("    embedding_method: nf4", "    embedding_method: nf5", "tiny.yaml:21: variants[2]"),
        ("    dtype: float16", "    dtype: half", "tiny.yaml:22: variants[2].dtype: should be"),
        ("    method: nf4\n", "    bits: 3\n", "variants[2].method: 'bits' needs a method"),
    ],
)
def test_a_fault_in_a_hybrid_variant_has_its_line(
    tiny: Path, old: str, new: str, message: str
) -> None:
    tiny.write_text(TINY + HYBRID.replace(old, new), encoding="utf-8")
    assert message in fault(tiny)
