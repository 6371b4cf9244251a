"""YAML in and out: strict, harmless, and with the line of everything."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.core.recipe_yaml import dump, parse, show


def place(line: int) -> str:
    return f"f.yaml:{line}"


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, DATA, max_size=4))
def test_what_is_dumped_is_read_back_unchanged(data: dict[str, Any]) -> None:
    assert parse(dump(data), place)[0] == data


def test_every_key_and_item_knows_its_line() -> None:
    text = "a: 1\nb:\n  - x\n  -\n    c: 2\n"
    data, places = parse(text, place)
    assert data == {"a": 1, "b": ["x", {"c": 2}]}
    assert places["a",] == "f.yaml:1"
    assert places["b",] == "f.yaml:2"
    assert places["b", 0] == "f.yaml:3"
    assert places["b", 1, "c"] == "f.yaml:5"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("5.0e-4", 5e-4),
        ("1_000", 1000),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("2026-01-01", "2026-01-01"),
        ("stories.csv#Story", "stories.csv#Story"),
        ("D[train][:500]", "D[train][:500]"),
        ("[1, 2.5]", [1, 2.5]),
    ],
)
def test_scalars_have_the_types_of_yaml_1_2(text: str, value: Any) -> None:
    found, _ = parse(text, place)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: duplicate key"),
        ("s:\n  a: 1\n  a: 1\n", "f.yaml:3: s.a: duplicate key"),
        ("a:\n  b: .nan\n", "f.yaml:2: a.b: .nan is not a finite number"),
        ("a: 0x" + "f" * 5000 + "\n", "f.yaml:1: a: a number that does not fit"),
        ("a: -.inf\n", "f.yaml:1: a: -.inf is not a finite number"),
        ("a: 1e999\n", "f.yaml:1: a: 1e999 is not a finite number"),
        ("\na: [1,\n", "f.yaml:3: not YAML"),
        ("a: b: c\n", "f.yaml:1: not YAML"),
        ("\ta: 1\n", "f.yaml:1: not YAML"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2: not YAML"),
        ("a: &x 1\nb: *x\n", "f.yaml:1: b: aliases"),
        ("<<: {a: 1}\n", "f.yaml:1: a key should be a plain word"),
        ("? [a]\n: 1\n", "f.yaml:1: a key should be a plain word"),
        ("a: \x00\n", "f.yaml:1: not YAML"),
        ("[" * 500, "f.yaml:1: not YAML"),
        ("[" * 30 + "]" * 30, "nested too deeply"),
        ("a" * 1_000_001, "longer than"),
    ],
)
def test_faults_are_one_line_with_the_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, place)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.getcwd []", "!mine 3", "!!binary aGk=", "!!set {x}"]
)
def test_tags_are_refused_and_never_executed(tag: str) -> None:
    with pytest.raises(UsageError, match=r"f\.yaml:1: a: tag .* is not used"):
        parse(f"a: {tag}\n", place)


@given(st.text(max_size=60))
def test_any_text_is_data_or_a_usage_error(text: str) -> None:
    try:
        data, _ = parse(text, place)
    except UsageError:
        return
    assert not (isinstance(data, float) and math.isnan(data))


def test_paths_are_shown_as_people_write_them() -> None:
    assert show(("variants", 2, "method")) == "variants[2].method"
    assert show(()) == ""
