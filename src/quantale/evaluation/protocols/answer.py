"""Answers alone: of every document the part behind its prompt, every token scored once.

For documents that a template made of prompt and answer. The prompt is context and is not scored;
the answer is encoded apart from it, as it is when a model is asked. Windows lie as those of the
protocol `document` do: they hold the model's context and advance by half of it. The bytes of bits
per byte are those of the answers. A written-out chat carries its beginning and the marks of its
turns; the mark that ends the answer is scored with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantale.core.errors import UsageError
from quantale.evaluation.windows import (
    EncodedDocument,
    Limits,
    Plan,
    Unit,
    Window,
    half,
    overlapping,
)


@dataclass(frozen=True)
class Answer:
    """The `answer` protocol; it has no settings."""

    separator: ClassVar[str | None] = None

    def fingerprint(self, limits: Limits) -> str:
        """Return what a number needs to carry, such as `answer(bos=1,context=256,stride=128)`."""
        bos = int(limits.bos is not None)
        cut = "" if limits.cut is None else f",cut={limits.cut}"
        return f"answer(bos={bos},context={limits.context},stride={half(limits)}{cut})"

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Lay windows over the documents; raises UsageError for one without a prompt."""
        units: list[Unit] = []
        windows: list[Window] = []
        skipped: list[str] = []
        for document in documents:
            if not document.answer:
                raise UsageError(
                    f"document {document.id!r} has no prompt in front of an answer; protocol "
                    "'answer' needs data with a template"
                )
            bos = [] if limits.bos is None else [limits.bos]
            own = np.concatenate([np.array(bos, dtype=np.int64), document.tokens])
            tokens, first = own[: limits.cut], len(bos) + document.answer
            if len(tokens) <= first:
                skipped.append(document.id)
                continue
            windows += overlapping(len(units), tokens, first, limits)
            units.append(_unit(document, len(tokens) - len(bos)))
        return Plan(tuple(units), tuple(windows), tuple(skipped))


def _unit(document: EncodedDocument, stop: int) -> Unit:
    first = document.answer
    return Unit(
        id=document.id,
        tokens=stop - first,
        bytes=document.bytes_between(first, stop),
        words=document.words_between(first, stop),
        unknown=document.unknown_between(first, stop),
    )
