"""A model without its weights: modules as `config.json` describes them, parameters on "meta".

What a model computes from its configuration alone (tables of rotary angles, causal masks, scales
of embeddings) is there: transformers' own `_init_weights` fills those buffers, as it does in
`from_pretrained`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel

from quantale.core.errors import ModelFileError
from quantale.models import gate
from quantale.models.checkpoint import Checkpoint
from quantale.models.load import (
    LOADING_ERRORS,
    auto_class,
    check_model,
    first_line,
    load_tokenizer,
)


class OpenedModel(NamedTuple):
    """A model folder whose weights are still on the disk."""

    model: Any
    """The transformers model in evaluation mode, float32 parameters on "meta"."""
    tokenizer: Any
    """Its tokenizer, or None when the folder holds none."""
    checkpoint: Checkpoint
    """The weights."""
    dtype: torch.dtype
    """The dtype that transformers calls the model's own: that of `config.json`, or of the first
    weight of floating point."""


def open_model(folder: Path) -> OpenedModel:
    """Open a local folder that passes the gate; raises ModelFileError as `load` does."""
    check_model(folder)
    checkpoint = Checkpoint(gate.weight_files(folder))
    try:
        model = skeleton(folder)
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{folder / 'config.json'}: {first_line(error)}") from error
    return OpenedModel(model, load_tokenizer(folder), checkpoint, _own_dtype(model, checkpoint))


def skeleton(folder: Path) -> PreTrainedModel:
    """Build the model of a folder with all parameters and stored buffers on "meta"."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    model = empty_model(config)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def empty_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the model of a configuration with float32 parameters on "meta"."""
    dtype = config.dtype
    with torch.device("meta"):
        model: PreTrainedModel = auto_class(config).from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
    model.config.dtype = dtype
    _fill_buffers(model)
    return model.eval()


def retype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Let the parameters be of a dtype; tied ones stay tied.

    Buffers stay as they are: `Module.to` would round tables of rotary angles.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def _fill_buffers(model: PreTrainedModel) -> None:
    """Give buffers that no file stores their memory and let transformers compute them."""
    owner: PreTrainedModel = model
    for module in model.modules():
        owner = module if isinstance(module, PreTrainedModel) else owner
        unstored = [
            name for name in module._non_persistent_buffers_set if module._buffers[name] is not None
        ]
        for name in unstored:
            module._buffers[name] = torch.empty_like(module.get_buffer(name), device="cpu")
        if unstored:
            with torch.no_grad():
                owner._init_weights(module)


def _own_dtype(model: PreTrainedModel, checkpoint: Checkpoint) -> torch.dtype:
    named = model.config.dtype
    if isinstance(named, torch.dtype):
        return named
    kinds = (checkpoint.dtype(name) for name in checkpoint)
    return next((kind for kind in kinds if kind.is_floating_point), torch.float32)
