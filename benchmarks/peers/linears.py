"""The linear layers of a model's blocks, for GPT-2 (Conv1D) and Llama alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D


def load(folder: Path) -> Any:
    """Load a model in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def block_linears(model: nn.Module) -> dict[str, nn.Module]:
    """Return every Linear and Conv1D inside the list of transformer blocks, by name."""
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    prefix = max(lists, key=lambda name: sum(p.numel() for p in lists[name].parameters()))
    return {
        name: module
        for name, module in model.named_modules()
        if name.startswith(f"{prefix}.") and isinstance(module, nn.Linear | Conv1D)
    }


def out_in(module: nn.Module) -> Tensor:
    """Return a contiguous float32 copy of a weight as (out, in)."""
    weight = module.get_parameter("weight").detach()
    return (weight.t() if isinstance(module, Conv1D) else weight).clone(
        memory_format=torch.contiguous_format
    )


def own_layout(module: nn.Module, weight: Tensor) -> Tensor:
    """Turn an (out, in) weight into the layout that the module stores."""
    return (weight.t() if isinstance(module, Conv1D) else weight).to(torch.float32).contiguous()


def rest(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters but the weights of the blocks' linears; tied ones once."""
    linear = {f"{name}.weight" for name in block_linears(model)}
    return {n: p.detach() for n, p in model.named_parameters() if n not in linear}


def file_size(tensors: Mapping[str, Tensor], scratch: Path) -> int:
    """Return the size of a safetensors file with these tensors, header included."""
    path = scratch / "packed.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path.stat().st_size


def padded(folder: Path, multiple: int, scratch: Path) -> Path:
    """Return a folder with the same function whose MLP width is a multiple, for picky peers.

    Only gated MLPs without biases (Llama) are padded: a zero row of the gate gives a zero, which
    meets a zero column of the down projection. The same folder comes back when nothing is to do.
    """
    model = load(folder)
    config = model.config
    width = getattr(config, "intermediate_size", None)
    if width is None or width % multiple == 0:
        return folder
    extra = -width % multiple
    tensors = model.state_dict()
    for name, tensor in tensors.items():
        if name.endswith(("gate_proj.weight", "up_proj.weight")):
            tensors[name] = functional.pad(tensor, (0, 0, 0, extra))
        elif name.endswith("down_proj.weight"):
            tensors[name] = functional.pad(tensor, (0, extra))
    config.intermediate_size = width + extra
    wider = type(model)(config)
    wider.load_state_dict(tensors)
    target = scratch / "padded"
    wider.save_pretrained(target)
    for path in folder.glob("*token*"):
        (target / path.name).write_bytes(path.read_bytes())
    return target


def cropped(parameters: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Cut padding off at the end of every dimension, to the shapes of the model."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    return {
        name: tensor[tuple(slice(size) for size in shapes[name])].contiguous()
        for name, tensor in parameters.items()
    }
