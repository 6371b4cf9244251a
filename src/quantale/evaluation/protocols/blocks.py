"""Disjoint blocks of the joined text, as papers on quantization report perplexity.

After the code of GPTQ (Frantar et al. 2022, arXiv 2210.17323): texts are joined by a blank line
and tokenized once, the tokens are cut into blocks of N, what is left at the end is dropped. Each
block is a window of its own; its first token has no context and is not scored, the other N - 1
are. All blocks have one length, so the mean of their losses, which that code takes, is our total
nll over our total tokens. No BOS goes in front; that code keeps the one that a tokenizer adds
before the whole text, which shifts all blocks by one token.
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
class Blocks:
    """The protocol `blocks:N`."""

    length: int
    """Tokens a block; papers use 2048."""
    separator: ClassVar[str | None] = SEPARATOR

    def fingerprint(self, limits: Limits) -> str:
        """Return what a number needs to carry: `blocks(length=2048,bos=0,join=blank-line)`."""
        return f"blocks(length={self.length},bos=0,{MARK}{cut_mark(limits)})"

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Cut the text into blocks; DataError for less than one, UsageError past the context."""
        what = f"blocks:{self.length}"
        check_length(what, self.length, 2, limits)
        stream = stream_of(documents, limits, bos=False)
        check_tokens(what, len(stream.tokens), self.length)
        begins = range(0, len(stream.tokens) - self.length + 1, self.length)
        return stream.plan([Span(begin, begin + 1, begin + self.length) for begin in begins])
