"""Oracle: other readers and tokenizers on the same real files."""

import csv
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from quantale.data.load import load_documents
from quantale.data.tokenizers import encode_batch, load_tokenizer, train_characters
from quantale.data.windows import encode_documents

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the project")


def test_tinystories_are_the_400_stories_between_the_separators() -> None:
    path = SHARED / "tinystories" / "valid.txt"
    documents = load_documents(str(path))
    pieces = path.read_text(encoding="utf-8").split("<|endoftext|>")
    assert documents.texts == [piece.strip() for piece in pieces if piece.strip()]
    assert len(documents) == 400


def test_persona_tales_are_what_the_csv_module_reads() -> None:
    path = SHARED / "persona_tales" / "dataset.csv"
    documents = load_documents(f"{path}#Story")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert documents.texts == [row["Story"] for row in rows]
    assert [item.fields["Genre"] for item in documents.items] == [row["Genre"] for row in rows]
    assert set(documents.items[0].fields) == {"Genre", "Characters", "Prompt"}


def test_code_search_net_rows_are_the_functions() -> None:
    data = f"{SHARED / 'code_search_net' / 'valid.jsonl'}#func_code_string"
    documents = load_documents(data)
    assert len(documents) == 350
    assert {item.fields["language"] for item in documents.items} == {"python"}


@pytest.mark.parametrize("folder", ["tokenizers/gpt2", "models/stories260K"])
def test_loaded_tokenizers_encode_like_autotokenizer_behind_a_bos(folder: str) -> None:
    theirs = AutoTokenizer.from_pretrained(SHARED / folder)
    ours = load_tokenizer(SHARED / folder)
    texts = load_documents(str(SHARED / "tinystories" / "valid.txt"), limit=20).texts
    stream = encode_documents(ours, texts)
    expected = [theirs.bos_token_id, *theirs(texts[0], add_special_tokens=False)["input_ids"]]
    assert stream.tokens[: stream.starts[1]].tolist() == expected
    assert stream.unknown == 0


def test_the_stream_of_a_character_tokenizer_is_what_the_tokenizer_itself_gives() -> None:
    texts = load_documents(str(SHARED / "tinystories" / "valid.txt")).texts
    tokenizer = train_characters(texts[:300])
    stream = encode_documents(tokenizer, texts)
    slow = [token for ids in encode_batch(tokenizer, texts) for token in [0, *ids]]
    np.testing.assert_array_equal(stream.tokens, slow)
    assert stream.unknown == slow.count(tokenizer.unk_token_id)
