"""A sliding window over the joined text: Hugging Face's recipe for perplexity.

After "Perplexity of fixed-length models" in the documentation of transformers: texts are joined by
a blank line and tokenized once, with the BOS that the tokenizer adds by itself, if any. Windows
hold the model's context and advance by N; each scores the tokens that no window before it held.
With N equal to the context nothing overlaps, and the first token of each window is not scored.

The recipe weighs the mean loss of a window by one token less than it averages over (its comment
has the shift of labels drop one, which happens in the first window alone). We add up tokens. On
the first 25,000 characters of WikiText-2's validation text the two perplexities of a small Llama
differ by 2e-5 of their value (N = 512, context 1024); the longer the text, the less.
"""

from collections.abc import Iterator, Sequence
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
class Stride:
    """The protocol `stride:N`."""

    step: int
    """Tokens from one window to the next."""
    separator: ClassVar[str | None] = SEPARATOR

    def fingerprint(self, limits: Limits) -> str:
        """Return what a number needs: `stride(step=512,context=1024,bos=0,join=blank-line)`."""
        bos = int(limits.adds_bos)
        cut = cut_mark(limits)
        return f"stride(step={self.step},context={limits.context},bos={bos},{MARK}{cut})"

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Slide over the text; DataError for a single token, UsageError past the context."""
        what = f"stride:{self.step}"
        check_length(what, self.step, 1, limits)
        stream = stream_of(documents, limits, bos=limits.adds_bos)
        check_tokens(what, len(stream.tokens), 2)
        return stream.plan(list(self._spans(len(stream.tokens), limits.context)))

    def _spans(self, tokens: int, context: int) -> Iterator[Span]:
        reached = 0
        for begin in range(0, tokens, self.step):
            end = min(begin + context, tokens)
            scored = max(reached, begin + 1)
            if scored < end:
                yield Span(begin, scored, end)
            reached = end
            if end == tokens:
                return
