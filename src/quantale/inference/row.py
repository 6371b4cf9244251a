"""One request on its way through the engine: its tokens, its noise, its text, its times."""

import time
from typing import Any

from torch import Tensor

from quantale.inference.request import Ending, Piece, Reason, Request
from quantale.inference.sampling import Dice, choose
from quantale.inference.stream import Stream
from quantale.inference.text import TextFlow


class Row:
    """What the engine knows of one request."""

    def __init__(self, request: Request, tokenizer: Any, limit: int, ends: frozenset[int]) -> None:
        """limit: the context, in tokens; ends: tokens that end an answer."""
        self.request, self.stream = request, Stream()
        self.tokens = list(request.tokens)
        self._ends, self._limit = ends, limit
        self._dice = Dice(request.sampling)
        self._noise: list[Tensor | None] = []
        self._flow = TextFlow(tokenizer, request.tokens, request.stop)
        self._submitted = time.perf_counter()
        self._first: float | None = None
        self._last: float | None = None
        self.read = 0
        """How many tokens of its prompt were read."""
        self.begun = 0.0
        """When it was taken out of the line."""

    @property
    def new_tokens(self) -> int:
        """How many tokens were written."""
        return len(self.tokens) - len(self.request.tokens)

    @property
    def is_open(self) -> bool:
        """Say whether more tokens are wanted."""
        return not self.stream.is_over

    @property
    def room(self) -> int:
        """How many tokens may still come."""
        left = self.request.max_new_tokens - self.new_tokens
        return min(left, self._limit - len(self.tokens))

    def guess(self, logits: Tensor, ahead: int) -> int:
        """Return the token that these logits would give `ahead` tokens after the next one."""
        while len(self._noise) <= ahead:
            self._noise.append(self._dice.throw(logits.shape[-1]))
        return choose(logits, self.request.sampling, self._noise[ahead])

    def accept(self, logits: Tensor) -> int:
        """Draw the next token from logits (vocabulary,), say it, and close the stream if due."""
        token = self.guess(logits, 0)
        self._noise.pop(0)
        self.tokens.append(token)
        reason, text = self._text_of(token)
        now = time.perf_counter()
        self._first, self._last = self._first or now, now
        logprob, top = self._logprobs(logits, token)
        self.stream.put(Piece(text, token, logprob, top, now - self._submitted))
        if reason is not None:
            self.close(reason)
        return token

    def close(self, reason: Reason) -> None:
        """End the stream."""
        first, last, count = self._first, self._last, self.new_tokens
        mean = None if first is None or last is None or count < 2 else (last - first) / (count - 1)
        since = None if first is None else first - self._submitted
        self.stream.end(Ending(reason, len(self.request.tokens), count, since, mean))

    def _text_of(self, token: int) -> tuple[Reason | None, str]:
        """Return how this token ends the answer, if it does, and what can be said now."""
        if token in self._ends:
            return "eos", self._flow.finish()
        text = self._flow.push(token)
        if self._flow.is_stopped:
            return "stop", text
        if self.room > 0:
            return None, text
        text += self._flow.finish()
        if self._flow.is_stopped:
            return "stop", text
        cut = self.new_tokens < self.request.max_new_tokens
        return ("context" if cut else "length"), text

    def _logprobs(
        self, logits: Tensor, token: int
    ) -> tuple[float | None, tuple[tuple[int, float], ...]]:
        wanted = self.request.logprobs
        if wanted is None:
            return None, ()
        shares = logits.log_softmax(-1)
        best = shares.topk(min(wanted, len(shares)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return float(shares[token]), tuple(pairs)
