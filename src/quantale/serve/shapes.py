"""Answers in the shape of OpenAI's API."""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantale.data.templates import MODEL_ROLE
from quantale.inference.request import Ending, Piece, Reason
from quantale.serve.answering import Answer

_FINISH: dict[Reason, str] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "stop",
}


def usage_of(endings: Iterable[Ending], n: int) -> dict[str, int]:
    """Return counts of tokens; the prompt of n answers counts once."""
    found = list(endings)
    prompt = sum(ending.prompt_tokens for ending in found[::n])
    new = sum(ending.new_tokens for ending in found)
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


@dataclass(frozen=True)
class Shape:
    """Makes the objects of one answer; the subclass of neither: what differs is in `kind`."""

    model: str
    tokenizer: Any
    is_chat: bool
    wants_logprobs: bool
    prefixes: Sequence[str] = ()
    """By answer, what is put in front of it."""
    made: int = field(default_factory=lambda: int(time.time()))
    mark: str = field(default_factory=lambda: secrets.token_hex(12))

    def whole(self, answers: Sequence[Answer], n: int) -> dict[str, Any]:
        """Return the object of finished answers."""
        choices = [self._choice(number, answer) for number, answer in enumerate(answers)]
        kind = "chat.completion" if self.is_chat else "text_completion"
        usage = usage_of((answer.ending for answer in answers), n)
        return self._object(kind) | {"choices": choices, "usage": usage}

    def opening(self, number: int) -> dict[str, Any] | None:
        """Return the chunk in front of the first piece, if there is one."""
        if self.is_chat:
            return self._chunk(number, {"role": MODEL_ROLE, "content": ""}, None, None)
        prefix = self._prefix(number)
        return self._chunk(number, prefix, None, None) if prefix else None

    def piece(self, number: int, piece: Piece, offset: int) -> dict[str, Any] | None:
        """Return the chunk of a piece; None for one that says nothing."""
        logprobs = self._logprobs([piece], offset)
        if not piece.text and not self.wants_logprobs:
            return None
        body: Any = {"content": piece.text} if self.is_chat else piece.text
        return self._chunk(number, body, logprobs, None)

    def closing(self, number: int, ending: Ending) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        body: Any = {} if self.is_chat else ""
        return self._chunk(number, body, None, _FINISH[ending.reason])

    def counts(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return the chunk with the usage, behind all others."""
        return self._object(self._chunk_kind) | {"choices": [], "usage": usage}

    def _choice(self, number: int, answer: Answer) -> dict[str, Any]:
        prefix = self._prefix(number)
        choice: dict[str, Any] = {"index": number, "finish_reason": _FINISH[answer.ending.reason]}
        if self.is_chat:
            message = {"role": MODEL_ROLE, "content": answer.text, "refusal": None}
            choice["message"] = message
        else:
            choice["text"] = prefix + answer.text
        pieces = answer.pieces
        if answer.ending.reason == "eos":
            pieces = pieces[:-1]
        choice["logprobs"] = self._logprobs(pieces, len(prefix))
        return choice

    def _chunk(self, number: int, body: Any, logprobs: Any, finish: str | None) -> dict[str, Any]:
        name = "delta" if self.is_chat else "text"
        choice = {"index": number, name: body, "logprobs": logprobs, "finish_reason": finish}
        return self._object(self._chunk_kind) | {"choices": [choice]}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _object(self, kind: str) -> dict[str, Any]:
        name = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{name}-{self.mark}",
            "object": kind,
            "created": self.made,
            "model": self.model,
        }

    def _prefix(self, number: int) -> str:
        return self.prefixes[number] if self.prefixes else ""

    def _logprobs(self, pieces: Sequence[Piece], offset: int) -> dict[str, Any] | None:
        if not self.wants_logprobs:
            return None
        if self.is_chat:
            return {"content": [self._entry(piece) for piece in pieces], "refusal": None}
        offsets = [offset]
        for piece in pieces:
            offsets.append(offsets[-1] + len(piece.text))
        return {
            "tokens": [self._text(piece.token) for piece in pieces],
            "token_logprobs": [piece.logprob for piece in pieces],
            "top_logprobs": [
                {self._text(token): value for token, value in reversed(piece.top)}
                for piece in pieces
            ],
            "text_offset": offsets[:-1],
        }

    def _entry(self, piece: Piece) -> dict[str, Any]:
        top = [self._pair(token, value) for token, value in piece.top]
        return self._pair(piece.token, piece.logprob) | {"top_logprobs": top}

    def _pair(self, token: int, value: float | None) -> dict[str, Any]:
        text = self._text(token)
        whole = "\ufffd" not in text
        return {"token": text, "logprob": value, "bytes": list(text.encode()) if whole else None}

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))
