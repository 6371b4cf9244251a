"""The `document` protocol on Python functions, with docstring and code scored apart.

Windows, contexts and tokens are those of `document`; each function becomes two units, named
"ID#docstring" and "ID#code", whose sums add up to what `document` gives the function. A token
belongs where most of its UTF-8 bytes lie, and to the code where both have as many; the docstring
is the string literal with its quotes. A function without a docstring, and a text that is no
Python, is code. To score the two parts apart, a window is given again for every run of tokens of
one part, with all that comes before it as context: up to three passes over a function.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import UsageError
from quantale.evaluation.functions import docstring_span
from quantale.evaluation.protocols.document import Document
from quantale.evaluation.windows import EncodedDocument, Limits, Plan, Unit, Window

PARTS = ("code", "docstring")
"""Unit names behind "#", by class number."""

Run = tuple[int, int, int]
"""Class and [first, stop) of tokens, beginning token included."""


@dataclass(frozen=True)
class Code:
    """The `code` protocol; it has no settings."""

    separator: ClassVar[str | None] = None

    def fingerprint(self, limits: Limits) -> str:
        """Return that of `document`, as `code(bos=1,context=256,stride=128)`."""
        return Document().fingerprint(limits).replace("document(", "code(", 1)

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Divide the windows of `document`; UsageError for a tokenizer without offsets."""
        whole = Document().plan(documents, limits)
        by_id = {document.id: document for document in documents}
        units: list[Unit] = []
        windows: list[Window] = []
        for index, unit in enumerate(whole.units):
            own = [window for window in whole.windows if window.unit == index]
            document = by_id[unit.id]
            bos = int(limits.bos is not None)
            classes = np.concatenate([np.zeros(bos, np.int64), token_classes(document)])
            for part, name in enumerate(PARTS):
                runs = [run for run in _runs(own, classes) if run[0][0] == part]
                if runs:
                    windows += [
                        Window(len(units), window.tokens[: stop - start], first - start)
                        for (_, first, stop), window, start in runs
                    ]
                    spans = [(first - bos, stop - bos) for (_, first, stop), _, _ in runs]
                    units.append(_unit(f"{unit.id}#{name}", document, spans))
        return Plan(tuple(units), tuple(windows), whole.skipped)


def token_classes(document: EncodedDocument) -> NDArray[np.int64]:
    """Return (tokens,): 1 where most of a token's bytes are the docstring's, else 0.

    Of several tokens for one character the first has its bytes; the others belong with it.
    """
    classes = np.zeros(len(document.tokens), dtype=np.int64)
    span = docstring_span(document.text)
    if span is None:
        return classes
    if document.ends is None:
        raise UsageError("protocol 'code' needs a fast tokenizer (one with offsets)")
    sizes = [len(character.encode()) for character in document.text]
    ends = np.concatenate([[0], np.cumsum(sizes)])[document.ends]
    begins = np.concatenate([[0], ends[:-1]])
    for index, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        if begin == end and index:
            classes[index] = classes[index - 1]
        else:
            classes[index] = 2 * span.overlap(begin, end) > end - begin
    return classes


def _runs(
    windows: Sequence[Window], classes: NDArray[np.int64]
) -> Iterator[tuple[Run, Window, int]]:
    """Yield the runs of one class that each window scores, with the window and its start."""
    scored = windows[0].first
    for window in windows:
        start = scored - window.first
        stop = start + len(window.tokens)
        cuts = 1 + np.flatnonzero(np.diff(classes[scored:stop])) + scored
        edges = [scored, *cuts.tolist(), stop]
        for first, end in pairwise(edges):
            yield (int(classes[first]), first, end), window, start
        scored = stop


def _unit(name: str, document: EncodedDocument, spans: Sequence[tuple[int, int]]) -> Unit:
    """Add up everything that a unit counts over its runs of tokens."""
    counts = {
        field.name: sum(getattr(document, f"{field.name}_between")(*span) for span in spans)
        for field in fields(Unit)
        if field.name not in ("id", "tokens")
    }
    return Unit(id=name, tokens=sum(stop - first for first, stop in spans), **counts)
