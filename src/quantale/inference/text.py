"""Tokens to text, piece by piece: whole characters, spaces kept, stop texts never shown.

A tokenizer may write a token differently behind another one (the space in front of a word, half
of a character), so what is new is the difference of two decodings of a short window.
"""

from collections.abc import Sequence
from typing import Any

_BROKEN = "\ufffd"
_WINDOW = 8
"""Tokens of the prompt that the first new one is decoded behind."""


class TextFlow:
    """Turns the tokens of one answer into pieces of text."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._tokens = list(prompt[-_WINDOW:])
        self._begin, self._shown = 0, len(self._tokens)
        self._held = ""
        self.is_stopped = False
        """Whether a stop text came; nothing is said after it."""

    def push(self, token: int) -> str:
        """Return what can be said now that the token has come."""
        self._tokens.append(token)
        return self._filtered(self._decoded(last=False))

    def finish(self) -> str:
        """Return what was held back, when no more tokens come."""
        if self.is_stopped:
            return ""
        rest = self._filtered(self._decoded(last=True))
        held, self._held = self._held, ""
        return rest + held

    def _decoded(self, last: bool) -> str:
        """Return the text of tokens not yet shown; nothing while a character is incomplete."""
        before = self._decode(self._tokens[self._begin : self._shown]).rstrip(_BROKEN)
        whole = self._decode(self._tokens[self._begin :])
        if whole.endswith(_BROKEN) and not last:
            return ""
        if not whole.startswith(before):
            before, whole = "", self._decode(self._tokens[self._shown :])
        if len(whole) <= len(before):
            return ""
        self._begin, self._shown = self._shown, len(self._tokens)
        return whole[len(before) :]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _filtered(self, new: str) -> str:
        """Cut at the first stop text; keep back what may become one."""
        text = self._held + new
        places = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if places:
            self.is_stopped, self._held = True, ""
            return text[: min(places)]
        kept = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """Return how long the end of `text` is that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
