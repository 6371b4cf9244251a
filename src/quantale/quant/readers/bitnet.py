"""BitNet folders of transformers, read without its compiled layers.

Ma et al., arXiv 2402.17764. Four trits lie in a byte, a quarter of the rows apart, value plus one.
The two classes of layers store inverse scales: `bitlinear` divides by `weight_scale`,
`autobitlinear` multiplies by it. In "online" mode weights are stored in full and rounded at every
use. All become ternary weights with inputs of 8 bits; an RMSNorm of the inputs is a SubLN here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from quantale.core.errors import ModelFileError
from quantale.models.checkpoint import Checkpoint
from quantale.models.foreign import Foreign
from quantale.quant.foreign import (
    Contents,
    file_sizes,
    loaded,
    named,
    open_folder,
    shapes_of,
    tensor_of,
)
from quantale.quant.formats.ternary import Ternary
from quantale.quant.methods.bitnet import Bitnet as Method
from quantale.quant.packed import PackedTensor
from quantale.quant.sub_norm import SubNorm

_PARTS: Final = {"weight": "weight", "weight_scale": "scale", "rms_norm.weight": "norm.weight"}
_FLOATS: Final = (torch.float32, torch.float16, torch.bfloat16)
_PER_BYTE: Final = 4
_INVERSE: Final = {"bitlinear": True, "autobitlinear": False}


class Bitnet:
    """Reads a folder of BitNet."""

    def load(self, source: Path, dtype: torch.dtype | None) -> Foreign:
        """Build the model of a folder."""
        return loaded(named(source, lambda: _contents(source)), source, dtype)

    def sizes(self, source: Path) -> Mapping[str, int]:
        """Return the stored bytes by tensor."""
        return file_sizes(source, _PARTS)


def _contents(source: Path) -> Contents:
    config, section, tensors = open_folder(source)
    kind, mode = section.get("linear_class", "bitlinear"), section.get("quantization_mode")
    if kind not in _INVERSE:
        raise ModelFileError(f"linear_class {kind!r}; {', '.join(_INVERSE)} are read")
    contents, shapes = Contents("bitnet", config), shapes_of(config)
    used: set[str] = set()
    for name in _online(shapes, section) if mode == "online" else _offline(tensors):
        if name not in shapes:
            raise ModelFileError(f"{name} is no weight of this model")
        if mode == "online":
            weight = tensor_of(tensors, f"{name}.weight", shapes[name], _FLOATS)
            contents.packed[name] = Method().quantize(weight)
        else:
            contents.packed[name] = _packed(tensors, name, shapes[name], _INVERSE[kind])
        if section.get("use_rms_norm"):
            contents.norms[name] = _norm(tensors, name, shapes[name][1], section)
        used |= {f"{name}.{part}" for part in _PARTS}
    contents.plain |= {name: tensors.read(name) for name in tensors if name not in used}
    return contents


def _offline(tensors: Checkpoint) -> list[str]:
    return [n.removesuffix(".weight_scale") for n in tensors if n.endswith(".weight_scale")]


def _online(shapes: Mapping[str, tuple[int, int]], section: Mapping[str, Any]) -> list[str]:
    """Every linear layer but those that the section leaves out; the head is always left out."""
    left = [*(section.get("modules_to_not_convert") or []), "lm_head"]
    inside = [name for name in shapes if ".layers." in name]
    return [name for name in inside if not any(name.endswith(one) for one in left)]


def _packed(tensors: Checkpoint, name: str, shape: tuple[int, int], inverse: bool) -> PackedTensor:
    quarter = -(-shape[0] // _PER_BYTE)
    stored = tensor_of(tensors, f"{name}.weight", (quarter, shape[1]), (torch.uint8,))
    trits = torch.cat([(stored >> (2 * i)) & 3 for i in range(_PER_BYTE)])[: shape[0]]
    if int(trits.max()) > 2:
        raise ModelFileError(f"{name}.weight holds numbers that are no trits")
    scale = tensors.read(f"{name}.weight_scale").to(torch.float32).reshape(-1)
    if scale.shape != (1,) or not bool(scale > 0):
        raise ModelFileError(f"{name}.weight_scale is no positive number")
    scale = 1 / scale if inverse else scale
    layout = Ternary("tensor", "float32", 8)
    units: Tensor = layout.split(trits.to(torch.float32) - 1)
    return layout.store(units, scale.reshape(1, 1), shape)


def _norm(tensors: Checkpoint, name: str, width: int, section: Mapping[str, Any]) -> SubNorm:
    epsilon = section.get("rms_norm_eps", 1e-6)
    if not isinstance(epsilon, float):
        raise ModelFileError(f"rms_norm_eps is {epsilon!r}")
    norm = SubNorm(width, epsilon)
    weight = tensor_of(tensors, f"{name}.rms_norm.weight", (width,), _FLOATS)
    norm.weight.data = weight.to(torch.float32)
    return norm
