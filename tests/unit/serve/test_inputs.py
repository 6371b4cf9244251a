"""What people type, made safe and cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.core.templates import Template
from quantale.serve.inputs import CHARACTERS, cleaned, filled_prompt, fitted, free_prompt

STORY = Template("[GENRE]: {genre}\n[PROMPT]: {prompt}\n[STORY]: {text}")


def words(most: int) -> object:
    """A tokenizer of words that leaves room for so many."""
    return lambda text: [(len(text.split()), most)]


def letters(*most: int) -> object:
    """Tokenizers of letters, one for each number."""
    return lambda text: [(len(text), one) for one in most]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("plain", "plain"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("half \ud83d of", "half \ufffd of"),
        ("nul\0", "nul\ufffd"),
        ("\U0001f600", "\U0001f600"),
        (None, ""),
        (["list"], ""),
        (7, ""),
    ],
)
def test_what_comes_is_text_that_can_be_encoded(typed: object, expected: str) -> None:
    assert cleaned(typed) == expected
    cleaned(typed).encode()


@given(st.text(), st.integers(0, 30))
def test_what_is_left_is_the_end_and_fits(text: str, most: int) -> None:
    kept = fitted(text, letters(most))  # type: ignore[arg-type]
    assert text.endswith(kept)
    assert len(kept) <= most
    if len(text) <= most:
        assert kept == text


def test_a_cut_begins_at_a_word() -> None:
    text = " ".join(f"word{number}" for number in range(500))
    kept = fitted(text, words(100))  # type: ignore[arg-type]
    assert kept.startswith("word")
    assert 80 <= len(kept.split()) <= 100


def test_a_text_is_counted_a_few_times_and_not_once_a_letter() -> None:
    counted = []

    def sizes(text: str) -> list[tuple[int, int]]:
        counted.append(len(text))
        return [(len(text), 100)]

    fitted("x" * CHARACTERS, sizes)
    assert len(counted) < 10


def test_the_model_with_the_least_room_decides_for_all() -> None:
    prompt = free_prompt("abcdefghij" * 5, letters(40, 20))  # type: ignore[arg-type]
    assert len(prompt.text) == 20
    assert prompt.cut == 30


def test_what_is_beyond_the_cap_is_cut_before_it_is_counted() -> None:
    seen = []

    def sizes(text: str) -> list[tuple[int, int]]:
        seen.append(len(text))
        return [(1, 10)]

    prompt = free_prompt("y" * (CHARACTERS + 5), sizes)
    assert max(seen) == CHARACTERS
    assert prompt.cut == 5


def test_nothing_is_cut_of_what_fits() -> None:
    assert free_prompt("short", letters(10)).cut == 0  # type: ignore[arg-type]
    assert free_prompt("", letters(10)).text == ""  # type: ignore[arg-type]


def test_a_template_is_filled_and_only_its_longest_field_is_cut() -> None:
    values = {"genre": "my\nstery", "prompt": "z " * 100}
    prompt = filled_prompt(STORY, values, letters(80))  # type: ignore[arg-type]
    assert prompt.text.startswith("[GENRE]: my stery\n[PROMPT]: z")
    assert prompt.text.endswith("\n[STORY]:")
    assert len(prompt.text) <= 80
    assert prompt.cut > 100


def test_a_field_that_did_not_come_is_empty() -> None:
    prompt = filled_prompt(STORY, {}, letters(80))  # type: ignore[arg-type]
    assert prompt.text == "[GENRE]: \n[PROMPT]: \n[STORY]:"
