"""A tokenizer as llama.cpp reads it: byte-level BPE, SentencePiece's BPE, or one token a character.

The original `tokenizer.json` goes along under the key that the format has for it, so that whoever
reads it gets the very same tokenizer back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gguf import TokenType

from quantale.data.tokenizers import character_table

HUGGING_FACE: Final = "tokenizer.huggingface.json"
_SPACE, _ESCAPED = " ", "▁"  # SentencePiece's way to write a space


@dataclass(frozen=True)
class GgufTokenizer:
    """The keys of a tokenizer, and what llama.cpp will do differently."""

    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def tokenizer_keys(tokenizer: Any, rows: int) -> GgufTokenizer:
    """Return the keys of a tokenizer for an embedding of so many rows."""
    if tokenizer is None or not tokenizer.is_fast:
        return _none("the model has no fast tokenizer, so the file has none")
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    for recognise in (_byte_level, _sentence_piece, _characters):
        found = recognise(tokenizer, state)
        if found is not None:
            return GgufTokenizer({**found.values, **_rest(tokenizer, state, rows)}, found.notes)
    note = (
        f"llama.cpp has nothing like this tokenizer ({state['model']['type']}), so the file has no "
        "vocabulary: give it tokens"
    )
    return _none(note, state)


def _none(note: str, state: Mapping[str, Any] | None = None) -> GgufTokenizer:
    values: dict[str, Any] = {"tokenizer.ggml.model": "no_vocab"}
    if state is not None:
        values[HUGGING_FACE] = json.dumps(state, sort_keys=True, ensure_ascii=False)
    return GgufTokenizer(values, (note,))


def _byte_level(tokenizer: Any, state: Mapping[str, Any]) -> GgufTokenizer | None:
    del tokenizer
    model, before = state["model"], state["pre_tokenizer"] or {}
    plain = before.get("type") == "ByteLevel" and before.get("use_regex", True)
    if model["type"] != "BPE" or not plain or before["add_prefix_space"] or state["normalizer"]:
        return None
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    values: dict[str, Any] = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2"}
    return GgufTokenizer({**values, "tokenizer.ggml.merges": merges or ["Ġ Ġ"]})


def _sentence_piece(tokenizer: Any, state: Mapping[str, Any]) -> GgufTokenizer | None:
    """llama.cpp merges the pair whose piece has the highest score: an earlier merge scores more."""
    model = state["model"]
    if model["type"] != "BPE" or not model.get("byte_fallback") or state["pre_tokenizer"]:
        return None
    scores: dict[str, float] = {}
    for rank, merge in enumerate(model["merges"], start=1):
        pair = merge.split(" ", 1) if isinstance(merge, str) else merge
        scores.setdefault("".join(pair), -float(rank))
    lowest = -float(len(model["merges"]) + 1)
    values = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": [scores.get(token, lowest) for token in _tokens(tokenizer)],
        "tokenizer.ggml.add_space_prefix": "Prepend" in json.dumps(state["normalizer"]),
    }
    return GgufTokenizer(values)


def _characters(tokenizer: Any, state: Mapping[str, Any]) -> GgufTokenizer | None:
    """Unigrams of one character; the only kind of llama.cpp that answers unknown ones."""
    del state
    tokens = _tokens(tokenizer)
    if character_table(tokenizer) is None or _ESCAPED in tokens:
        return None
    values = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.remove_extra_whitespaces": False,
    }
    return GgufTokenizer(values, ("llama.cpp makes one token of several unknown characters",))


def _rest(tokenizer: Any, state: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return what all kinds have: tokens, their types, special ones, the template."""
    tokens = _tokens(tokenizer)
    characters = character_table(tokenizer) is not None
    special = {one["content"] for one in state["added_tokens"] if one["special"]}
    types = [_type_of(token, special, tokenizer.unk_token) for token in tokens]
    if characters:
        tokens = [_ESCAPED if token == _SPACE else token for token in tokens]
    spare = range(len(tokens), rows)
    values: dict[str, Any] = {
        "tokenizer.ggml.tokens": [*tokens, *(f"[PAD{index}]" for index in spare)],
        "tokenizer.ggml.token_type": [*types, *(int(TokenType.UNUSED) for _ in spare)],
        "tokenizer.ggml.add_bos_token": _begins(tokenizer),
        "tokenizer.ggml.add_eos_token": False,
        HUGGING_FACE: json.dumps(state, sort_keys=True, ensure_ascii=False),
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = int(index)
    if isinstance(tokenizer.chat_template, str):
        values["tokenizer.chat_template"] = tokenizer.chat_template
    return values


def _tokens(tokenizer: Any) -> list[str]:
    by_index = {index: token for token, index in tokenizer.get_vocab().items()}
    return [by_index.get(i, f"[PAD{i}]") for i in range(max(by_index, default=-1) + 1)]


def _type_of(token: str, special: set[str], unknown: str | None) -> int:
    if token == unknown:
        return int(TokenType.UNKNOWN)
    if token in special:
        return int(TokenType.CONTROL)
    is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return int(TokenType.BYTE if is_byte else TokenType.NORMAL)


def _begins(tokenizer: Any) -> bool:
    """Say whether the tokenizer puts its beginning token in front of a text."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
