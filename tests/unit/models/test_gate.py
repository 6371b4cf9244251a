"""The gate refuses every damaged or dangerous folder before a library parses it."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from quantale.core.errors import ModelFileError
from quantale.models.gate import HEADER_LIMIT, check_folder, read_header

Header = dict[str, Any]


def write_raw(path: Path, header: object, data: bytes) -> Path:
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def entry(dtype: str, shape: list[int], start: int, end: int) -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 2}')
    tensors = {"a": torch.ones(3, 2), "b": torch.zeros(5, dtype=torch.uint8), "c": torch.tensor(1)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_a_sound_folder_gives_every_tensor_with_shape_and_place(folder: Path) -> None:
    stored = check_folder(folder)
    assert {name: (e.dtype, e.shape) for name, e in stored.items()} == {
        "a": ("F32", (3, 2)),
        "b": ("U8", (5,)),
        "c": ("I64", ()),
    }
    assert sum(e.elements for e in stored.values()) == 12


BROKEN_HEADERS: dict[str, tuple[object, bytes]] = {
    "a list": ([], b""),
    "a tensor without offsets": ({"a": {"dtype": "U8", "shape": [1]}}, b"x"),
    "an unknown dtype": ({"a": entry("F5", [1], 0, 1)}, b"x"),
    "a list as dtype": ({"a": entry(["U8"], [1], 0, 1)}, b"x"),  # type: ignore[arg-type]
    "a negative size": ({"a": entry("U8", [-1], 0, 1)}, b"x"),
    "a fractional size": ({"a": entry("U8", [1.0], 0, 1)}, b"x"),  # type: ignore[list-item]
    "a truth value as size": ({"a": entry("U8", [True], 0, 1)}, b"x"),
    "a size that overflows 64 bits": ({"a": entry("F32", [2**40, 2**40], 0, 4)}, b"xxxx"),
    "offsets past the file": ({"a": entry("U8", [9], 0, 9)}, b"x"),
    "offsets that run backwards": ({"a": entry("U8", [1], 1, 0)}, b"x"),
    "an overlap": ({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"xxx"),
    "a hole": ({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"xxx"),
    "bytes left over": ({"a": entry("U8", [1], 0, 1)}, b"xx"),
    "metadata that is no text": ({"__metadata__": {"format": 1}}, b""),
}


@pytest.mark.parametrize("name", BROKEN_HEADERS)
def test_a_header_is_refused_that_has(name: str, tmp_path: Path) -> None:
    header, data = BROKEN_HEADERS[name]
    with pytest.raises(ModelFileError, match=r"x\.safetensors"):
        read_header(write_raw(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", HEADER_LIMIT + 1) + b"{" * 20,
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        struct.pack("<Q", 60_000) + b"[" * 60_000,
        struct.pack("<Q", 24) + b'{"a": null, "a": null  } ',
    ],
)
def test_bytes_that_are_no_safetensors_file_are_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError):
        read_header(path)


def test_a_header_beyond_the_cap_is_not_read_even_when_the_file_is_that_long(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", HEADER_LIMIT + 1))
    os.truncate(path, HEADER_LIMIT + 100)
    with pytest.raises(ModelFileError, match="we read at most"):
        read_header(path)


@given(position=st.integers(0, 400), bit=st.integers(0, 7), cut=st.integers(0, 400))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_flipped_bits_and_truncations_raise_our_error_or_leave_a_consistent_file(
    folder: Path, position: int, bit: int, cut: int
) -> None:
    whole = bytearray((folder / "model.safetensors").read_bytes())
    whole[position % len(whole)] ^= 1 << bit
    path = folder / "damaged.safetensors"
    path.write_bytes(whole[: len(whole) - cut] if cut < 200 else whole)
    try:
        stored = read_header(path)
    except ModelFileError:
        return
    assert max(e.end for e in stored.values()) < path.stat().st_size


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".ckpt"])
def test_a_folder_with_only_a_pickle_is_refused_with_a_hint(folder: Path, suffix: str) -> None:
    (folder / "model.safetensors").rename(folder / f"pytorch_model{suffix}")
    with pytest.raises(ModelFileError, match="never opened; ask for safetensors"):
        check_folder(folder)


def test_a_folder_without_weights_or_config_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="neither"):
        check_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"config\.json: cannot be read"):
        check_folder(folder)
    with pytest.raises(ModelFileError, match="no such model folder"):
        check_folder(folder / "absent")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a": 1, "a": 2}',
        "\ufeff{}",
        '{"n_layer": 1000000000}',
        '{"n_layer": "many"}',
        '{"transformers_weights": "other.safetensors"}',
    ],
)
def test_a_config_is_refused_that_reads(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"config\.json"):
        check_folder(folder)


def test_an_adapter_folder_is_refused_because_it_names_weights_elsewhere(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "x/y"}')
    with pytest.raises(ModelFileError, match="adapter"):
        check_folder(folder)


@pytest.fixture
def shards(folder: Path) -> Callable[[dict[str, object]], Path]:
    """A folder whose tensors lie in two shards under the given index."""
    (folder / "model.safetensors").unlink()
    save_file({"a": torch.ones(2)}, folder / "one.safetensors")
    save_file({"b": torch.ones(2), "c": torch.ones(1)}, folder / "two.safetensors")

    def write(weight_map: dict[str, object]) -> Path:
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))
        return folder

    return write


SOUND = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}


def test_shards_that_hold_what_their_index_says_are_read(
    shards: Callable[[dict[str, object]], Path],
) -> None:
    assert set(check_folder(shards(dict(SOUND)))) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "change",
    [
        {"a": "../one.safetensors"},
        {"a": "/etc/one.safetensors"},
        {"a": "sub/one.safetensors"},
        {"a": "..\\one.safetensors"},
        {"a": "one.bin"},
        {"a": "absent.safetensors"},
        {"a": ""},
        {"a": 7},
        {"a": "two.safetensors"},
        {"d": "two.safetensors"},
    ],
)
def test_an_index_is_refused_with(
    change: dict[str, object], shards: Callable[[dict[str, object]], Path]
) -> None:
    with pytest.raises(ModelFileError):
        check_folder(shards(SOUND | change))


def test_an_index_that_forgets_a_stored_tensor_is_refused(
    shards: Callable[[dict[str, object]], Path],
) -> None:
    with pytest.raises(ModelFileError, match="'c' is not where"):
        check_folder(shards({"a": "one.safetensors", "b": "two.safetensors"}))
    with pytest.raises(ModelFileError, match="no weight_map"):
        check_folder(shards({}))
