"""Which base an adapter belongs to, and what its parts are called; free of peft.

A folder of an adapter holds the two files that peft writes and a record of ours: the base's folder
relative to it (or its name on the Hub) and a hash of the base's configuration and weights.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from quantale.core import files
from quantale.core.errors import ModelFileError, UsageError
from quantale.core.records import write_json
from quantale.models import gate
from quantale.models.load import local_folder

RECORD = "quantale_adapter.json"
_VERSION = 1
_WRAPPERS = (".base_layer", ".original_module")


@dataclass(frozen=True)
class Record:
    """Which model an adapter belongs to."""

    base: str
    """Its folder, relative to the adapter's, or its name on the Hub."""
    on_hub: bool
    sha256: str
    """Of its configuration and weights, see `model_digest`."""
    training_seed: int | None = None
    """Of the training that made the adapter."""


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter."""
    return (folder / gate.ADAPTER_CONFIG).is_file()


def is_adapted(model: nn.Module) -> bool:
    """Say whether adapters lie in a model."""
    return bool(getattr(model, "peft_config", None))


def model_digest(folder: Path) -> str:
    """Return one sha256 over configuration and weights of a model folder."""
    paths = [folder / "config.json", *gate.weight_files(folder)]
    return _digest(tuple(paths), tuple(_state(path) for path in paths))


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


@functools.lru_cache(maxsize=64)
def _digest(paths: tuple[Path, ...], state: tuple[tuple[int, int], ...]) -> str:
    del state
    return files.digest_of(paths)


def read_record(folder: Path) -> Record:
    """Return which base an adapter belongs to; raises ModelFileError."""
    path = folder / RECORD
    if not path.is_file():
        raise ModelFileError(
            f"{folder}: holds an adapter without {RECORD}, so nothing says what its base was; "
            "write it with quantale.models.adapter_record.record_base(folder, base)"
        )
    values = gate.read_json_object(path)
    texts = all(isinstance(values.get(key), str) for key in ("base", "sha256"))
    if values.get("version") != _VERSION or not texts:
        raise ModelFileError(f"{path}: is no record of version {_VERSION}")
    seed = values.get("training_seed")
    seed = seed if isinstance(seed, int) else None
    return Record(values["base"], values.get("on_hub") is True, values["sha256"], seed)


def base_of(folder: Path) -> Path:
    """Return the folder of an adapter's base, its hash checked; raises ModelFileError."""
    record = read_record(folder)
    if record.on_hub:
        base = local_folder(record.base)
    else:
        base = (folder.resolve() / record.base).resolve()
    if not (base / "config.json").is_file():
        raise ModelFileError(f"{folder}: its base {record.base} is not there; put it back")
    if model_digest(base) != record.sha256:
        raise ModelFileError(
            f"{folder}: the base {base} is not the model that this adapter was trained on "
            "(its hash is another)"
        )
    return base


def record_base(folder: Path, base: str | Path, *, training_seed: int | None = None) -> None:
    """Write which base an adapter folder belongs to: a model folder or a Hub name."""
    found = local_folder(base)
    if is_adapter(found):
        raise UsageError(f"{found}: is an adapter itself; merge it, then train another")
    is_here = Path(base).is_dir()
    name = os.path.relpath(found.resolve(), folder.resolve()) if is_here else str(base)
    record = Record(name, not is_here, model_digest(found), training_seed)
    write_json(folder / RECORD, {"version": _VERSION, **vars(record)})


def move_base(folder: Path, base: Path) -> None:
    """Let an adapter folder name another place of the same base; raises ModelFileError."""
    record = read_record(folder)
    if model_digest(base) != record.sha256:
        raise ModelFileError(f"{base}: is not the model that the adapter of {folder} lies over")
    record_base(folder, base, training_seed=record.training_seed)
    path = folder / gate.ADAPTER_CONFIG
    values = gate.read_json_object(path)
    write_json(path, {**values, "base_model_name_or_path": read_record(folder).base})


def adapter_files(folder: Path) -> list[Path]:
    """Return the files that make an adapter what it is."""
    return [folder / gate.ADAPTER_CONFIG, folder / gate.ADAPTER_WEIGHTS, folder / RECORD]


def bare(name: str) -> str:
    """Return what a tensor or module of an adapted model is called in the base."""
    for part in _WRAPPERS:
        name = name.replace(part, "")
    return name


def is_adapter_tensor(name: str) -> bool:
    """Say whether a name belongs to the adapter and not to the base."""
    parts = name.split(".")
    return any(part.startswith("lora_") or part == "modules_to_save" for part in parts)
