"""Data expressions and local files, well formed and not."""

import csv
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantale.core.errors import DataError, HubError, UsageError
from quantale.data.documents import Document, Documents
from quantale.data.load import load_documents, parse_data, split_documents

IN_TMP = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("storygen", ("storygen", None, None, 0, None)),
        ("storygen[test]", ("storygen", None, "test", 0, None)),
        ("storygen[:500]", ("storygen", None, None, 0, 500)),
        ("a/b[train][10:20]", ("a/b", None, "train", 10, 20)),
        ("x/stories.csv#Story[5:]", ("x/stories.csv", "Story", None, 5, None)),
        ("my [old] file.txt", ("my [old] file.txt", None, None, 0, None)),
        ("f.csv#a b", ("f.csv", "a b", None, 0, None)),
    ],
)
def test_data_expressions_are_parsed(data: str, expected: tuple[object, ...]) -> None:
    parsed = parse_data(data)
    assert (parsed.name, parsed.column, parsed.split, parsed.start, parsed.stop) == expected


@pytest.mark.parametrize(
    "data", ["", "[train]", "x.csv#", "#Story", "a[5:5]", "a[1:2:3]", "a[-1:]"]
)
def test_malformed_data_expressions_are_usage_errors(data: str) -> None:
    with pytest.raises(UsageError):
        parse_data(data)


@given(st.text(max_size=30))
def test_any_data_expression_parses_or_is_a_usage_error(data: str) -> None:
    try:
        parsed = parse_data(data)
    except UsageError:
        return
    assert parsed.name


def test_text_is_split_at_the_separator_and_blank_lines_stay_inside(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", "One.\n\nStill one.\n<|endoftext|>\nTwo.\n<|endoftext|>\n")
    documents = load_documents(data)
    assert documents.texts == ["One.\n\nStill one.", "Two."]
    assert documents.split == "all"
    assert [item.id for item in documents.items] == ["a.txt/0", "a.txt/1"]


def test_text_without_separator_is_split_at_blank_lines(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", "\ufeffOne\r\nmore\r\n\r\nTwo\n \t\n\n\nThree")
    assert load_documents(data).texts == ["One\nmore", "Two", "Three"]


def test_a_raw_file_is_one_document_as_it_stands(tmp_path: Path) -> None:
    text = " \n = Title = \n \n One \u00e9 . \n\n<|endoftext|>\n"
    data = write(tmp_path / "wiki.raw", text)
    documents = load_documents(data)
    assert documents.texts == [text]
    assert documents.split == "all"
    with pytest.raises(UsageError, match="no columns"):
        load_documents(data + "#text")


def test_text_files_have_no_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no columns"):
        load_documents(write(tmp_path / "a.txt", "text") + "#text")


def test_json_lines_keep_plain_values_as_fields(tmp_path: Path) -> None:
    rows = [{"text": "One", "label": 3, "deep": {"a": 1}}, {"text": " "}, {"text": "Two"}]
    data = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\n")
    documents = load_documents(data)
    assert documents.texts == ["One", "Two"]
    assert documents.items[0].fields == {"label": "3"}


def test_csv_with_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    buffer = io.StringIO()
    rows = [["Genre", "Story"], ["old", 'He said, "Go!"\nShe went.'], ["new", "Two"]]
    csv.writer(buffer).writerows(rows)
    documents = load_documents(write(tmp_path / "a.CSV", buffer.getvalue()) + "#Story")
    assert documents.texts == ['He said, "Go!"\nShe went.', "Two"]
    assert documents.items[1].fields == {"Genre": "new"}


def test_parquet_reads_like_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["One", "Two"], "n": [1, 2]}), path)
    documents = load_documents(f"{path}[1:]")
    assert documents.texts == ["Two"]
    assert documents.items[0].fields == {"n": "2"}


def test_lines_of_megabytes_are_fine(tmp_path: Path) -> None:
    long = "word " * 500_000
    assert load_documents(write(tmp_path / "a.csv", f'text\n"{long}"\n')).texts == [long]
    assert load_documents(write(tmp_path / "a.jsonl", json.dumps({"text": long}))).texts == [long]
    assert csv.field_size_limit() == 131072


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "is empty"),
        ("a.txt", " \n\n ", "is empty"),
        ("a.txt", "<|endoftext|>", "no document"),
        ("a.txt", b"fine\nL\xe4rm", r"a\.txt:2: byte 0xe4 is not UTF-8"),
        ("a.txt", "utf-16".encode("utf-16")[:-1], r"a\.txt:1: .*not UTF-16"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", '{"text": "a"}\n[1]', r"a\.jsonl:2: expected a JSON object, got list"),
        ("a.jsonl", '{"txt": "a"}', "no column 'text', it has txt; did you mean 'txt'"),
        ("a.jsonl", '{"text": "a"}\n{"other": "b"}', r"a\.jsonl:2: the row has no 'text'"),
        ("a.jsonl", '{"text": 5}', r"a\.jsonl:1: 'text' must be text, got int"),
        ("a.jsonl", '{"text": "\\ud800"}', r"a\.jsonl:1: half of a surrogate"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl:1: not a JSON object"),
        ("a.csv", "text,label\na,1\nb\n", r"a\.csv:3: 1 columns where the header has 2"),
        ("a.csv", 'text\n"open\n', r"a\.csv:2: not valid CSV"),
        ("a.csv", "Texts\na\n", "no column 'text'.*did you mean 'Texts'"),
        ("a.csv", "text,text\na,b\n", r"a\.csv:1: two columns have the same name"),
        ("a.csv", "text\n", "no document"),
        ("a.parquet", b"PAR1 this is not it PAR1", "as Parquet"),
        ("a.parquet", b"", "as Parquet"),
    ],
)
def test_malformed_files_are_data_errors_that_say_where(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_documents(write(tmp_path / name, content))


@IN_TMP
@given(data=st.data())
def test_mutated_files_load_or_are_errors_of_ours(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, flip and insert bytes in valid files of every kind."""
    table = pyarrow.table({"text": ["One", "Two, three"], "n": [1, 2]})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    valid = {
        "m.txt": b"One\n<|endoftext|>\nTwo \xc3\xa9\n",
        "m.jsonl": b'{"text": "One", "n": 1}\n{"text": "Two \\u00e9", "n": null}\n',
        "m.csv": b'text,n\n"One, ""two""",1\nThree,2\n',
        "m.parquet": sink.getvalue().to_pybytes(),
    }
    name = data.draw(st.sampled_from(sorted(valid)))
    content = bytearray(valid[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4))
    path = tmp_path / name
    path.write_bytes(bytes(content))
    try:
        documents = load_documents(str(path))
    except (UsageError, DataError) as error:
        message = str(error)
    else:
        message = ""
        assert all(text.strip() for text in documents.texts)
    assert "\n" not in message


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "stories.txt", "a")
    with pytest.raises(DataError, match=r"did you mean 'stories\.txt'"):
        load_documents(str(tmp_path / "storys.txt"))
    with pytest.raises(DataError, match=r"folder .* does not exist"):
        load_documents(str(tmp_path / "no" / "a.txt"))


def test_unreadable_names_say_what_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'storygen'"):
        load_documents("storygn")
    with pytest.raises(DataError, match=r"ends in \.txt"):
        load_documents(write(tmp_path / "a.md", "text"))
    with pytest.raises(UsageError, match="is no corpus"):
        load_documents("parquet")


def test_a_hub_data_set_without_network_is_a_hub_error_with_a_hint() -> None:
    with pytest.raises(HubError, match="which work offline"):
        load_documents("tinystories[train][:5]")
    with pytest.raises(HubError, match="nobody/nothing"):
        load_documents("nobody/nothing")


def test_a_limit_keeps_the_first_documents_of_the_range(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", "\n\n".join("abcdefghij"))
    assert load_documents(data + "[2:9]", limit=3).texts == ["c", "d", "e"]
    assert load_documents(data + "[2:4]", limit=30).texts == ["c", "d"]
    with pytest.raises(UsageError, match="at least 1"):
        load_documents(data, limit=0)
    with pytest.raises(DataError, match="no document"):
        load_documents(data + "[50:]")


def test_a_bracketed_split_of_a_file_is_its_contiguous_part(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", "\n\n".join("abcdefghij"))
    parts = [load_documents(f"{data}[{s}]").texts for s in ("train", "validation", "test")]
    assert parts == [list("abcdefgh"), ["i"], ["j"]]
    with pytest.raises(UsageError, match="did you mean 'test'"):
        load_documents(f"{data}[tests]")


def collected(texts: list[str]) -> Documents:
    return Documents.collect((Document(t, str(i)) for i, t in enumerate(texts)), "x", "all")


@given(st.lists(st.text("ab ", min_size=1, max_size=40), min_size=12, max_size=60))
def test_parts_of_a_split_are_all_documents_in_order_near_their_shares(texts: list[str]) -> None:
    longest, total = max(map(len, texts)), sum(map(len, texts))
    try:
        parts = split_documents(collected(texts), (0.6, 0.2, 0.2))
    except DataError:
        assert longest > 0.1 * total
        return
    assert [text for part in parts for text in part.texts] == texts
    train = sum(map(len, parts[0].texts))
    assert abs(train - 0.6 * total) <= longest / 2 + 1e-6
    assert [part.split for part in parts] == ["train", "validation", "test"]


def test_a_split_refuses_wrong_shares_and_too_few_documents() -> None:
    with pytest.raises(UsageError, match="sum to 1"):
        split_documents(collected(["a", "b"]), (0.5, 0.1, 0.1))
    with pytest.raises(DataError, match="too few"):
        split_documents(collected(["a", "b"]), (0.8, 0.1, 0.1))
    train, validation, test = split_documents(collected(["a", "b"]), (0.5, 0.0, 0.5))
    assert [len(train), len(validation), len(test)] == [1, 0, 1]


def test_the_digest_depends_on_where_documents_end() -> None:
    assert collected(["ab", "c"]).sha256 != collected(["a", "bc"]).sha256
    assert collected(["ab", "c"]).sha256 == collected(["ab", "c"]).sha256
