"""Documents as one stream of tokens, and training windows drawn from it.

Every document follows a beginning-of-sequence token, which thereby also ends the document before
it. The stream is a ring: the last document is followed by the first. A window has `context + 1`
tokens, the inputs and, shifted by one, the targets. Which windows a step gets is a function of
(seed, step) alone, so a resumed run needs no saved position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from quantale.core.errors import DataError
from quantale.data.tokenizers import character_table, encode_batch

Align = Literal["stream", "document"]
_Array = np.ndarray[Any, np.dtype[Any]]
_ENCODED_AT_ONCE = 64


@dataclass(frozen=True)
class TokenStream:
    """Tokens of documents laid end to end."""

    tokens: _Array
    """(n,) uint32; a BOS token before each document."""
    starts: _Array
    """(documents,) int64; positions of these BOS tokens."""
    unknown: int
    """How many tokens are the unknown symbol."""
    scored: _Array | None = None
    """(n,) bool: which tokens are targets where they are not a window's first; None: all."""

    def __len__(self) -> int:
        return len(self.tokens)


def encode_documents(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, marked: bool = False
) -> TokenStream:
    """Encode each text behind the tokenizer's BOS token; raises DataError where that is missing.

    Texts are plain text: one that spells `<|endoftext|>` does not become a boundary. Marked ones
    (see `Documents.marked`) bring their boundaries along.
    """
    if not texts:
        raise DataError("there are no documents to encode")
    if marked:
        return _end_to_end(encode_batch(tokenizer, texts, marked=True))
    boundary = tokenizer.bos_token_id
    if boundary is None:
        boundary = tokenizer.eos_token_id
    if boundary is None:
        raise DataError("the tokenizer declares neither a BOS nor an EOS token; set bos_token")
    pieces = encode_plain(tokenizer, texts)
    lengths = np.array([len(piece) + 1 for piece in pieces], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    flat = np.concatenate(pieces)
    tokens = np.full(int(lengths.sum()), boundary, dtype=np.uint32)
    inside = np.ones(len(tokens), dtype=bool)
    inside[starts] = False
    tokens[inside] = flat
    unknown = tokenizer.unk_token_id
    return TokenStream(tokens, starts, 0 if unknown is None else int((flat == unknown).sum()))


def _end_to_end(rows: Sequence[Sequence[int]]) -> TokenStream:
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    tokens = np.concatenate([np.array(row, dtype=np.uint32) for row in rows])
    return TokenStream(tokens, np.concatenate([[0], ends[:-1]]).astype(np.int64), 0)


def encode_enough(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    tokens: int,
    seed: int,
    *,
    marked: bool = False,
) -> TokenStream:
    """Encode texts in a random order until there are that many tokens, or no text is left."""
    order = np.random.default_rng([seed, len(texts)]).permutation(len(texts))
    parts: list[TokenStream] = []
    count = 0
    for first in range(0, len(texts), _ENCODED_AT_ONCE):
        chosen = [texts[i] for i in order[first : first + _ENCODED_AT_ONCE]]
        parts.append(encode_documents(tokenizer, chosen, marked=marked))
        count += len(parts[-1])
        if count >= tokens:
            break
    if not parts:
        raise DataError("there are no documents to encode")
    shifts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    starts = [part.starts + shift for part, shift in zip(parts, shifts, strict=True)]
    unknown = sum(part.unknown for part in parts)
    return TokenStream(
        np.concatenate([part.tokens for part in parts]), np.concatenate(starts), unknown
    )


def encode_plain(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[_Array]:
    """Return the tokens of every text, (n,) uint32 each, without any boundary."""
    table = character_table(tokenizer)
    if table is None:
        return [np.array(ids, dtype=np.uint32) for ids in encode_batch(tokenizer, texts)]
    return [table[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")] for text in texts]


@final
class WindowSampler:
    """Batches of windows, without end: when all windows were seen, a new epoch begins.

    - `align="stream"`: windows lie end to end from a new random phase each epoch. In an epoch no
      token is a target twice, and fewer than `context` tokens are not a target.
    - `align="document"`: a window starts at a document, whose BOS is at position 0, and goes on
      into the documents behind it. A document that the window cuts starts the next window again;
      one that is longer than a window goes on in further windows, which begin inside it. In an
      epoch every token is a target except the BOS tokens at position 0.
    """

    def __init__(
        self,
        stream: TokenStream,
        context: int,
        batch_size: int,
        seed: int,
        *,
        align: Align = "stream",
    ) -> None:
        """Plan the windows; raises DataError for a stream shorter than one window."""
        if len(stream) <= context:
            raise DataError(
                f"there are {len(stream)} tokens, and a window of context {context} needs"
                f" {context + 1}; use more data or a shorter context"
            )
        self._tokens = stream.tokens
        self._offsets = np.arange(context + 1)
        self._batch_size = batch_size
        self._seed = seed
        self._random_phase = align == "stream"
        if align == "stream":
            self._starts = np.arange(len(stream) // context, dtype=np.int64) * context
        else:
            self._starts = _document_windows(stream, context)
        self._cached: tuple[int, _Array] = (-1, self._starts)

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows in one pass over the data."""
        return len(self._starts)

    def batch(self, step: int) -> torch.Tensor:
        """Return the windows of a step: (batch, context + 1) int64."""
        return torch.from_numpy(self._tokens[self.positions(step)].astype(np.int64))

    def positions(self, step: int) -> _Array:
        """Return where the windows of a step lie in the stream: (batch, context + 1) int64."""
        first = step * self._batch_size
        starts = np.empty(self._batch_size, dtype=np.int64)
        filled = 0
        while filled < self._batch_size:
            epoch, index = divmod(first + filled, len(self._starts))
            chosen = self._order(epoch)[index : index + self._batch_size - filled]
            starts[filled : filled + len(chosen)] = chosen
            filled += len(chosen)
        positions: _Array = (starts[:, None] + self._offsets) % len(self._tokens)  # (B, T + 1)
        return positions

    def _order(self, epoch: int) -> _Array:
        """Return the window starts of an epoch in their order; the last epoch asked is kept."""
        if self._cached[0] != epoch:
            random = np.random.default_rng([self._seed, epoch])
            phase = int(random.integers(len(self._tokens))) if self._random_phase else 0
            self._cached = (epoch, random.permutation(self._starts) + phase)
        return self._cached[1]


def _document_windows(stream: TokenStream, context: int) -> _Array:
    """Place windows so that each document, up to the BOS behind it, is whole in one if it fits."""
    ends = np.append(stream.starts[1:], len(stream.tokens))
    starts = [0]
    while starts[-1] + context < ends[-1]:
        reached = starts[-1] + context
        cut = int(np.searchsorted(ends, reached, side="right"))
        begin = int(stream.starts[cut])
        starts.append(begin if begin > starts[-1] else reached)
    return np.array(starts, dtype=np.int64)


def calibration_windows(stream: TokenStream, samples: int, length: int, seed: int) -> torch.Tensor:
    """Draw disjoint windows, (samples, length) int64; raises DataError for too few tokens."""
    needed = samples * length
    if len(stream) < needed:
        raise DataError(
            f"calibration needs {samples} x {length} = {needed} tokens, there are {len(stream)};"
            " use more data, fewer samples or a shorter length"
        )
    random = np.random.default_rng([seed, samples, length])
    slots = random.permutation(len(stream) // length)[:samples]
    phase = int(random.integers(len(stream) % length + 1))
    positions = slots[:, None] * length + phase + np.arange(length)  # (samples, length)
    return torch.from_numpy(stream.tokens[positions].astype(np.int64))
