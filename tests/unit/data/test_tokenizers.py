"""Trained and loaded tokenizers: round trips, unknown characters, determinism, bad files."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from quantale.core.errors import DataError
from quantale.data.load import load_documents
from quantale.data.tokenizers import (
    BOUNDARY,
    character_table,
    count_unknown,
    encode_batch,
    load_tokenizer,
    tokenizer_sha256,
    train_bpe,
    train_characters,
)

ALPHABET = "abcdefgh .,'\"!?\n\t<|>é"
TEXTS = [*load_documents("storygen", limit=60).texts, "Two  spaces,\n\n\tand more.", ALPHABET]


@pytest.fixture(scope="module")
def characters() -> PreTrainedTokenizerFast:
    return train_characters(TEXTS)


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    return train_bpe(TEXTS, 400)


def decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids)
    return text


@given(st.text(ALPHABET, max_size=60))
def test_characters_round_trip(characters: PreTrainedTokenizerFast, text: str) -> None:
    assert decode(characters, encode_batch(characters, [text])[0]) == text
    assert len(encode_batch(characters, [text])[0]) == len(text)


@given(st.text(max_size=60))
def test_bytes_round_trip_for_any_text(bpe: PreTrainedTokenizerFast, text: str) -> None:
    assert decode(bpe, encode_batch(bpe, [text])[0]) == text
    assert count_unknown(bpe, [text]) == 0


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_every_unknown_character_is_one_unknown_token(
    characters: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    known = set(characters.get_vocab())
    expected = sum(character not in known for text in texts for character in text)
    assert count_unknown(characters, texts) == expected
    assert [len(ids) for ids in encode_batch(characters, texts)] == [len(text) for text in texts]


@pytest.mark.parametrize("text", ["a<|endoftext|>b", "<unk>"])
def test_names_of_symbols_in_a_text_are_letters(
    characters: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast, text: str
) -> None:
    for tokenizer in (characters, bpe):
        assert tokenizer.bos_token_id not in encode_batch(tokenizer, [text])[0]


def test_ordinary_use_keeps_the_boundary_symbol(bpe: PreTrainedTokenizerFast) -> None:
    assert bpe(f"a{BOUNDARY}b")["input_ids"].count(bpe.bos_token_id) == 1
    assert decode(bpe, bpe(f"a{BOUNDARY}b")["input_ids"]) == f"a{BOUNDARY}b"


def test_symbols_have_the_first_numbers_and_all_roles(
    characters: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast
) -> None:
    for tokenizer in (characters, bpe):
        assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert characters.unk_token_id == 1
    assert bpe.unk_token_id is None
    assert len(characters) == len(set("".join(TEXTS))) + 2
    assert len(bpe) == 400


def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for i, texts in enumerate((TEXTS, list(TEXTS))):
        train_bpe(texts, 350).save_pretrained(tmp_path / f"bpe{i}")
        train_characters(texts).save_pretrained(tmp_path / f"characters{i}")
    for kind in ("bpe", "characters"):
        first, second = (tmp_path / f"{kind}{i}" / "tokenizer.json" for i in (0, 1))
        assert first.read_bytes() == second.read_bytes()


def test_saved_tokenizers_reload_equal(
    tmp_path: Path, characters: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast
) -> None:
    text = 'Once  upon\n\na "time" .. über 日本'
    for name, tokenizer in (("characters", characters), ("bpe", bpe)):
        tokenizer.save_pretrained(tmp_path / name)
        for again in (
            AutoTokenizer.from_pretrained(tmp_path / name),
            load_tokenizer(tmp_path / name),
        ):
            assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
            assert decode(again, again(text)["input_ids"]) == decode(
                tokenizer, tokenizer(text)["input_ids"]
            )
            assert tokenizer_sha256(again) == tokenizer_sha256(tokenizer)
            assert again.special_tokens_map == tokenizer.special_tokens_map


def test_the_hash_ignores_padding_and_tells_tokenizers_apart(bpe: PreTrainedTokenizerFast) -> None:
    before = tokenizer_sha256(bpe)
    bpe(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert tokenizer_sha256(bpe) == before
    assert tokenizer_sha256(train_bpe(TEXTS, 401)) != before


@settings(max_examples=50)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_the_character_table_equals_the_tokenizer(
    characters: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    table = character_table(characters)
    assert table is not None
    looked_up = [[int(table[ord(character)]) for character in text] for text in texts]
    assert looked_up == encode_batch(characters, texts)


def test_only_character_tokenizers_have_a_table(bpe: PreTrainedTokenizerFast) -> None:
    assert character_table(bpe) is None


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(DataError, match="more than 256"):
        train_bpe(TEXTS, 256)


def test_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="needs text"):
        train_characters([])


def test_a_folder_without_tokenizer_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"model": {}}',
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 5}, "merges": [["x", "y"]]}}',
        json.dumps({"version": "9", "added_tokens": [{}], "model": {"type": "nothing"}}),
        "\x00\x01",
    ],
)
def test_damaged_tokenizer_files_are_data_errors(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="damaged"):
        load_tokenizer(tmp_path)


def test_a_damaged_configuration_is_a_data_error(
    tmp_path: Path, characters: PreTrainedTokenizerFast
) -> None:
    characters.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match="not a usable tokenizer"):
        load_tokenizer(tmp_path)
