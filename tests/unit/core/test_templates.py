"""Templates: which part of a text is the answer, and what a template may not be."""

import pytest

from quantale.core.templates import Template

ROW = {"g": "fantasy", "p": "why?", "s": "Once {upon} a time."}


def test_spaces_in_front_of_the_answer_belong_to_it() -> None:
    template = Template("[G]: {g}\n[P]: {p}\n[S]: {s}")
    text, answer = template.filled(ROW)
    assert text == "[G]: fantasy\n[P]: why?\n[S]: Once {upon} a time."
    assert text[:answer] == template.prompt(ROW) == "[G]: fantasy\n[P]: why?\n[S]:"
    assert text[answer:] == " Once {upon} a time."
    assert template.prompt_fields == ("g", "p")


def test_a_named_answer_goes_on_to_the_end() -> None:
    template = Template("{p}\n{s}\n({g}, {p})", answer="s")
    text, answer = template.filled(ROW)
    assert text[answer:] == "Once {upon} a time.\n(fantasy, why?)"
    assert template.answer_field == "s"
    assert template.fields == ("p", "s", "g")


@pytest.mark.parametrize(
    ("text", "answer", "message"),
    [
        ("no field", None, "names no column"),
        ("{a} {", None, "stray brace"),
        ("{a:>3}", None, "nothing else"),
        ("{}", None, "nothing else"),
        ("{a!r}", None, "nothing else"),
        ("{a}", "b", "the answer 'b' is none of a"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(
    text: str, answer: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Template(text, answer)
