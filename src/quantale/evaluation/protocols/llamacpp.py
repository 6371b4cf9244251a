"""The second half of each chunk of the joined text, as llama.cpp's `llama-perplexity` scores it.

After `tools/perplexity/perplexity.cpp`: the text is tokenized once and cut into chunks of N, what
is left at the end is dropped; 2 N tokens at least are asked for. Each chunk is a window of its
own. Tokens after index N / 2 (rounded down) are scored, which are N - 1 - N / 2. Where the
vocabulary asks for a BOS, one stands before the whole text, and it also replaces the first token
of every chunk; here that is a tokenizer which adds one by itself.

Tokens are those of our tokenizer: llama.cpp's are the same where its conversion is right. It
drops one newline at the end of the file, which we do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from quantale.evaluation.stream import (
    MARK,
    SEPARATOR,
    Span,
    check_length,
    check_tokens,
    cut_mark,
    stream_of,
)
from quantale.evaluation.windows import EncodedDocument, Limits, Plan


@dataclass(frozen=True)
class Llamacpp:
    """The protocol `llamacpp:N`."""

    length: int
    """Tokens a chunk; llama.cpp's default is 512."""
    separator: ClassVar[str | None] = SEPARATOR

    def fingerprint(self, limits: Limits) -> str:
        """Return what a number needs to carry: `llamacpp(length=512,bos=1,join=blank-line)`."""
        bos = int(limits.adds_bos)
        return f"llamacpp(length={self.length},bos={bos},{MARK}{cut_mark(limits)})"

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Cut the text into chunks; DataError for less than two, UsageError past the context."""
        what = f"llamacpp:{self.length}"
        check_length(what, self.length, 3, limits)
        stream = stream_of(documents, limits, bos=limits.adds_bos)
        check_tokens(what, len(stream.tokens), 2 * self.length)
        half = self.length // 2
        begins = range(0, len(stream.tokens) - self.length + 1, self.length)
        spans = [Span(begin, begin + half + 1, begin + self.length) for begin in begins]
        return stream.plan(spans, limits.bos if limits.adds_bos else None)
