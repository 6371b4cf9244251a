"""Documents as training examples: tokens, which of them are learnt, and what was too long.

An example begins with the tokenizer's beginning token and ends with its end token, which is learnt:
a model must know where to stop. A written-out chat carries both itself. Prompt and answer are
encoded apart, as a prompt is when a model is asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from quantale.core.errors import DataError
from quantale.data.documents import Documents
from quantale.data.tokenizers import encode_batch
from quantale.data.windows import TokenStream, encode_plain

Learnt = Literal["text", "answer"]
TooLong = Literal["drop", "cut", "split"]
_Array = np.ndarray[Any, np.dtype[Any]]
_NONE = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Example:
    """One document, or a piece of one."""

    tokens: _Array
    """(n,) int64; each is the input of the one behind it."""
    first: int
    """Tokens from here on are learnt; 1 at least, since nothing goes before the first."""
    ended: bool = True
    """Whether the last token is the end of a document."""

    @property
    def inputs(self) -> int:
        """Tokens that go through the model."""
        return len(self.tokens) - 1

    @property
    def scored(self) -> int:
        """How many tokens are learnt."""
        return max(0, len(self.tokens) - self.first)


@dataclass(frozen=True)
class Fitted:
    """Examples after the length filter, and what it did."""

    examples: tuple[Example, ...]
    documents: int
    """Documents that came."""
    dropped: int = 0
    """Documents left out, for their length or because nothing of the answer was left."""
    cut: int = 0
    """Documents shortened."""
    split: int = 0
    """Documents that became several rows, or that windows may divide."""

    def record(self) -> dict[str, int]:
        """Return the counts as they are written."""
        return {
            "documents": self.documents,
            "dropped": self.dropped,
            "cut": self.cut,
            "split": self.split,
            "tokens": sum(one.inputs for one in self.examples),
            "scored_tokens": sum(one.scored for one in self.examples),
        }


def make_examples(
    tokenizer: PreTrainedTokenizerFast, documents: Documents, learnt: Learnt = "text"
) -> list[Example]:
    """Encode every document; raises DataError for a tokenizer without beginning and end tokens."""
    begin, end = (_NONE, _NONE) if documents.marked else _boundaries(tokenizer)
    prompts = [item.text[: item.answer] for item in documents.items]
    answers = [item.text[item.answer :] for item in documents.items]
    given = _encode(tokenizer, prompts, documents.marked) if any(prompts) else None
    found = []
    for number, answer in enumerate(_encode(tokenizer, answers, documents.marked)):
        prompt = answer[:0] if given is None else given[number]
        tokens = np.concatenate([begin, prompt, answer, end]).astype(np.int64)
        first = len(begin) + len(prompt) if learnt == "answer" else 1
        found.append(Example(tokens, max(1, first)))
    return found


def fit_length(examples: Sequence[Example], length: int, too_long: TooLong) -> Fitted:
    """Drop, cut or split the examples of more than `length` inputs.

    Raises DataError when nothing is left.
    """
    kept: list[Example] = []
    counts = {"dropped": 0, "cut": 0, "split": 0}
    for one in examples:
        pieces = [one] if one.inputs <= length else list(_pieces(one, length, too_long))
        pieces = [piece for piece in pieces if piece.scored]
        if not pieces:
            counts["dropped"] += 1
        elif one.inputs > length:
            counts[too_long] += 1
        kept += pieces
    if not kept:
        raise DataError(
            f"none of {len(examples)} documents has a token to learn within {length} tokens; raise"
            " the length, or cut or split what is too long"
        )
    return Fitted(tuple(kept), len(examples), **counts)


def lay_out(examples: Sequence[Example]) -> TokenStream:
    """Lay examples end to end.

    Where an end token equals the beginning token of the next example, one stands for both, and it
    is learnt where the example before it has ended. The stream is a ring, so the last one's end is
    the first one's beginning.
    """
    begins = np.array([one.tokens[0] for one in examples])
    ends = np.array([one.tokens[-1] if one.ended else -1 for one in examples])
    shared = bool((ends == np.roll(begins, -1))[np.array([one.ended for one in examples])].all())
    tokens, scored, sizes = [], [], []
    for number, one in enumerate(examples):
        before = examples[number - 1]
        own = one.tokens[:-1] if shared and one.ended else one.tokens
        flags = np.arange(len(own)) >= one.first
        flags[0] = shared and before.ended and before.scored > 0
        tokens.append(own)
        scored.append(flags)
        sizes.append(len(own))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    flat = np.concatenate(scored)
    return TokenStream(
        np.concatenate(tokens).astype(np.uint32), starts, 0, None if flat.all() else flat
    )


def _pieces(one: Example, length: int, too_long: TooLong) -> Iterator[Example]:
    if too_long == "drop":
        return
    if too_long == "cut":
        yield replace(one, tokens=one.tokens[: length + 1], ended=False)
        return
    for start in range(0, one.inputs, length):
        tokens = one.tokens[start : start + length + 1]
        is_last = start + length >= one.inputs
        yield Example(tokens, max(1, one.first - start), one.ended and is_last)


def _boundaries(tokenizer: PreTrainedTokenizerFast) -> tuple[_Array, _Array]:
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if begin is None and end is None:
        raise DataError("the tokenizer declares neither a BOS nor an EOS token; set bos_token")
    return np.array([end if begin is None else begin]), np.array([begin if end is None else end])


def _encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], marked: bool) -> list[_Array]:
    if not marked:
        return encode_plain(tokenizer, texts)
    return [np.array(ids, dtype=np.int64) for ids in encode_batch(tokenizer, texts, marked=True)]
