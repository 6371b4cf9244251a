"""Make the weight files of a model directory from the files of its pieces.

A small model gets one `model.safetensors`, copied together in parts, with the bytes that the
safetensors library would write. Of a larger one each piece is a shard, which becomes part of the
directory without being copied.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantale.core import files
from quantale.models.gate import TensorEntry, read_header

WHOLE_LIMIT: Final = 256 * 2**20
"""Largest sum of weights, in bytes, that is written as one file."""
_PART: Final = 2**20
_ORDER: Final = (
    *("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16", "F16", "BF16"),
    *("I32", "U32", "F32", "C64", "F64", "I64", "U64"),
)
"""From last to first in a file: the library puts wide dtypes first, so that they lie aligned."""
_METADATA: Final = {"format": "pt"}


@dataclass(frozen=True)
class _Stored:
    """One tensor in the file of a piece."""

    name: str
    entry: TensorEntry
    path: Path
    begin: int
    """First byte of the file's data."""


def assemble(paths: list[Path], folder: Path) -> None:
    """Write `model.safetensors`, or shards with their index, into a staging folder."""
    tensors = [stored for path in paths for stored in _contents(path)]
    total = sum(stored.entry.end - stored.entry.start for stored in tensors)
    if total <= WHOLE_LIMIT:
        files.write_parts(folder / "model.safetensors", _one_file(tensors))
        return
    names = {
        path: f"model-{number:05d}-of-{len(paths):05d}.safetensors"
        for number, path in enumerate(paths, start=1)
    }
    for path, name in names.items():
        files.place(path, folder / name)
    weight_map = {stored.name: names[stored.path] for stored in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2) + "\n"
    files.write_atomic(folder / "model.safetensors.index.json", text)


def _contents(path: Path) -> list[_Stored]:
    header = read_header(path)
    begin = path.stat().st_size - max((entry.end for entry in header.values()), default=0)
    return [_Stored(name, entry, path, begin) for name, entry in header.items()]


def _one_file(tensors: list[_Stored]) -> Iterator[bytes]:
    """Yield the bytes of a file that holds all tensors."""
    ordered = sorted(tensors, key=lambda stored: (-_ORDER.index(stored.entry.dtype), stored.name))
    header: dict[str, Any] = {"__metadata__": _METADATA}
    position = 0
    for stored in ordered:
        entry, start = stored.entry, position
        position += entry.end - entry.start
        offsets = [start, position]
        shape = list(entry.shape)
        header[stored.name] = {"dtype": entry.dtype, "shape": shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for stored in ordered:
        yield from _data(stored)


def _data(stored: _Stored) -> Iterator[bytes]:
    left = stored.entry.end - stored.entry.start
    with stored.path.open("rb") as file:
        file.seek(stored.begin + stored.entry.start)
        while left:
            part = file.read(min(left, _PART))
            left -= len(part)
            yield part
