"""Marks where texts part."""

from hypothesis import given
from hypothesis import strategies as st

from quantale.serve.differences import Run, marked, verdict

BASE = "a fox lived by the old mill and was happy"
texts = st.text(alphabet="ab \n", max_size=40)


@given(texts, texts, st.booleans())
def test_the_runs_joined_are_the_text(text: str, base: str, is_whole: bool) -> None:
    runs = marked(text, base, is_whole=is_whole)
    assert "".join(run.text for run in runs) == text
    assert sum(run.kind == "parts" for run in runs) <= 1


@given(texts)
def test_equal_texts_have_no_mark(text: str) -> None:
    assert all(run.kind == "same" for run in marked(text, text, is_whole=True))


def test_a_word_that_differs_is_marked_and_the_way_back_is_found() -> None:
    text = "a fox lived by the big mill and was glad"
    assert marked(text, BASE, is_whole=True) == [
        Run("a fox lived by the ", "same"),
        Run("big", "parts"),
        Run(" mill and was ", "same"),
        Run("glad", "new"),
    ]
    assert verdict(text, BASE) == "2 words differ"


def test_of_texts_that_went_apart_only_the_first_word_is_marked() -> None:
    text = "a fox saw some blue stone that could sing very loudly"
    runs = marked(text, BASE, is_whole=True)
    assert [run.kind for run in runs] == ["same", "parts", "free"]
    assert runs[1].text == "saw"
    assert verdict(text, BASE) == "leaves the first at word 3"


def test_the_end_of_what_is_still_written_is_no_difference() -> None:
    assert [run.kind for run in marked("a fox liv", BASE, is_whole=False)] == ["same", "free"]
    assert [run.kind for run in marked(BASE, "a fox liv", is_whole=False)] == ["same", "free"]
    runs = marked("a cat liv", BASE, is_whole=False)
    assert [(run.text, run.kind) for run in runs] == [
        ("a ", "same"),
        ("cat", "parts"),
        (" liv", "free"),
    ]


def test_a_text_that_ends_early_says_so() -> None:
    assert verdict("a fox lived", BASE) == "ends before the first"
    assert verdict(BASE, BASE) == "the same as the first"
    assert verdict("a fox lived by the old mill and was glad", BASE) == "1 word differs"


def test_nothing_beside_something_is_no_mark() -> None:
    assert marked("", BASE, is_whole=True) == []
    assert [run.kind for run in marked("new", "", is_whole=True)] == ["parts"]
