"""Load any language model or sequence classifier of transformers, after its files passed the gate.

A name that is no local folder is fetched from the Hub into its cache first, without pickles, so
that downloads pass the same gate. `trust_remote_code` is never on.
"""

import functools
import logging
import re
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from quantale.core import files
from quantale.core.errors import EnvironmentLackingError, HubError, ModelFileError, UsageError
from quantale.models import gate, nanogpt, nanogpt_config
from quantale.models.foreign import is_gguf, reader_of

_LOG = logging.getLogger(__name__)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_HUB_IGNORED = ["*/*", "consolidated*"]
LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
)


class LoadedModel(NamedTuple):
    """A model in evaluation mode with the tokenizer of its folder."""

    model: Any
    """The transformers model, on its device."""
    tokenizer: Any
    """Its tokenizer, or None when the folder holds none."""
    path: Path
    """The folder that was read: the one named, or the Hub's cache; or the GGUF file."""

    @property
    def note(self) -> str:
        """What was done to an artefact of another program, empty for our own and plain models."""
        return str(getattr(self.model, "imported_note", ""))


def load(
    path_or_name: str | Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    device: str = "cpu",
) -> LoadedModel:
    """Load a local folder, a GGUF file or a Hub name.

    The folder of an adapter gives its base with the adapter in it; the base's hash must be the
    recorded one. Artefacts of other programs are read without these, see `models/foreign.py`.
    dtype: of what is not packed; None for the one it was saved in.
    Raises ModelFileError for files that are refused or do not fit together, HubError when the Hub
    does not deliver and EnvironmentLackingError for a device that is not there.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EnvironmentLackingError(f"device {device!r} was wanted, but torch sees no GPU")
    folder = local_folder(path_or_name)
    reader = reader_of(folder)
    if reader is not None:
        _check_seal(folder)
        model, tokenizer, note = reader.load(folder, dtype)
        _LOG.warning("%s: %s", folder, note)
        model.imported_note = note
        return LoadedModel(model.to(device).eval(), tokenizer, folder)
    if (folder / gate.ADAPTER_CONFIG).is_file():
        model, base = _load_adapter(folder, dtype)
        tokenizer = load_tokenizer(folder) or load_tokenizer(base)
    else:
        model = _load_model(check_model(folder), folder, dtype)
        tokenizer = load_tokenizer(folder)
    return LoadedModel(model.to(device).eval(), tokenizer, folder)


def _load_adapter(folder: Path, dtype: torch.dtype | None) -> tuple[Any, Path]:
    """Return the base with the adapter in it, and where the base lies."""
    from quantale.models import adapters  # peft takes a second, and needs what is defined here
    from quantale.models.adapter_record import base_of, read_record

    _check_seal(folder)
    base = base_of(folder)
    config, tensors = adapters.read_adapter(folder)
    config.base_model_name_or_path = str(base)
    model = _load_model(check_model(base), base, dtype)
    try:
        adapters.put_on(model, config, tensors)
    except ModelFileError as error:
        raise ModelFileError(f"{folder}: {error}") from error
    check_finite(model, folder)
    model.config.training_seed = read_record(folder).training_seed
    return model, base


def local_folder(path_or_name: str | Path) -> Path:
    """Return the folder or GGUF file itself, or where the Hub's files were put."""
    folder = Path(path_or_name).expanduser()
    if folder.is_dir() or is_gguf(folder):
        return folder
    name = str(path_or_name)
    if folder.exists() or not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise ModelFileError(f"{name}: neither a model folder nor a Hub name")
    try:
        found = snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED)
    except (OSError, ValueError) as error:
        raise HubError(
            f"{name}: no such folder, and the Hub did not deliver it ({first_line(error)}); "
            "check the name and the network, or give a local folder"
        ) from error
    return Path(found)


def auto_class(config: Any) -> Any:
    """Return the Auto class for a configuration, by its `architectures`."""
    first = next(iter(config.architectures or ()), "")
    if first.endswith("ForSequenceClassification"):
        return AutoModelForSequenceClassification
    return AutoModelForCausalLM


def read_config(folder: Path) -> Any:
    """Return the configuration of a folder, unchecked weights left alone."""
    nanogpt_config.register()
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{folder / 'config.json'}: {first_line(error)}") from error


def check_model(folder: Path) -> Any:
    """Check seal, files and sizes before any memory is taken; return the Auto class to load with.

    Raises ModelFileError.
    """
    nanogpt_config.register()
    nanogpt.register()
    if reader_of(folder) is not None:
        raise UsageError(
            f"{folder}: made by another program, to be measured and exported only; write it as a "
            f"plain model first: quantale export {folder} --format hf"
        )
    _check_seal(folder)
    stored = gate.check_folder(folder)
    return _check_size(folder, sum(entry.elements for entry in stored.values()))


def _check_seal(folder: Path) -> None:
    """Verify every hash of a model that lies in a sealed run, once for each state of its files."""
    for place in (folder, folder.parent):
        if files.is_sealed(place):
            found = sorted(p for p in place.rglob("*") if p.is_file())
            _verified(place, tuple((p.stat().st_size, p.stat().st_mtime_ns) for p in found))


@functools.lru_cache(maxsize=64)
def _verified(place: Path, state: tuple[tuple[int, int], ...]) -> str:
    del state
    return files.verify(place, full=True)


def check_finite(model: nn.Module, source: Path) -> None:
    """Raise ModelFileError naming the first weight that holds NaN or infinity."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{source}: weight {name!r} is not finite; the file is damaged")


def _load_model(kind: Any, folder: Path, dtype: torch.dtype | None) -> Any:
    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=dtype or "auto",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{folder}: {first_line(error)}") from error
    for kind in ("missing", "unexpected", "mismatched"):
        keys = sorted(map(str, info[f"{kind}_keys"]))
        if keys:
            raise ModelFileError(
                f"{folder}: {len(keys)} {kind} tensors, first {keys[0]!r}; "
                "config.json and the weights do not belong together"
            )
    check_finite(model, folder)
    return model


def _check_size(folder: Path, stored: int) -> Any:
    """Compare what config.json describes with what is stored, before any memory is taken.

    Returns the Auto class to load with. A packed model (one with a quantization_config) stores
    fewer numbers than it describes.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        kind = auto_class(config)
        if getattr(config, "quantization_config", None) is not None:
            return kind
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{folder / 'config.json'}: {first_line(error)}") from error
    described = sum(parameter.numel() for parameter in model.parameters())
    if described > stored:
        raise ModelFileError(
            f"{folder}: config.json describes {described} weights, but {stored} are stored"
        )
    return kind


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder, None when it holds none; raises ModelFileError."""
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if not any((folder / name).is_file() for name in names):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except tokenizer_errors() as error:
        raise ModelFileError(f"{folder}: bad tokenizer: {first_line(error)}") from error


def tokenizer_errors(*more: type[BaseException]) -> tuple[type[BaseException], ...]:
    """Rust panics belong to it: no Exception, not importable, and made only at the first panic."""
    kinds = BaseException.__subclasses__()
    return (*more, *LOADING_ERRORS, *(kind for kind in kinds if kind.__name__ == "PanicException"))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
