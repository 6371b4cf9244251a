"""The tokenizer inside a GGUF file: its own `tokenizer.json` if there, else built of its tokens.

Built are GPT-2's byte-level BPE, Llama 3's variant of it, and the BPE of SentencePiece with bytes
for what it does not know. Other kinds give no tokenizer: a wrong one would score a wrong text.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from quantale.core.errors import ModelFileError, from_native
from quantale.models.load import first_line, tokenizer_errors

_KEY: Final = "tokenizer.ggml."
_CONTROL: Final = 3
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPACE: Final = "▁"


def rebuilt(values: Mapping[str, Any], path: Path) -> Any:
    """Return the tokenizer of a file's keys, None for a kind that is not built here.

    Raises ModelFileError for keys that are damaged.
    """
    try:
        backend = _backend(values)
        return None if backend is None else _wrap(backend, values)
    except tokenizer_errors(IndexError) as error:
        raise ModelFileError(f"{path}: bad tokenizer: {first_line(error)}") from error


def _backend(values: Mapping[str, Any]) -> Tokenizer | None:
    whole = values.get("tokenizer.huggingface.json")
    if isinstance(whole, str):
        return from_native(lambda: Tokenizer.from_str(whole))
    build = _BUILT.get((values.get(f"{_KEY}model"), values.get(f"{_KEY}pre", "default")))
    return None if build is None else build(values)


def _wrap(backend: Tokenizer, values: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    special = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = values.get(f"{_KEY}{key}_token_id")
        token = None if index is None else backend.id_to_token(int(index))
        if token is not None:
            special[f"{name}_token"] = token
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **special
    )
    template = values.get("tokenizer.chat_template")
    if isinstance(template, str):
        made.chat_template = template
    return made


def _gpt2(values: Mapping[str, Any]) -> Tokenizer:
    backend = _byte_level(values)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _with_special(backend, values, begins=False)


def _llama3(values: Mapping[str, Any]) -> Tokenizer:
    backend = _byte_level(values)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _with_special(backend, values, begins=True)


def _byte_level(values: Mapping[str, Any]) -> Tokenizer:
    merges = [tuple(merge.split(" ", 1)) for merge in values[f"{_KEY}merges"]]
    vocab = _vocabulary(values)
    known = [pair for pair in merges if all(part in vocab for part in (*pair, "".join(pair)))]
    backend = Tokenizer(models.BPE(vocab=vocab, merges=known))
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentence_piece(values: Mapping[str, Any]) -> Tokenizer:
    """Every way to cut a piece into two is a merge; pieces of higher scores merge first."""
    vocab, tokens = _vocabulary(values), values[f"{_KEY}tokens"]
    scores, types = values[f"{_KEY}scores"], values[f"{_KEY}token_type"]
    order = sorted(range(len(tokens)), key=lambda index: -scores[index])
    merges = []
    for index in order:
        piece = tokens[index]
        if types[index] != 1:  # only normal pieces are merged
            continue
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        known = [pair for pair in cuts if pair[0] in vocab and pair[1] in vocab]
        merges += sorted(known, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    unknown = tokens[values.get(f"{_KEY}unknown_token_id", 0)]
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    prefix = values.get(f"{_KEY}add_space_prefix", True)
    first = [normalizers.Prepend(_SPACE)] if prefix else []
    backend.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", _SPACE)])
    last = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    )
    return _with_special(backend, values, begins=True)


def _with_special(backend: Tokenizer, values: Mapping[str, Any], *, begins: bool) -> Tokenizer:
    tokens, types = values[f"{_KEY}tokens"], values.get(f"{_KEY}token_type", [])
    control = [token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
    backend.add_special_tokens([AddedToken(token, special=True) for token in control])
    index = values.get(f"{_KEY}bos_token_id")
    if values.get(f"{_KEY}add_bos_token", begins) and index is not None:
        begin = tokens[int(index)]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{json.dumps(begin)[1:-1]} $A", special_tokens=[(begin, int(index))]
        )
    return backend


def _vocabulary(values: Mapping[str, Any]) -> dict[str, int]:
    return {token: index for index, token in enumerate(values[f"{_KEY}tokens"])}


_BUILT: Final[dict[tuple[Any, Any], Callable[[Mapping[str, Any]], Tokenizer]]] = {
    ("gpt2", "gpt-2"): _gpt2,
    ("gpt2", "default"): _gpt2,
    ("gpt2", "llama-bpe"): _llama3,
    ("llama", "default"): _sentence_piece,
}
