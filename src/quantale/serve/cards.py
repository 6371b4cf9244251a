"""The answers side by side as HTML: a card a model. All text goes through `escaped`."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantale.serve.differences import marked, verdict
from quantale.serve.escaping import escaped
from quantale.serve.facts import Figure
from quantale.serve.streaming import Answer

LETTERS = "ABCDEF"
_ENDINGS = {
    "eos": "the model ended it",
    "stop": "ended at a stop text",
    "length": "as long as asked",
    "context": "its context is full",
    "cancelled": "stopped",
}


@dataclass(frozen=True)
class Card:
    """One model and what it wrote."""

    name: str
    colour: int | None
    """Number of its colour, which the same model keeps; None in a blind round."""
    figures: tuple[Figure, ...] = ()
    """Empty in a blind round."""
    note: str = ""
    """Stands in front of how it ended, such as that the prompt has unknown characters."""


def cards(shown: Sequence[Card], answers: Sequence[Answer] | None, *, is_marked: bool) -> str:
    """Return all cards; without answers, what stands there before the first one.

    is_marked: whether differences to the first are marked.
    """
    given: Sequence[Answer | None] = answers or [None] * len(shown)
    first = answers[0] if answers and is_marked else None
    parts = [
        _card(card, index, answer, first if index else None)
        for index, (card, answer) in enumerate(zip(shown, given, strict=True))
    ]
    return f'<div class="q-cards" data-count="{len(shown)}">{"".join(parts)}</div>'


def status(answers: Sequence[Answer]) -> str:
    """Return one sentence for screen readers and for below the button."""
    over = sum(answer.is_over for answer in answers)
    if over < len(answers):
        return f"Writing: {over} of {len(answers)} done."
    failed = sum(answer.state == "failed" for answer in answers)
    return "All answers are there." if not failed else f"{failed} of {len(answers)} failed."


def _card(card: Card, index: int, answer: Answer | None, base: Answer | None) -> str:
    dot = "" if card.colour is None else f'<i class="q-dot q-c{card.colour}"></i>'
    busy = "true" if answer is not None and not answer.is_over else "false"
    return (
        f'<article class="q-card" aria-labelledby="q-name-{index}" aria-busy="{busy}">'
        f'<header><h3 id="q-name-{index}">{dot}<span>{escaped(card.name)}</span></h3>'
        f"{_copy(index, answer)}</header>"
        f"{_text(index, answer, base)}"
        f'<p class="q-end">{escaped(_ending(card, answer, base))}</p>'
        f"{_figures(card.figures)}</article>"
    )


def _copy(index: int, answer: Answer | None) -> str:
    if answer is None or not answer.pieces:
        return ""
    return (
        f'<button type="button" class="q-copy" data-copies="q-text-{index}" '
        f'aria-label="Copy answer {index + 1}">Copy</button>'
    )


def _text(index: int, answer: Answer | None, base: Answer | None) -> str:
    opening = f'<div class="q-text" id="q-text-{index}" dir="auto" tabindex="0"'
    if answer is None:
        return f'{opening} data-empty="true"></div>'
    if answer.state == "failed" and not answer.pieces:
        return f'<div class="q-problem" role="alert">{escaped(answer.reason)}</div>'
    caret = "" if answer.is_over else '<i class="q-caret"></i>'
    return f"{opening}>{_runs(answer, base)}{caret}</div>"


def _runs(answer: Answer, base: Answer | None) -> str:
    if base is None:
        return escaped(answer.text.lstrip(" "))
    whole = answer.is_over and base.is_over
    tags = {"same": ("", ""), "free": ("", ""), "parts": ('<mark class="q-parts">', "</mark>"),
            "new": ('<mark class="q-new">', "</mark>")}  # fmt: skip
    runs = marked(answer.text.lstrip(" "), base.text.lstrip(" "), is_whole=whole)
    return "".join(f"{tags[run.kind][0]}{escaped(run.text)}{tags[run.kind][1]}" for run in runs)


def _ending(card: Card, answer: Answer | None, base: Answer | None) -> str:
    if answer is None:
        return card.note
    parts = [card.note] if card.note else []
    if answer.pieces and answer.is_over:
        count = f"{len(answer.pieces)} token{'s' * (len(answer.pieces) != 1)}"
        parts.append(f"{count}, {_ENDINGS.get(answer.reason, answer.reason)}")
    if base is not None and answer.is_over and base.is_over and answer.pieces:
        parts.append(verdict(answer.text, base.text))
    return " \u00b7 ".join(parts)


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    lines = "".join(
        f"<div><dt>{escaped(one.label)}</dt><dd>{escaped(one.value)}{_bar(one.share)}</dd></div>"
        for one in figures
    )
    return f'<dl class="q-facts">{lines}</dl>'


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    return f'<i class="q-bar" style="--share:{100 * share:.0f}%"></i>'
