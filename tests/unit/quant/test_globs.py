"""Patterns over module names, against fnmatch and against lists of names written out."""

import fnmatch
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.quant.globs import Glob

BLOCKS = [f"transformer.h.{index}.{part}" for index in range(13) for part in ("attn.c", "mlp.c")]
OTHERS = ["transformer.wte", "transformer.ln_f", "lm_head"]
NAMES = BLOCKS + OTHERS


def found(pattern: str) -> list[str]:
    return [name for name in NAMES if Glob(pattern).fits(name)]


def test_a_star_stays_within_its_part_and_two_stars_do_not() -> None:
    assert found("transformer.*") == ["transformer.wte", "transformer.ln_f"]
    assert found("transformer.h.*.attn.c") == BLOCKS[::2]
    assert found("transformer.**") == BLOCKS + OTHERS[:2]
    assert found("**") == NAMES
    assert found("**.c") == BLOCKS
    assert found("*") == ["lm_head"]


def test_two_stars_also_stand_for_no_part_at_all() -> None:
    assert found("**.lm_head") == ["lm_head"]
    assert found("lm_head.**") == ["lm_head"]
    assert found("**.h.**.mlp.**.c") == BLOCKS[1::2]


@pytest.mark.parametrize(
    ("pattern", "blocks"),
    [
        ("transformer.h.[0-2].**", [0, 1, 2]),
        ("transformer.h.[10-11].**", [10, 11]),
        ("transformer.h.[9-10].**", [9, 10]),
        ("transformer.h.[3].**", [3]),
        ("transformer.h.[0,4-5,12].**", [0, 4, 5, 12]),
        ("**.[11-99].**", [11, 12]),
    ],
)
def test_a_range_is_one_of_numbers_and_not_of_digits(pattern: str, blocks: list[int]) -> None:
    assert found(pattern) == [
        name for index in blocks for name in BLOCKS[2 * index : 2 * index + 2]
    ]


def test_braces_stand_for_either_text_and_may_hold_dots() -> None:
    assert found("{lm_head,transformer.wte}") == ["transformer.wte", "lm_head"]
    assert found("transformer.h.[1].{attn,mlp}.c") == BLOCKS[2:4]
    assert found("transformer.{ln,w}{_f,te}") == ["transformer.wte", "transformer.ln_f"]


words = st.text("ab*", min_size=1, max_size=4).filter(lambda word: "**" not in word)


@given(st.lists(words, min_size=1, max_size=4), st.lists(st.text("ab", min_size=1, max_size=4)))
def test_without_double_stars_each_part_is_what_fnmatch_says(
    pattern: list[str], name: list[str]
) -> None:
    expected = len(pattern) == len(name) and all(
        fnmatch.fnmatchcase(word, part) for part, word in zip(pattern, name, strict=True)
    )
    assert Glob(".".join(pattern)).fits(".".join(name)) == expected or not name


@given(
    st.lists(st.sampled_from(["**", "a", "b"]), min_size=1, max_size=5),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=6),
)
def test_double_stars_are_what_trying_every_length_says(
    pattern: list[str], name: list[str]
) -> None:
    stars = pattern.count("**")
    lengths = itertools.product(range(len(name) + 1), repeat=stars)
    assert Glob(".".join(pattern)).fits(".".join(name)) == any(
        _filled(pattern, list(tried), name) for tried in lengths
    )


def _filled(pattern: list[str], lengths: list[int], name: list[str]) -> bool:
    at = 0
    for part in pattern:
        if part == "**":
            at += lengths.pop(0)
        elif name[at : at + 1] != [part]:
            return False
        else:
            at += 1
    return at == len(name)


def test_a_pattern_that_ends_in_a_bare_star_names_nothing_in_particular() -> None:
    assert Glob("transformer.ln_f").names("transformer.ln_f")
    assert Glob("transformer.ln*").names("transformer.ln_f")
    assert not Glob("transformer.*").names("transformer.ln_f")
    assert not Glob("**").names("transformer.ln_f")
    assert not Glob("{lm_head,transformer.*}").names("transformer.ln_f")
    assert Glob("{transformer.*,**.ln_f}").names("transformer.ln_f")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "should be a word"),
        ("a..b", "should be a word"),
        ("h.[0-2", "should be a word"),
        ("h.[a-b]", "should be a word"),
        ("h.x[0-2]", "should be a word"),
        ("h.{a,b", "should be a word"),
        ("h.**x", "whole part"),
        ("h.***", "whole part"),
        ("h.[3-1]", "3-1 is empty"),
        ("{a,b}" * 8, "more than 100 alternatives"),
        ("model h", "should be a word"),
    ],
)
def test_a_malformed_pattern_is_refused_with_its_text(pattern: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Glob(pattern)
    assert repr(pattern) in str(caught.value)


def test_many_double_stars_take_no_time() -> None:
    assert not Glob(".".join(["**", "a"] * 200)).fits(".".join("ab" * 30))
