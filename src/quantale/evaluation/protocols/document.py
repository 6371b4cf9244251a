"""House protocol: every document alone, every token scored once.

The beginning-of-sequence token goes before each document where the tokenizer declares one
(`bos=1` in the fingerprint). Where it declares none (`bos=0`), nothing is put there, the first
token has no context and is not scored, and its bytes are not counted. No end token is scored.
Windows hold the model's context and advance by half of it; a token is scored in the first window
that holds it, so past the first window every token sees at least half a context. No window
crosses a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantale.evaluation.windows import (
    EncodedDocument,
    Limits,
    Plan,
    Tokens,
    Unit,
    Window,
    half,
    overlapping,
)


@dataclass(frozen=True)
class Document:
    """The `document` protocol; it has no settings."""

    separator: ClassVar[str | None] = None

    def fingerprint(self, limits: Limits) -> str:
        """Return what a number needs to carry, such as `document(bos=1,context=256,stride=128)`."""
        bos = int(limits.bos is not None)
        cut = "" if limits.cut is None else f",cut={limits.cut}"
        return f"document(bos={bos},context={limits.context},stride={half(limits)}{cut})"

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Lay windows over the documents; one without a token to score is skipped by name."""
        units: list[Unit] = []
        windows: list[Window] = []
        skipped: list[str] = []
        for document in documents:
            tokens = _tokens(document, limits)
            if len(tokens) < 2:
                skipped.append(document.id)
                continue
            windows += overlapping(len(units), tokens, 1, limits)
            units.append(_unit(document, tokens, limits))
        return Plan(tuple(units), tuple(windows), tuple(skipped))


def _tokens(document: EncodedDocument, limits: Limits) -> Tokens:
    bos = [] if limits.bos is None else [limits.bos]
    return np.concatenate([np.array(bos, dtype=np.int64), document.tokens])[: limits.cut]


def _unit(document: EncodedDocument, tokens: Tokens, limits: Limits) -> Unit:
    own = len(tokens) - int(limits.bos is not None)
    first = int(limits.bos is None)
    return Unit(
        id=document.id,
        tokens=len(tokens) - 1,
        bytes=document.bytes_between(first, own),
        words=document.words_between(first, own),
        unknown=document.unknown_between(first, own),
    )
