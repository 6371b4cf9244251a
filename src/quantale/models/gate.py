"""The gate for model folders from elsewhere: everything is checked before a library parses it.

A folder passes when its weights are safetensors whose headers add up to their files, its JSON is
sane and nothing in it names a file outside of it. Pickles are never opened. What only a built
model can show (missing tensors, weights that are not finite) is checked in `models/load.py`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from quantale.core.errors import ModelFileError

HEADER_LIMIT = 16 * 2**20
"""Largest safetensors header that is read, in bytes."""
JSON_LIMIT = 16 * 2**20
"""Largest configuration or index file that is read, in bytes."""
TOKENIZER_LIMIT = 256 * 2**20
"""Largest tokenizer.json that is read, in bytes; real vocabularies of 260,000 entries need 35e6."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The two files of a peft adapter."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as a safetensors header declares it."""

    dtype: str
    """The format's own name, such as "F32"."""
    shape: tuple[int, ...]
    """Empty for a scalar."""
    start: int
    """First byte, counted from the end of the header."""
    end: int
    """One past the last byte."""

    @property
    def elements(self) -> int:
        """Number of stored numbers."""
        return prod(self.shape)


def check_folder(folder: Path) -> dict[str, TensorEntry]:
    """Return every stored tensor by name; raises ModelFileError naming what is wrong and where."""
    if not folder.is_dir():
        raise ModelFileError(f"{folder}: no such model folder")
    config = read_json_object(folder / "config.json")
    for path in sorted(folder.glob("*.json")):
        limit = TOKENIZER_LIMIT if path.name == "tokenizer.json" else JSON_LIMIT
        _parse_json(_read_capped(path, limit), path)
    _refuse_foreign_names(config, folder)
    tensors = _check_weights(folder)
    _check_layer_count(config, len(tensors), folder / "config.json")
    return tensors


def check_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
    """Return configuration and stored tensors of an adapter folder; raises ModelFileError."""
    config = read_json_object(folder / ADAPTER_CONFIG)
    for path in sorted(folder.glob("*.json")):
        limit = TOKENIZER_LIMIT if path.name == "tokenizer.json" else JSON_LIMIT
        _parse_json(_read_capped(path, limit), path)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ModelFileError(f"{folder}: {ADAPTER_WEIGHTS} is missing; pickles are never opened")
    return config, read_header(weights)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold the weights of a folder that passed."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    shards = set(read_json_object(folder / _INDEX)["weight_map"].values())
    return [folder / name for name in sorted(shards)]


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of one safetensors file after checking each against the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(HEADER_LIMIT, size - 8):
                raise ModelFileError(
                    f"{path}: header of {length} bytes; the file has {size} and we read at most "
                    f"{HEADER_LIMIT}: not a whole safetensors file"
                )
            raw = file.read(length)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    header = _parse_json(raw, path)
    if not isinstance(header, dict):
        raise ModelFileError(f"{path}: the header is not a JSON object")
    _check_metadata(header.pop("__metadata__", {}), path)
    tensors = {name: _tensor_entry(name, entry, path) for name, entry in header.items()}
    _check_layout(tensors, size - 8 - length, path)
    return tensors


def read_json_object(path: Path) -> dict[str, Any]:
    """Return a JSON object of at most JSON_LIMIT bytes; raises ModelFileError otherwise."""
    value = _parse_json(_read_capped(path, JSON_LIMIT), path)
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: not a JSON object")
    return value


def _check_weights(folder: Path) -> dict[str, TensorEntry]:
    if (folder / _WEIGHTS).is_file():
        return read_header(folder / _WEIGHTS)
    if (folder / _INDEX).is_file():
        return _check_shards(folder)
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickled:
        raise ModelFileError(
            f"{folder / pickled[0]}: a pickle can run code and is never opened; "
            f"ask for safetensors, or convert it where nothing can be harmed"
        )
    raise ModelFileError(f"{folder}: neither {_WEIGHTS} nor {_INDEX} is here")


def _check_shards(folder: Path) -> dict[str, TensorEntry]:
    index = read_json_object(folder / _INDEX)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelFileError(f"{folder / _INDEX}: no weight_map")
    names = {_shard_name(value, folder) for value in shards.values()}
    tensors: dict[str, TensorEntry] = {}
    for name in sorted(names):
        header = read_header(folder / name)
        listed = {tensor for tensor, shard in shards.items() if shard == name}
        odd = sorted(listed.symmetric_difference(header))
        if odd:
            raise ModelFileError(f"{folder / name}: tensor {odd[0]!r} is not where {_INDEX} says")
        tensors.update(header)
    return tensors


def _shard_name(value: object, folder: Path) -> str:
    name = value if isinstance(value, str) else ""
    plain = Path(name).name == name and "\\" not in name and name.endswith(".safetensors")
    if not plain or not (folder / name).is_file():
        raise ModelFileError(f"{folder / _INDEX}: {value!r} is no safetensors file of this folder")
    return name


def _refuse_foreign_names(config: dict[str, Any], folder: Path) -> None:
    """Refuse the two ways in which a folder makes transformers read weights from elsewhere."""
    if "transformers_weights" in config:
        raise ModelFileError(f"{folder / 'config.json'}: 'transformers_weights' is not accepted")
    if (folder / ADAPTER_CONFIG).exists():
        raise ModelFileError(f"{folder}: holds an adapter, not a model; merge it, or name its base")


def _check_layer_count(config: dict[str, Any], tensors: int, path: Path) -> None:
    """Each layer holds a tensor, so a larger count is an attempt to exhaust time or memory."""
    for key in _LAYER_COUNTS:
        count = config.get(key, 0)
        if not isinstance(count, int) or count > tensors:
            raise ModelFileError(f"{path}: {key}={count!r}, but only {tensors} tensors are stored")


def _check_metadata(metadata: object, path: Path) -> None:
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts:
        raise ModelFileError(f"{path}: __metadata__ is not a map of strings")


def _tensor_entry(name: str, entry: object, path: Path) -> TensorEntry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"{path}: tensor {name!r} wants dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
        raise ModelFileError(f"{path}: tensor {name!r} has the unknown dtype {dtype!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ModelFileError(f"{path}: tensor {name!r} has shape {shape!r} at {offsets!r}")
    return TensorEntry(dtype, tuple(shape), *offsets)


def _check_layout(tensors: dict[str, TensorEntry], size: int, path: Path) -> None:
    """Tensors lie end to end from byte 0 to the end of the file, each as long as its shape says."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        length = tensor.elements * _DTYPE_BYTES[tensor.dtype]
        if tensor.start != position or tensor.end - tensor.start != length:
            raise ModelFileError(
                f"{path}: tensor {name!r} of {length} bytes lies at {tensor.start}..{tensor.end}, "
                f"where {position} should begin it: overlap, hole or wrong shape"
            )
        position = tensor.end
    if position != size:
        raise ModelFileError(f"{path}: {position} bytes of tensors declared, {size} stored")


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _read_capped(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > limit:
        raise ModelFileError(f"{path}: longer than the {limit} bytes that we read")
    return raw


def _parse_json(raw: bytes, path: Path) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: not sane JSON: {error}") from error


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} appears twice")
        result[key] = value
    return result
