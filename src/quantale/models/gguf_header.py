"""The gate for GGUF files: header, keys and places of tensors, all checked before they are used.

Written after the specification of the ggml project (docs/gguf.md, versions 2 and 3). Every count
and length is held against our caps and the size of the file in Python's integers.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from quantale.core.errors import ModelFileError

MAGIC: Final = b"GGUF"
HEADER_LIMIT: Final = 256 * 2**20
"""Largest header that is read, in bytes; it holds the tokenizer."""
_VERSIONS: Final = (2, 3)
_KEYS, _TENSORS, _ITEMS = 4096, 65_536, 4_000_000
"""Largest numbers of keys, of tensors and of items of one array."""
_NAME: Final = 1024
_DIMENSIONS: Final = 4
_ALIGNMENTS: Final = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""Name, numbers and bytes of a block, by ggml's number of the type."""

_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies."""

    name: str
    kind: str
    """Name of its type, such as "Q8_0"."""
    shape: tuple[int, ...]
    """As torch counts: the last dimension is contiguous."""
    offset: int
    """First byte, counted from the start of the file."""
    nbytes: int


@dataclass(frozen=True)
class GgufFile:
    """The header of a file that passed."""

    path: Path
    values: dict[str, Any]
    """Keys: numbers, texts and lists of them."""
    tensors: dict[str, GgufTensor]

    def raw(self, name: str) -> np.ndarray:
        """Return the stored bytes of a tensor, (rows, bytes of a row) uint8."""
        entry = self.tensors[name]
        with self.path.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.nbytes)
        if len(data) != entry.nbytes:
            raise ModelFileError(f"{self.path}: ends inside tensor {name!r}")
        rows = prod(entry.shape[:-1])
        return np.frombuffer(data, dtype=np.uint8).reshape(rows, -1).copy()


def read_gguf(path: Path) -> GgufFile:
    """Return header and places of a GGUF file; raises ModelFileError for what is not sane."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(min(size, HEADER_LIMIT))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    cursor = _Cursor(path, data)
    tensors, keys = _counts(cursor)
    values: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text(_NAME)
        if key in values:
            cursor.refuse(f"key {key!r} appears twice")
        values[key] = cursor.value()
    entries = [_entry(cursor) for _ in range(tensors)]
    alignment = values.get("general.alignment", 32)
    if alignment not in _ALIGNMENTS:
        cursor.refuse(f"general.alignment is {alignment!r}")
    begin = -(-cursor.position // alignment) * alignment
    placed = _placed(cursor, entries, begin, alignment, size)
    return GgufFile(path, values, placed)


def _counts(cursor: "_Cursor") -> tuple[int, int]:
    if cursor.take(4) != MAGIC:
        cursor.refuse("does not begin with GGUF")
    version = cursor.number("<I")
    if version not in _VERSIONS:
        cursor.refuse(f"version {version}; {_VERSIONS} are read")
    tensors, keys = cursor.number("<Q"), cursor.number("<Q")
    if tensors > _TENSORS or keys > _KEYS:
        cursor.refuse(f"{tensors} tensors and {keys} keys; at most {_TENSORS} and {_KEYS} are read")
    return tensors, keys


def _entry(cursor: "_Cursor") -> tuple[str, tuple[int, ...], int, int]:
    """Return name, shape, type and offset of a tensor."""
    name = cursor.text(_NAME)
    dimensions = cursor.number("<I")
    if not 1 <= dimensions <= _DIMENSIONS:
        cursor.refuse(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(dimensions))
    return name, shape[::-1], cursor.number("<I"), cursor.number("<Q")


def _placed(
    cursor: "_Cursor",
    entries: list[tuple[str, tuple[int, ...], int, int]],
    begin: int,
    alignment: int,
    size: int,
) -> dict[str, GgufTensor]:
    """Return tensors whose bytes lie in the file, one behind the other."""
    found: dict[str, GgufTensor] = {}
    end = 0
    for name, shape, number, offset in sorted(entries, key=lambda entry: entry[3]):
        if name in found:
            cursor.refuse(f"tensor {name!r} appears twice")
        if number not in TYPES:
            cursor.refuse(f"tensor {name!r} has type {number}, which is not known here")
        kind, block, width = TYPES[number]
        if shape[-1] % block or not prod(shape):
            cursor.refuse(f"tensor {name!r} of shape {shape} does not fit blocks of {kind}")
        nbytes = prod(shape) // block * width
        if offset % alignment or offset < end or begin + offset + nbytes > size:
            cursor.refuse(
                f"tensor {name!r} of {nbytes} bytes at {offset}: the file has {size - begin} bytes "
                "of tensors; cut short, or tensors overlap"
            )
        end = offset + nbytes
        found[name] = GgufTensor(name, kind, shape, begin + offset, nbytes)
    if size - begin - end > alignment:
        cursor.refuse(f"{size - begin - end} bytes behind the last tensor")
    return found


class _Cursor:
    """Reads a header from its beginning and never past its end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data, self.position = path, data, 0

    def refuse(self, reason: str) -> None:
        raise ModelFileError(f"{self._path}: not a sane GGUF file: {reason}")

    def take(self, count: int) -> bytes:
        part = self._data[self.position : self.position + count]
        if len(part) != count:
            self.refuse(f"{count} bytes were wanted at {self.position}, {len(part)} are there")
        self.position += count
        return part

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, limit: int | None = None) -> str:
        length = self.number("<Q")
        if limit is not None and length > limit:
            self.refuse(f"a name of {length} bytes")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(f"{self._path}: a text is not UTF-8: {error.reason}") from error

    def value(self) -> Any:
        kind = self.number("<I")
        if kind != _ARRAY:
            return self._reader(kind)()
        inner, count = self.number("<I"), self.number("<Q")
        if count > _ITEMS:
            self.refuse(f"an array of {count} items; at most {_ITEMS} are read")
        read = self._reader(inner)
        return [read() for _ in range(count)]

    def _reader(self, kind: int) -> Callable[[], Any]:
        if kind == _STRING:
            return self.text
        form = _SCALARS.get(kind)
        if form is None:
            self.refuse(f"a value of type {kind}")
        return lambda: self.number(str(form))
