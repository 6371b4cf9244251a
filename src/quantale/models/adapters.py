"""Adapters of peft as models: a folder of two files and a record that names its base by hash.

An adapter is put into the base model's own layers (`peft.inject_adapter_in_model`), so that what
comes back is the transformers model it was before: with its class, its `generate` and its names,
and a layer `x` become `x.base_layer` beside `x.lora_A` and `x.lora_B`. A layer type that peft does
not know says itself which class adapts it, by a static method `adapter_layer`.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.utils.save_and_load import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core import files
from quantale.core.errors import ModelFileError, UsageError
from quantale.core.records import write_json
from quantale.models import gate
from quantale.models.adapter_record import is_adapter_tensor, read_record, record_base

_NAME = "default"
_PREFIX = "base_model.model."
"""In front of every name in the files of peft."""
_KNOWN: dict[str, type | tuple[type, ...]] = {
    "alpha_pattern": dict,
    "base_model_name_or_path": str,
    "bias": str,
    "fan_in_fan_out": bool,
    "inference_mode": bool,
    "init_lora_weights": (bool, str),
    "lora_alpha": (int, float),
    "lora_bias": bool,
    "lora_dropout": (int, float),
    "modules_to_save": list,
    "peft_type": str,
    "peft_version": str,
    "r": int,
    "rank_pattern": dict,
    "revision": str,
    "target_modules": list,
    "task_type": str,
    "use_dora": bool,
    "use_rslora": bool,
}
"""What an adapter's configuration may say; everything else must be off, as peft writes it."""
_BESIDE_THE_BASE = (True, False, "gaussian", "orthogonal")
"""Ways in which an adapter begins that leave the base weight as it is."""
_OFF: dict[str, Any] = {
    "auto_mapping": None,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}
_PLAIN = re.compile(r"[\w.]+")


def write_adapter(model: Any, folder: Path) -> None:
    """Write the adapter of a model as peft does, in the same bytes every time, and its record.

    model: a PeftModel, or a transformers model with adapters in it, whose configuration names the
    base (`base_model_name_or_path`). Raises UsageError when that is no saved model.
    """
    config = adapter_config(model)
    base = config.base_model_name_or_path
    if not base:
        raise UsageError("an adapter is saved beside its base, and this base was never saved")
    folder.mkdir(exist_ok=True)
    seed = getattr(model.config, "training_seed", None)
    record_base(folder, base, training_seed=seed)
    values = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    values |= {"base_model_name_or_path": read_record(folder).base, "inference_mode": True}
    write_json(folder / gate.ADAPTER_CONFIG, values)
    with files.disk_faults(folder):
        save_file(adapter_tensors(model), folder / gate.ADAPTER_WEIGHTS, metadata={"format": "pt"})


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's adapter under the names that peft stores, on the CPU."""
    found = adapter_parts(model)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def adapter_parts(model: nn.Module) -> dict[str, Tensor]:
    """Return the same tensors where they are, which may be the device "meta"."""
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    named = {_PREFIX + name.removeprefix(_PREFIX): tensor for name, tensor in found.items()}
    return {name: named[name] for name in sorted(named)}


def adapter_config(model: nn.Module) -> LoraConfig:
    """Return the configuration of a model's adapter."""
    config: LoraConfig = model.peft_config[_NAME]  # type: ignore[index]
    return config


def read_adapter(folder: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return configuration and tensors of an adapter folder after they passed the gate."""
    values, stored = gate.check_adapter(folder)
    path = folder / gate.ADAPTER_CONFIG
    _check_config(values, path)
    largest = max((max(entry.shape, default=0) for entry in stored.values()), default=0)
    ranks = [values.get("r", 8), *(values.get("rank_pattern") or {}).values()]
    if any(type(rank) is not int or not 0 < rank <= largest for rank in ranks):
        raise ModelFileError(f"{path}: rank {ranks[0]!r} does not fit the tensors that are stored")
    kept = {key: values[key] for key in _KNOWN if values.get(key) is not None}
    with quiet():
        config = LoraConfig(**kept)
    return config, load_file(folder / gate.ADAPTER_WEIGHTS)


def _check_config(values: Mapping[str, Any], path: Path) -> None:
    """Refuse other tuners, switches that are not known here, and names that are patterns."""
    if values.get("peft_type") != "LORA":
        raise ModelFileError(f"{path}: peft_type {values.get('peft_type')!r}; LORA is supported")
    for key, value in values.items():
        if key in _KNOWN:
            if value is not None and not isinstance(value, _KNOWN[key]):
                raise ModelFileError(f"{path}: {key} is {value!r}")
        elif value and value != _OFF.get(key):
            raise ModelFileError(f"{path}: {key} is set, and that is not supported")
    if values.get("init_lora_weights", True) not in _BESIDE_THE_BASE:
        raise ModelFileError(
            f"{path}: init_lora_weights {values['init_lora_weights']!r} changed the base weights, "
            "which are not stored here"
        )
    for key in ("target_modules", "modules_to_save", "rank_pattern", "alpha_pattern"):
        for name in values.get(key) or ():
            if not isinstance(name, str) or not _PLAIN.fullmatch(name):
                raise ModelFileError(f"{path}: {key} holds {name!r}, which is no module's name")


def put_on(
    model: PreTrainedModel, config: LoraConfig, tensors: Mapping[str, Tensor] | None = None
) -> None:
    """Put an adapter into a model, in place; tensors: its numbers, frozen; None: new ones to train.

    Raises ModelFileError when adapter and model do not belong together.
    """
    config.inference_mode = tensors is not None
    know_layers(config, model)
    with quiet():
        try:
            inject_adapter_in_model(config, model, _NAME)
            if tensors is not None:
                _fill(model, tensors)
        except (ValueError, KeyError, RuntimeError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise ModelFileError(f"this adapter does not fit this model: {lines[0]}") from error


def _fill(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    wanted = set(adapter_tensors(model))
    odd = sorted(wanted.symmetric_difference(tensors))
    if odd:
        raise ModelFileError(f"adapter tensor {odd[0]!r} is in the file or in the model, not both")
    given = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    set_peft_model_state_dict(model, given, _NAME)
    for name, parameter in model.named_parameters():
        if is_adapter_tensor(name):
            parameter.requires_grad_(requires_grad=False)


def know_layers(config: LoraConfig, model: nn.Module) -> LoraConfig:
    """Tell a configuration which class adapts layers that peft does not know; it is not stored."""
    kinds = {type(module) for module in model.modules()}
    own = {kind: kind.adapter_layer() for kind in kinds if hasattr(kind, "adapter_layer")}
    if own:
        config._register_custom_module(own)
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Keep peft from warning of what is meant: Conv1D, layers that are not its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fan_in_fan_out.*", UserWarning)
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
        yield
