"""A model directory of transformers with a `quantization_config` of another program."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core import files
from quantale.export.exporter import plain_state
from quantale.export.source import Source
from quantale.quant.hf import names_in_files
from quantale.quant.sites import LINEAR_ROLES, is_linear, list_sites

_WEIGHTS: Final = "model.safetensors"


def block_linears(model: PreTrainedModel) -> list[str]:
    """Return the linear layers of the blocks, in the order of the model."""
    return [site.name for site in list_sites(model) if site.role in LINEAR_ROLES]


def other_linears(model: PreTrainedModel) -> list[str]:
    """Return the linear layers outside of the blocks: heads, projections of embeddings."""
    inside = set(block_linears(model))
    return [n for n, module in model.named_modules() if is_linear(module) and n not in inside]


def write_folder(
    source: Source, section: Mapping[str, Any], stored: Mapping[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    """Write configuration, tokenizer and tensors.

    stored: the tensors of packed layers by full name; a layer's own weight is left out where any
    of its tensors is among them. Returns what the rest stands for: plain parameters, float32.
    """
    plain = source.plain
    config = copy.deepcopy(plain.config)
    config.quantization_config = dict(section)
    config.architectures = [type(plain).__name__]
    config.dtype = source.dtype
    config.save_pretrained(folder)
    if plain.can_generate():
        plain.generation_config.save_pretrained(folder)
    if source.tokenizer is not None:
        source.tokenizer.save_pretrained(folder)
    packed = packed_modules(plain, stored)
    rest = {
        name: tensor.to(source.dtype)
        for name, tensor in plain_state(plain).items()
        if name not in {f"{module}.weight" for module in packed}
    }
    named = names_in_files(plain, rest)
    tensors = {named[name]: tensor.cpu().contiguous() for name, tensor in rest.items()}
    tensors |= {name: tensor.cpu().contiguous() for name, tensor in stored.items()}
    with files.disk_faults(folder):
        save_file(dict(sorted(tensors.items())), folder / _WEIGHTS, metadata={"format": "pt"})
    return {name: tensor.to(torch.float32) for name, tensor in rest.items()}


def packed_modules(model: PreTrainedModel, stored: Mapping[str, Tensor]) -> list[str]:
    """Return the block's linear layers of which tensors are stored."""
    return [n for n in block_linears(model) if any(name.startswith(f"{n}.") for name in stored)]


def in_place(module: nn.Module, weight: Tensor) -> Tensor:
    """Return an (out, in) weight as the module's own parameter lies."""
    return (weight.t() if isinstance(module, Conv1D) else weight).contiguous()
