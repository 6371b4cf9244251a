"""GGUF files from elsewhere: what is not sane is refused in one line, before memory is taken."""

import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantale.core.errors import ModelFileError
from quantale.models import gguf_header
from quantale.models.foreign import gguf_file, reader_of
from quantale.models.gguf_header import read_gguf
from quantale.models.gguf_names import interleave, separate
from quantale.models.load import load

STRING, ARRAY, UINT32 = 8, 9, 4


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(
    *,
    version: int = 3,
    keys: bytes = b"",
    key_count: int = 0,
    tensors: bytes = b"",
    tensor_count: int = 0,
    data: bytes = b"",
) -> bytes:
    start = b"GGUF" + struct.pack("<IQQ", version, tensor_count, key_count) + keys + tensors
    return start + bytes(-len(start) % 32) + data


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


def number(name: bytes, value: int) -> bytes:
    return text(name) + struct.pack("<II", UINT32, value)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "x.gguf"
    path.write_bytes(content)
    return path


GOOD = header(
    keys=number(b"a.b", 7)
    + text(b"words")
    + struct.pack("<IIQ", ARRAY, STRING, 2)
    + text(b"x") * 2,
    key_count=2,
    tensors=tensor(b"one", (4, 3), 0, 0) + tensor(b"two", (32,), 8, 64),
    tensor_count=2,
    data=bytes(64) + bytes(34),
)


def test_a_sane_file_is_read(tmp_path: Path) -> None:
    found = read_gguf(written(tmp_path, GOOD))
    assert found.values == {"a.b": 7, "words": ["x", "x"]}
    assert found.tensors["one"].shape == (3, 4)
    assert found.tensors["two"].kind == "Q8_0"
    assert found.raw("two").shape == (1, 34)


BAD = {
    "magic": b"GGUX" + GOOD[4:],
    "version 1": header(version=1),
    "a million million tensors": header(tensor_count=10**12),
    "too many keys": header(key_count=10**6),
    "a name of 2^60 bytes": header(keys=struct.pack("<Q", 1 << 60), key_count=1),
    "an array of 2^40 items": header(
        keys=text(b"a") + struct.pack("<IIQ", ARRAY, UINT32, 1 << 40), key_count=1
    ),
    "arrays in arrays": header(keys=text(b"a") + struct.pack("<IIQ", ARRAY, ARRAY, 1), key_count=1),
    "a type of key that is none": header(keys=text(b"a") + struct.pack("<I", 99), key_count=1),
    "a key twice": header(keys=number(b"a", 1) * 2, key_count=2),
    "text that is no UTF-8": header(keys=number(b"\xff\xfe", 1), key_count=1),
    "an alignment of 0": header(keys=number(b"general.alignment", 0), key_count=1),
    "nine dimensions": header(tensors=tensor(b"t", (1,) * 9, 0, 0), tensor_count=1, data=bytes(64)),
    "a type of tensor that is none": header(
        tensors=tensor(b"t", (32,), 77, 0), tensor_count=1, data=bytes(64)
    ),
    "half a block": header(tensors=tensor(b"t", (40,), 8, 0), tensor_count=1, data=bytes(64)),
    "no numbers": header(tensors=tensor(b"t", (32, 0), 0, 0), tensor_count=1, data=bytes(64)),
    "past the end": header(tensors=tensor(b"t", (99,), 0, 0), tensor_count=1, data=bytes(64)),
    "2^62 numbers": header(
        tensors=tensor(b"t", (1 << 31, 1 << 31), 0, 0), tensor_count=1, data=bytes(64)
    ),
    "one over the other": header(
        tensors=tensor(b"t", (16,), 0, 0) + tensor(b"u", (16,), 0, 32),
        tensor_count=2,
        data=bytes(128),
    ),
    "not aligned": header(tensors=tensor(b"t", (4,), 0, 4), tensor_count=1, data=bytes(64)),
    "a tensor twice": header(
        tensors=tensor(b"t", (8,), 0, 0) + tensor(b"t", (8,), 0, 32), tensor_count=2, data=bytes(64)
    ),
    "more behind": GOOD + bytes(100),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_sane_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_gguf(written(tmp_path, BAD[name]))
    assert "\n" not in str(caught.value)
    assert "x.gguf" in str(caught.value)


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    for length in range(len(GOOD)):
        with pytest.raises(ModelFileError):
            read_gguf(written(tmp_path, GOOD[:length]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, where: int, change: int
) -> None:
    data = bytearray(GOOD)
    data[where] ^= change
    path = written(tmp_path_factory.getbasetemp(), bytes(data))
    try:
        found = read_gguf(path)
    except ModelFileError:
        return
    assert sum(entry.nbytes for entry in found.tensors.values()) <= len(GOOD)


def test_no_more_than_the_cap_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_header, "HEADER_LIMIT", 40)
    with pytest.raises(ModelFileError, match="wanted"):
        read_gguf(written(tmp_path, GOOD))


def test_a_file_without_a_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="token_embd"):
        load(written(tmp_path, GOOD))


def test_two_files_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(GOOD)
    assert reader_of(tmp_path) is not None
    with pytest.raises(ModelFileError, match="2 GGUF files"):
        gguf_file(tmp_path)
    assert gguf_file(tmp_path / "a.gguf").name == "a.gguf"


def test_interleaving_moves_rows_and_comes_back() -> None:
    rows = torch.arange(16.0).reshape(16, 1).expand(16, 3)
    turned = interleave(rows, 2)
    assert turned[:4, 0].tolist() == [0, 4, 1, 5]
    assert torch.equal(separate(turned, 2), rows)
