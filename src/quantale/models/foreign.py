"""Artefacts of other programs: which reader takes them, without those programs.

A reader is a plug-in of `quantale.quant.readers`, named after the `quant_method` of a
`config.json`, or "gguf" for a GGUF file or a folder with one and no weights beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import torch

from quantale.core.errors import ModelFileError
from quantale.core.registry import READERS
from quantale.models import gate

_GGUF: Final = ".gguf"


class Foreign(NamedTuple):
    """What a reader made of an artefact."""

    model: Any
    tokenizer: Any
    note: str
    """How it was taken over: packed as it is, or turned into plain numbers."""


class Reader(Protocol):
    """Reads one kind of artefact."""

    def load(self, source: Path, dtype: torch.dtype | None) -> Foreign:
        """Build the model; raises ModelFileError for what is damaged or not understood."""
        ...

    def sizes(self, source: Path) -> Mapping[str, int]:
        """Return the stored bytes of every tensor, under the names that the model gives them."""
        ...


def reader_of(source: Path) -> Reader | None:
    """Return the reader of an artefact of others, None for plain models and our own."""
    name = _kind(source)
    if name is None or name not in READERS.names():
        return None
    reader: Reader = READERS.get(name)()
    return reader


def is_gguf(path: Path) -> bool:
    """Say whether a path names a GGUF file."""
    return path.suffix == _GGUF and path.is_file()


def gguf_file(source: Path) -> Path:
    """Return the one GGUF file of a folder, or the file itself; raises ModelFileError."""
    if is_gguf(source):
        return source
    found = sorted(source.glob(f"*{_GGUF}"))
    if len(found) != 1:
        raise ModelFileError(
            f"{source}: holds {len(found)} GGUF files; name the one to read: {source}/NAME.gguf"
        )
    return found[0]


def _kind(source: Path) -> str | None:
    """Return the name of a reader that may be there."""
    if is_gguf(source):
        return "gguf"
    config = source / "config.json"
    weights = next(source.glob("*.safetensors"), None)
    if weights is None and next(source.glob(f"*{_GGUF}"), None) is not None:
        return "gguf"
    if not config.is_file():
        return None
    section = gate.read_json_object(config).get("quantization_config")
    method = section.get("quant_method") if isinstance(section, dict) else None
    return method if isinstance(method, str) else None
