"""A person's own text under every model: perplexity and bits per byte, as an HTML table."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantale.core.errors import QuantaleError
from quantale.report import numerals
from quantale.serve.escaping import escaped
from quantale.serve.inputs import cleaned
from quantale.serve.notices import notice
from quantale.stages.answering import TextScore, Writer

CHARACTERS = 10_000
"""Of a text that is scored: it is worked on for seconds."""
_HEADINGS = ("Model", "Perplexity", "Bits per byte", "Tokens", "Unknown")


@dataclass(frozen=True)
class Line:
    """One model and what it made of the text."""

    name: str
    score: TextScore | None
    problem: str = ""


def score_text(writers: Sequence[Writer], value: object) -> str:
    """Score the text with every model; return notices and the table."""
    typed = cleaned(value)
    text = typed[:CHARACTERS]
    if not text.strip():
        return notice("Type or paste a text first.")
    lines = [_line(writer, text) for writer in writers]
    cut = ""
    if len(typed) > CHARACTERS:
        first = numerals.count(CHARACTERS)
        cut = notice(f"The text was too long: its first {first} characters were scored.")
    return cut + table(lines)


def table(lines: Sequence[Line]) -> str:
    """Return the table; the least bits per byte are marked."""
    found = [one.score.bits_per_byte for one in lines if one.score is not None]
    best = min(found, default=None)
    head = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    body = "".join(_row(number, one, best) for number, one in enumerate(lines))
    counts = {one.score.tokens for one in lines if one.score is not None}
    return (
        f'<div class="q-scroll"><table class="q-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="q-hint">{escaped(_hint(len(counts) > 1))}</p>'
    )


def _hint(differ: bool) -> str:
    if differ:
        return (
            "The models cut the text into different tokens: compare bits per byte, not perplexity. "
            "Measured by exact kernels."
        )
    return (
        "Perplexity is of a token, bits per byte do not depend on tokens. One text is one sample. "
        "Measured by exact kernels."
    )


def _line(writer: Writer, text: str) -> Line:
    try:
        return Line(writer.name, writer.score(text))
    except QuantaleError as error:
        return Line(writer.name, None, str(error))


def _row(number: int, one: Line, best: float | None) -> str:
    head = f'<th scope="row"><i class="q-dot q-c{number}"></i>{escaped(one.name)}</th>'
    if one.score is None:
        return f'<tr>{head}<td colspan="4" class="q-void">{escaped(one.problem)}</td></tr>'
    bits = f"{one.score.bits_per_byte:.4f}"
    shown = f"<b>{bits}</b>" if one.score.bits_per_byte == best else bits
    return (
        f"<tr>{head}"
        f'<td data-label="Perplexity">{numerals.significant(one.score.perplexity, 4)}</td>'
        f'<td data-label="Bits per byte">{shown}</td>'
        f'<td data-label="Tokens">{numerals.count(one.score.tokens)}</td>'
        f'<td data-label="Unknown">{one.score.unknown or "none"}</td></tr>'
    )
