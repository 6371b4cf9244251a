"""CSV exports of sheets as they come, templates over their columns, and splits of documents."""

from pathlib import Path

import pytest
from chat_tokenizer import CHATML, chat_tokenizer, letters

from quantale.core.errors import DataError, UsageError
from quantale.core.templates import Template
from quantale.data.documents import Document, Documents, repeated_texts, split_documents
from quantale.data.labels import labelled
from quantale.data.load import load_documents
from quantale.data.templates import MODEL_ROLE, answers_of, fill_chat, fill_template

ROWS = [("Genre", "Prompt", "Story"), ("fable", "why; or\nhow, then", 'She said "no", and went.')]


def sheet(path: Path, delimiter: str, *, tail: str = "", encoding: str = "utf-8-sig") -> str:
    lines = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in ROWS]
    path.write_bytes(("\r\n".join(lines) + "\r\n" + tail).encode(encoding))
    return str(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_delimiters_and_marks_are_found(
    delimiter: str, encoding: str, name: str, tmp_path: Path
) -> None:
    tail = f"\r\n{delimiter}{delimiter}\r\n"
    data = sheet(tmp_path / name, delimiter, tail=tail, encoding=encoding)
    (item,) = load_documents(f"{data}#story").items
    assert item.text == 'She said "no", and went.'
    assert item.fields == {"Genre": "fable", "Prompt": "why; or\nhow, then"}


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_headers_are_found_in_any_case_and_spacing(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", "genre , STORY,\nfable,Once.,\n")
    (item,) = load_documents(f"{data}#Story").items
    assert (item.text, item.fields) == ("Once.", {"genre": "fable"})
    assert labelled(load_documents(f"{data}#Story"), "Genre", ["fable", "x"]).labels == ("fable",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Story,Titel\na,b\n", "no column 'stori', it has Story, Titel; did you mean 'Story'"),
        ("Story,story\na,b\n", "two columns have the same name"),
        ("stori,\na,b\n", "column 2 holds something and has no name"),
        ("stori\nn\xe4her\n".encode("cp1252"), r"a.csv:2: byte 0xe4 is not UTF-8.*windows-1252"),
        (b"stori\n\x81\xe4\n", "not UTF-8.*latin1"),
    ],
)
def test_what_cannot_be_read_says_why(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_documents(f"{write(tmp_path / 'a.csv', content)}#stori")


def documents(*texts: str, **fields: str) -> Documents:
    items = (Document(text, f"d/{i}", fields) for i, text in enumerate(texts))
    return Documents.collect(items, "test", "all")


def test_a_template_is_filled_and_taken_off_again() -> None:
    plain = documents("Once.", "Twice.", Genre="fable")
    filled = fill_template(plain, Template("[G]: {genre }\n[S]: {Story}"), "story")
    assert filled.texts == ["[G]: fable\n[S]: Once.", "[G]: fable\n[S]: Twice."]
    assert answers_of(filled).texts == plain.texts
    assert filled.sha256 != plain.sha256
    moved = fill_template(plain, Template("[G]: {genre}\n[S]: {text}", answer="genre"))
    assert moved.texts == filled.texts
    assert moved.sha256 != filled.sha256
    with pytest.raises(DataError, match=r"'d/0' has no column 'gnre'.*did you mean 'genre'"):
        fill_template(plain, Template("{gnre}: {text}"))


def test_chats_are_refused_where_their_answers_cannot_be_told() -> None:
    plain, template = documents("Once.", Prompt="who"), Template("{prompt}\n{text}")
    tokenizer = chat_tokenizer()
    assert fill_chat(plain, template, tokenizer).marked
    with pytest.raises(UsageError, match="no chat template"):
        fill_chat(plain, template, letters())
    with pytest.raises(DataError, match=r"'d/0' spells the special token <\|im_end\|>"):
        fill_chat(documents("a<|im_end|>", Prompt="who"), template, tokenizer)
    tokenizer = chat_tokenizer(CHATML.replace(f"<|im_start|>{MODEL_ROLE}", "<|im_start|>model"))
    with pytest.raises(UsageError, match="does not put the answer behind the prompt"):
        fill_chat(plain, template, tokenizer)


def test_splits_by_documents_and_by_seed_share_no_document() -> None:
    texts = [f"{i} " + "x" * (i * 7 % 50) for i in range(100)] + ["same", "same"]
    whole = documents(*texts)
    orders = []
    for seed in (None, 1, 1, 2):
        parts = split_documents(whole, (0.8, 0.1, 0.1), by="documents", shuffle_seed=seed)
        assert [len(part) for part in parts] == [82, 10, 10]
        ids = [item.id for part in parts for item in part.items]
        assert len(set(ids)) == len(ids) == 102
        orders.append(ids)
    assert orders[1] == orders[2]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] == [item.id for item in whole.items]


def test_repeated_texts_are_counted_over_parts() -> None:
    parts = {
        "train": documents("a", "b", "b"),
        "validation": documents("b", "c"),
        "test": documents("a", "b", "c", "b", "d"),
    }
    assert repeated_texts(parts) == {
        "train/validation": 1,
        "train/test": 3,
        "validation/test": 3,
    }
