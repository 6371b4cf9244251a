"""Documents as tokens, and the windows of them that a protocol asks a model to score.

Plain numpy: a protocol plans windows once, and every model sees the same ones.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError, UsageError
from quantale.core.registry import PROTOCOLS

_ENCODED_AT_ONCE = 256
_WORD_STARTS = re.compile(r"(?<!\S)\S")

Tokens = NDArray[np.int64]
_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class TextDocument(Protocol):
    """What is needed of a document."""

    @property
    def id(self) -> str:
        """A name that is unique in its set."""

    @property
    def text(self) -> str:
        """The whole text."""


class TextDocuments(Protocol):
    """What is needed of a document set."""

    @property
    def items(self) -> Sequence[TextDocument]:
        """The documents in order."""


@dataclass(frozen=True)
class _Joined:
    id: str
    text: str


@dataclass(frozen=True)
class EncodedDocument:
    """A document's own tokens, no special ones added."""

    id: str
    text: str
    tokens: Tokens
    unknown: NDArray[np.bool_]
    """(tokens,): where the tokenizer had no symbol for the text."""
    ends: NDArray[np.int64] | None
    """(tokens,): index in `text` behind each token; None where the tokenizer cannot tell."""
    answer: int = 0
    """Number of tokens in front of the answer, where prompt and answer were encoded apart."""

    def bytes_between(self, first: int, stop: int) -> int:
        """Return the UTF-8 bytes of the text that tokens [first, stop) stand for."""
        begin, end = self._span(first, stop)
        return len(self.text[begin:end].encode("utf-8"))

    def words_between(self, first: int, stop: int) -> int:
        """Return how many words begin in the text of tokens [first, stop).

        A word is a longest run of characters that are not white space (Unicode), as `str.split`
        cuts them; it belongs where it begins, so that parts add up to the whole.
        """
        begin, end = self._span(first, stop)
        return sum(1 for _ in _WORD_STARTS.finditer(self.text, begin, end))

    def unknown_between(self, first: int, stop: int) -> int:
        """Return how many of tokens [first, stop) are the unknown symbol."""
        return int(self.unknown[first:stop].sum())

    def _span(self, first: int, stop: int) -> tuple[int, int]:
        begin, end = 0, len(self.text)
        if first > 0 or stop < len(self.tokens):
            ends = self._known_ends()
            begin = int(ends[first - 1]) if first > 0 else 0
            end = int(ends[stop - 1]) if 0 < stop < len(self.tokens) else end
        return begin, end

    def _known_ends(self) -> NDArray[np.int64]:
        if self.ends is None:
            raise UsageError(
                "bytes of a part of a text need a fast tokenizer (one with offsets); this one is "
                "slow: use protocol 'document' without `cut` and a tokenizer that declares a BOS"
            )
        return self.ends


@dataclass(frozen=True)
class Limits:
    """What tokenizer, model and caller impose on a protocol."""

    bos: int | None
    """Id of the beginning-of-sequence token, None where the tokenizer declares none."""
    context: int
    """Longest input of the model, in tokens."""
    cut: int | None = None
    """Only the first so many tokens of each document, the beginning token included."""
    adds_bos: bool = False
    """Whether the tokenizer by itself puts the beginning token in front of a text."""


@dataclass(frozen=True)
class Unit:
    """What is resampled: a document, or a block where a protocol concatenates."""

    id: str
    tokens: int
    """Scored tokens."""
    bytes: int
    """UTF-8 bytes of the scored text."""
    words: int
    """Words that begin in the scored text."""
    unknown: int
    """Scored tokens that are the unknown symbol."""


@dataclass(frozen=True)
class Window:
    """One input of the model."""

    unit: int
    tokens: Tokens
    first: int
    """Tokens from this index (at least 1) on are scored; the ones before are context."""

    @property
    def scored(self) -> int:
        """How many tokens this window scores."""
        return len(self.tokens) - self.first


@dataclass(frozen=True)
class Plan:
    """All windows of an evaluation; those of a unit are neighbours, in order."""

    units: tuple[Unit, ...]
    windows: tuple[Window, ...]
    skipped: tuple[str, ...]
    """Ids of documents with nothing to score."""


class LanguageProtocol(Protocol):
    """The seam of `protocols/`: a frozen dataclass without settings, or with one integer."""

    separator: ClassVar[str | None]
    """Joins all texts into one before they are tokenized; None leaves each by itself."""

    def fingerprint(self, limits: Limits) -> str:
        """Return the string that every number of this protocol carries."""

    def plan(self, documents: Sequence[EncodedDocument], limits: Limits) -> Plan:
        """Lay windows over the documents so that each token is scored as the protocol says."""


def protocol_named(spec: str) -> LanguageProtocol:
    """Return the protocol of "name" or "name:N"; raises UsageError for anything else."""
    name, colon, argument = spec.partition(":")
    kind: Callable[..., LanguageProtocol] = PROTOCOLS.get(name)
    settings = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not settings and colon:
        raise UsageError(f"protocol {name!r} takes no setting, {spec!r} came; write {name!r}")
    if settings and not colon:
        raise UsageError(f"protocol {name!r} needs its number; write '{name}:N'")
    if colon and not argument.isdecimal():
        raise UsageError(f"protocol {spec!r}: a number was expected after the colon")
    return kind(int(argument)) if colon else kind()


def encode(
    tokenizer: Any, documents: TextDocuments, separator: str | None = None
) -> list[EncodedDocument]:
    """Tokenize without special tokens: every document by itself, or all joined by `separator`.

    A document that knows where its answer begins is encoded in two parts, as it is in training.
    Raises DataError for an id used twice.
    """
    items = documents.items
    if len({item.id for item in items}) < len(items):
        raise DataError("two documents have the same id; scores are paired by it")
    if separator is not None:
        items = [_Joined("joined", separator.join(item.text for item in items))]
    starts = range(0, len(items), _ENCODED_AT_ONCE)
    return [
        encoded
        for start in starts
        for encoded in _encode_some(tokenizer, items[start : start + _ENCODED_AT_ONCE])
    ]


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer by itself puts its beginning token in front of a text."""
    ids = tokenizer("a")["input_ids"]
    return len(ids) > 0 and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def own_context(model: Any) -> int | None:
    """Return the longest input of a model, in tokens; None where its config does not tell."""
    return _context(model.config)


def named_context(config: Any) -> int:
    """Return the longest input that a configuration names; raises UsageError where it does not."""
    found = _context(config)
    if found is None:
        raise UsageError(f"a {config.model_type} names no longest input, which this needs to know")
    return found


def _context(config: Any) -> int | None:
    found = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    return next((int(size) for size in found if size is not None), None)


def batches(windows: Sequence[Window], batch_size: int, positions: int) -> Iterator[list[int]]:
    """Yield indices of windows of like length, longest first, so that little is padded.

    At most `batch_size` windows and, padded, at most `positions` tokens (but one window always).
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, {batch_size} came")
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i].tokens))
    at = 0
    while at < len(order):
        longest = len(windows[order[at]].tokens)
        size = max(1, min(batch_size, positions // longest))
        yield order[at : at + size]
        at += size


def half(limits: Limits) -> int:
    """Return half of the context; raises UsageError for a context of less than 2."""
    if limits.context < 2:
        raise UsageError(f"this protocol needs a context of at least 2, {limits.context} came")
    return limits.context // 2


def overlapping(unit: int, tokens: Tokens, first: int, limits: Limits) -> Iterator[Window]:
    """Yield windows of the context that advance by half of it and score the tokens from `first` on.

    A token is scored in the first window that holds it.
    """
    scored, start = first, 0
    while scored < len(tokens):
        stop = min(start + limits.context, len(tokens))
        if stop > scored:
            yield Window(unit, tokens[start:stop], scored - start)
            scored = stop
        start += half(limits)


def _encode_some(tokenizer: Any, items: Sequence[TextDocument]) -> Iterator[EncodedDocument]:
    fast, unknown = bool(tokenizer.is_fast), tokenizer.unk_token_id
    at = [int(getattr(item, "answer", 0)) for item in items]
    texts = [item.text for item in items]
    answers = _tokens_and_ends(
        tokenizer, [text[start:] for text, start in zip(texts, at, strict=True)], fast
    )
    prompts = [text[:start] for text, start in zip(texts, at, strict=True)]
    given = _tokens_and_ends(tokenizer, prompts, fast) if any(at) else [_NOTHING] * len(items)
    for item, start, prompt, answer in zip(items, at, given, answers, strict=True):
        tokens = np.concatenate([prompt[0], answer[0]])
        ends = np.concatenate([prompt[1], start + answer[1]]) if fast else None
        missing = np.zeros(len(tokens), dtype=np.bool_) if unknown is None else tokens == unknown
        yield EncodedDocument(item.id, item.text, tokens, missing, ends, len(prompt[0]))


def _tokens_and_ends(
    tokenizer: Any, texts: Sequence[str], fast: bool
) -> list[tuple[Tokens, NDArray[np.int64]]]:
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=fast,
        verbose=False,
    )
    pairs = encoded["offset_mapping"] if fast else [[] for _ in texts]
    return [
        (
            np.asarray(tokens, dtype=np.int64),
            np.asarray(spans, dtype=np.int64).reshape(-1, 2)[:, 1],
        )
        for tokens, spans in zip(encoded["input_ids"], pairs, strict=True)
    ]
