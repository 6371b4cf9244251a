"""Answers as HTML in which text stays text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_writers import StubClassifier, StubWriter
from xss_payloads import PAYLOADS

from quantale.evaluation.votes import Ballot, standings
from quantale.serve.cards import Card, cards, status
from quantale.serve.classes import classify, verdict_cards
from quantale.serve.escaping import escaped
from quantale.serve.facts import figures
from quantale.serve.inputs import Prompt
from quantale.serve.notices import notice, notices
from quantale.serve.scores import score_text
from quantale.serve.streaming import Answer
from quantale.serve.tally import tally
from quantale.stages.answering import Facts

KNOWN = {"div", "article", "header", "h3", "i", "span", "button", "p", "dl", "dt", "dd", "mark",
         "table", "caption", "thead", "tbody", "tr", "th", "td", "small", "ul", "li",
         "b"}  # fmt: skip
ATTRIBUTES = {"class", "id", "style", "data-count", "data-copies", "data-empty", "data-label",
              "aria-label", "aria-labelledby", "aria-busy", "dir", "tabindex", "type", "role",
              "scope", "colspan"}  # fmt: skip


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    return reader


def is_ours(markup: str) -> bool:
    found = read(markup)
    return found.tags <= KNOWN and found.attributes <= ATTRIBUTES


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_becomes_a_tag_or_an_attribute_anywhere(payload: str) -> None:
    answer = Answer((payload,), "done", payload, 0.1, 0.01)
    facts = Facts(1, 4.0, 1, payload, 256)
    card = Card(payload, 0, figures([facts], [answer])[0], payload)
    shown = cards([card, card], [answer, Answer((payload + "x",), "done", "eos")], is_marked=True)
    writer, judge = StubWriter(payload), StubClassifier(payload, {payload: 0.9, "b": 0.1}, facts)
    everything = [
        shown,
        cards([card], [Answer(state="failed", reason=payload)], is_marked=False),
        notices(Prompt(payload, 3), payload),
        notice(payload),
        score_text([writer], payload + " word"),
        classify([judge, judge], payload),
        tally(standings([Ballot(payload, "b", "a")])),
    ]
    for markup in everything:
        assert is_ours(markup)
    assert any(payload in text for text in read(shown).texts)


def test_a_missing_escape_would_be_found() -> None:
    assert not is_ours(f"<div>{PAYLOADS[0]}</div>")


@given(st.text())
def test_escaped_text_reads_as_itself_and_holds_no_sign_of_a_template(text: str) -> None:
    made = escaped(text)
    assert not set(made) & set("<>\"'${}`")
    if not set(text) & set("\r\0"):  # which HTML itself changes
        assert "".join(read(f"<p>{made}</p>").texts) == text


def test_a_card_shows_its_figures_its_ending_and_its_difference() -> None:
    facts = [Facts(4_000_000, 32.0, 9_000_000, "torch", 256), Facts(1_000_000, 4.5, 2, "a,b", 256)]
    answers = [
        Answer(("a fox", " ran"), "done", "eos", 0.0512, 0.0021),
        Answer(("a fox", " sat"), "done", "length", 0.03, 0.001),
    ]
    shown = [Card(f"m{i}", i, own) for i, own in enumerate(figures(facts, answers))]
    text = " ".join(read(cards(shown, answers, is_marked=True)).texts)
    for part in ("4.00\u00a0MB", "4.50", "51.2\u00a0ms", "2.10\u00a0ms", "a,b", "2 tokens",
                 "the model ended it", "as long as asked", "1 word differs"):  # fmt: skip
        assert part in text
    assert "<mark" in cards(shown, answers, is_marked=True)
    assert "<mark" not in cards(shown, answers, is_marked=False)


def test_before_and_while_writing_there_is_nothing_to_copy_that_is_not_there() -> None:
    card = Card("m", 0)
    assert "q-copy" not in cards([card], None, is_marked=False)
    assert "q-copy" not in cards([card], [Answer()], is_marked=False)
    busy = cards([card], [Answer(("a",), "writing")], is_marked=False)
    assert 'aria-busy="true"' in busy
    assert "q-copy" in busy


def test_the_status_counts() -> None:
    done, failed = Answer(("a",), "done", "eos"), Answer(state="failed")
    assert status([done, Answer()]) == "Writing: 1 of 2 done."
    assert status([done, done]) == "All answers are there."
    assert status([done, failed]) == "1 of 2 failed."


def test_a_text_is_scored_by_all_and_a_refusal_stands_in_its_line() -> None:
    text = score_text([StubWriter("one"), StubWriter("two")], "three words here")
    assert "4.482" in text
    assert "no token to score" in score_text([StubWriter("one")], "nothing")
    assert "first" in score_text([StubWriter("one")], " ").lower()
    assert "too long" in score_text([StubWriter("one")], "a " * 10_000)


def test_classes_stand_side_by_side_and_another_verdict_is_marked() -> None:
    judges = [
        StubClassifier("one", {"World": 0.75, "Sports": 0.25}),
        StubClassifier("two", {"World": 0.25, "Sports": 0.75}),
    ]
    markup = classify(judges, "text")
    assert markup.count("<mark") == 1
    assert "75.0\u00a0%" in markup
    assert "no token" in classify(judges, "nothing")
    assert "Type or paste" in classify(judges, "")
    assert is_ours(verdict_cards(judges, [None, None]))
