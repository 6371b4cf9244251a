"""Tokenizers trained here (characters, byte-level BPE) or loaded from a directory.

Both kinds are `PreTrainedTokenizerFast`, so that `save_pretrained`, `AutoTokenizer` and `pipeline`
treat them like any other. The character tokenizer is a BPE without merges: each character that
the training split does not have becomes one `<unk>`. The byte-level one knows every text.
Training is deterministic: the same texts give the same bytes of `tokenizer.json`.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from quantale.core.errors import DataError, from_native

BOUNDARY = "<|endoftext|>"
"""Begins and ends every document; also the padding symbol."""
UNKNOWN = "<unk>"

_BYTES = 256
_BATCH = 1000
_MAX_FILE_BYTES = 1 << 28


def train_characters(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token for each character of the training texts, sorted."""
    characters = sorted(set().union(*map(set, texts)))
    if not characters:
        raise DataError("a character tokenizer needs text, and there is none in the training split")
    vocabulary = {symbol: i for i, symbol in enumerate([BOUNDARY, UNKNOWN, *characters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN, fuse_unk=False))
    backend.decoder = decoders.Fuse()
    return _wrap(backend, unk_token=UNKNOWN)


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of at most `vocab_size` tokens, bytes and boundary included."""
    if vocab_size <= _BYTES:
        raise DataError(
            f"a byte-level BPE needs more than {_BYTES} tokens (one a byte and the boundary),"
            f" got vocab_size {vocab_size}"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOUNDARY],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _wrap(backend)


def _wrap(backend: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOUNDARY,
        eos_token=BOUNDARY,
        pad_token=BOUNDARY,
        clean_up_tokenization_spaces=False,
        **special,
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer directory without running code from it; raises DataError."""
    folder = Path(path)
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise DataError(f"{folder} holds no tokenizer.json; give the directory of a fast tokenizer")
    _check_file(file)
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} is not a usable tokenizer: {error}") from error


def _check_file(file: Path) -> None:
    """Parse a tokenizer file alone, before transformers does."""
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise DataError(f"{file} has more than {_MAX_FILE_BYTES} bytes; it is no tokenizer")
    try:
        from_native(lambda: Tokenizer.from_file(str(file)))
    except ValueError as error:
        raise DataError(f"{file} is damaged or not a tokenizer: {error}") from error


def encode_batch(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, marked: bool = False
) -> list[list[int]]:
    """Encode texts as plain text: no symbol is added, and names of symbols in them are letters.

    marked: the names of symbols are the symbols.
    """
    encoded: list[list[int]] = []
    for start in range(0, len(texts), _BATCH):
        encoded += tokenizer(
            list(texts[start : start + _BATCH]),
            add_special_tokens=False,
            split_special_tokens=not marked,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
    return encoded


def character_table(tokenizer: PreTrainedTokenizerFast) -> np.ndarray | None:
    """Return the token of every code point, (0x110000,) uint32; None if tokens are not characters.

    A look-up gives the same tokens as the tokenizer, about twenty times faster.
    """
    backend = _backend(tokenizer)
    model = backend["model"]
    if model["type"] != "BPE" or model["merges"] or model["fuse_unk"]:
        return None
    if backend["normalizer"] or backend["pre_tokenizer"]:
        return None
    symbols = {token["content"] for token in backend["added_tokens"] if token["special"]}
    characters = {token: i for token, i in model["vocab"].items() if token not in symbols}
    unknown = tokenizer.unk_token_id
    if unknown is None or any(len(token) > 1 for token in characters):
        return None
    table = np.full(0x110000, unknown, dtype=np.uint32)
    table[[ord(character) for character in characters]] = list(characters.values())
    return table


def count_unknown(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> int:
    """Count the tokens of the texts that are the unknown symbol."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return 0
    return sum(ids.count(unknown) for ids in encode_batch(tokenizer, texts))


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash what decides the tokens: the backend without padding and truncation, and the symbols."""
    backend = _backend(tokenizer)
    state = {
        "backend": {key: backend[key] for key in backend if key not in ("padding", "truncation")},
        "symbols": {key: str(token) for key, token in tokenizer.special_tokens_map.items()},
    }
    canonical = json.dumps(state, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _backend(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    if not tokenizer.is_fast:
        raise DataError(
            f"{type(tokenizer).__name__} has no tokenizer.json; convert it to a fast tokenizer"
        )
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return state
