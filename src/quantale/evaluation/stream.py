"""What protocols share that join all texts into one stream of tokens.

There are no documents in a stream, so what is resampled is the block: the scored part of one
window. Neighbouring blocks may lie in one article and then are not quite independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantale.core.errors import DataError, UsageError
from quantale.evaluation.windows import EncodedDocument, Limits, Plan, Tokens, Unit, Window

SEPARATOR = "\n\n"
"""Between two texts: what both Hugging Face's recipe and the code of GPTQ put there."""
MARK = "join=blank-line"
"""`SEPARATOR` in a fingerprint."""


@dataclass(frozen=True)
class Span:
    """One window of a stream: tokens [begin, end), of which those from `scored` on are scored."""

    begin: int
    scored: int
    end: int


@dataclass(frozen=True)
class Stream:
    """One text as tokens, a beginning token in front of it or not."""

    document: EncodedDocument
    tokens: Tokens
    offset: int
    """Tokens in front of the text's own: 1 for a beginning token."""

    def plan(self, spans: Sequence[Span], first_token: int | None = None) -> Plan:
        """Return one unit a span; `first_token` replaces the first token of every window."""
        units = [self._unit(number, span) for number, span in enumerate(spans)]
        windows = [self._window(number, span, first_token) for number, span in enumerate(spans)]
        return Plan(tuple(units), tuple(windows), ())

    def _unit(self, number: int, span: Span) -> Unit:
        first, stop = span.scored - self.offset, span.end - self.offset
        return Unit(
            id=f"block/{number}",
            tokens=stop - first,
            bytes=self.document.bytes_between(first, stop),
            words=self.document.words_between(first, stop),
            unknown=self.document.unknown_between(first, stop),
        )

    def _window(self, number: int, span: Span, first_token: int | None) -> Window:
        tokens = self.tokens[span.begin : span.end]
        if first_token is not None:
            tokens = np.concatenate([[first_token], tokens[1:]])
        return Window(number, tokens, span.scored - span.begin)


def stream_of(documents: Sequence[EncodedDocument], limits: Limits, *, bos: bool) -> Stream:
    """Return the one joined text; raises DataError when the protocol was given several."""
    if len(documents) != 1:
        raise DataError(f"a stream is one text, {len(documents)} came; join them first")
    front = [limits.bos] if bos and limits.bos is not None else []
    tokens = np.concatenate([np.array(front, dtype=np.int64), documents[0].tokens])[: limits.cut]
    return Stream(documents[0], tokens, len(front))


def check_length(what: str, length: int, least: int, limits: Limits) -> None:
    """Raise UsageError unless least <= length <= context; what: "blocks:1024"."""
    if not least <= length <= limits.context:
        raise UsageError(
            f"protocol {what!r} does not fit: the models' context is {limits.context}, so the "
            f"number lies between {least} and {limits.context}"
        )


def check_tokens(what: str, found: int, needed: int) -> None:
    """Raise DataError when the text is too short for what the protocol needs."""
    if found < needed:
        raise DataError(
            f"protocol {what!r} needs {needed} tokens, the text has {found}; give more text "
            "or a smaller number"
        )


def cut_mark(limits: Limits) -> str:
    """Return the cut as a fingerprint states it."""
    return "" if limits.cut is None else f",cut={limits.cut}"
