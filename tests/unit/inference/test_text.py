"""What is said token by token is, joined, the whole text: no half characters, no stop texts."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from quantale.data.tokenizers import train_bpe
from quantale.inference.text import TextFlow

TOKENIZER: PreTrainedTokenizerFast = train_bpe(["the bear and the moon, the bear"], 270)


def said(text: str, stop: tuple[str, ...] = (), prompt: str = "the bear") -> list[str]:
    flow = TextFlow(TOKENIZER, TOKENIZER.encode(prompt, add_special_tokens=False), stop)
    pieces = []
    for token in TOKENIZER.encode(text, add_special_tokens=False):
        pieces.append(flow.push(token))
        if flow.is_stopped:
            return pieces
    return [*pieces, flow.finish()]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40))
def test_the_pieces_are_the_text_and_never_half_a_character(text: str) -> None:
    text = text.replace("\ufffd", "")
    pieces = said(text)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def cut(text: str, stop: list[str]) -> str:
    """Look at all of the text after every token: what a token completes ends it at once."""
    tokens = TOKENIZER.encode(text, add_special_tokens=False)
    for count in range(1, len(tokens) + 1):
        so_far = str(TOKENIZER.decode(tokens[:count]))
        places = [so_far.find(one) for one in stop if one in so_far]
        if places:
            return so_far[: min(places)]
    return text


@settings(deadline=None, max_examples=200)
@example("baa", ["a", "baa"])  # "a" is whole before "baa" is, and begins later
@example("ab", ["b", "ab"])  # both are whole at once
@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_in_front_of_the_stop_text_that_is_whole_first(
    text: str, stop: list[str]
) -> None:
    assert "".join(said(text, tuple(stop))) == cut(text, stop)


def test_a_stop_text_is_held_back_over_tokens_and_let_go_when_it_is_none() -> None:
    assert "".join(said("one STOP two", ("STOP",))) == "one "
    assert "".join(said("one STO two", ("STOP",))) == "one STO two"
    assert "".join(said("one STO", ("STOP",))) == "one STO"


def test_characters_come_as_soon_as_they_are_whole() -> None:
    pieces = said("a🐻b")
    assert "🐻" in pieces
    assert pieces.index("🐻") < len(pieces) - 2


@pytest.mark.parametrize("prompt", ["", "🐻", "the bear "])
def test_spaces_in_front_survive(prompt: str) -> None:
    assert "".join(said(" the moon", prompt=prompt)) == " the moon"


def test_text_that_never_becomes_whole_is_said_at_the_end() -> None:
    flow = TextFlow(TOKENIZER, [], ())
    half = TOKENIZER.encode("🐻", add_special_tokens=False)[:2]
    assert [flow.push(token) for token in half] == ["", ""]
    assert set(flow.finish()) == {"\ufffd"}
