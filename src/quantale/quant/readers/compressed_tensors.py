"""compressed-tensors folders of the format pack-quantized, read without the library.

Codes of a row lie in 32-bit words, zero points down the columns; both are stored as signed numbers
plus 2^(bits - 1), which are our codes and zero points. One scheme for all layers is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from quantale.core.errors import ModelFileError
from quantale.models.checkpoint import Checkpoint
from quantale.models.foreign import Foreign
from quantale.quant import words
from quantale.quant.foreign import (
    Contents,
    file_sizes,
    keep_plain,
    loaded,
    modules_with,
    named,
    open_folder,
    shapes_of,
    tensor_of,
    whole,
)
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor
from quantale.quant.scales import DTYPES

_PARTS: Final = {
    "weight_packed": "weight",
    "weight_scale": "scale",
    "weight_zero_point": "zero_point",
    "weight_shape": "state",
}
_FORMAT: Final = "pack-quantized"


class CompressedTensors:
    """Reads a folder of compressed-tensors."""

    def load(self, source: Path, dtype: torch.dtype | None) -> Foreign:
        """Build the model of a folder."""
        return loaded(named(source, lambda: _contents(source)), source, dtype)

    def sizes(self, source: Path) -> Mapping[str, int]:
        """Return the stored bytes by tensor."""
        return file_sizes(source, _PARTS)


@dataclass(frozen=True)
class _Scheme:
    """How all weights are stored."""

    bits: int
    group_size: int | str
    symmetric: bool


def _contents(source: Path) -> Contents:
    config, section, tensors = open_folder(source)
    scheme = _scheme(section)
    contents = Contents("compressed-tensors", config)
    modules = modules_with(tensors, "weight_packed", shapes_of(config))
    for name, shape in modules.items():
        if f"{name}.weight_g_idx" in tensors:
            raise ModelFileError(f"{name}: columns in an order of their own are not read")
        contents.packed[name] = _packed(tensors, name, shape, scheme)
    keep_plain(contents, tensors, modules, _PARTS)
    return contents


def _scheme(section: Mapping[str, Any]) -> _Scheme:
    """Return the one scheme of a section; raises ModelFileError for others."""
    groups = section.get("config_groups")
    if section.get("format") != _FORMAT or not isinstance(groups, dict) or len(groups) != 1:
        raise ModelFileError(f"is read with the format {_FORMAT} and one group of layers only")
    (group,) = groups.values()
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict) or weights.get("type", "int") != "int":
        raise ModelFileError("weights of whole numbers are read only")
    if group.get("input_activations") is not None:
        raise ModelFileError("inputs that are rounded too are not read")
    bits, strategy = whole(weights, "num_bits"), weights.get("strategy")
    if not 1 <= bits <= 8 or strategy not in ("group", "channel"):
        raise ModelFileError(f"{bits} bits by {strategy!r}; 1 to 8 by group or channel are read")
    size: int | str = "row" if strategy == "channel" else whole(weights, "group_size")
    return _Scheme(bits, size, bool(weights.get("symmetric", True)))


def _packed(
    tensors: Checkpoint, name: str, shape: tuple[int, int], scheme: _Scheme
) -> PackedTensor:
    rows, width = shape
    stored = tensor_of(
        tensors, f"{name}.weight_packed", (rows, -(-width * scheme.bits // 32)), (torch.int32,)
    )
    kind = tensors.dtype(f"{name}.weight_scale") if f"{name}.weight_scale" in tensors else None
    names = [key for key, dtype in DTYPES.items() if dtype == kind]
    if not names:
        raise ModelFileError(f"{name}.weight_scale is missing or of dtype {kind}")
    layout = Affine(scheme.bits, scheme.group_size, scheme.symmetric, names[0])
    groups = layout.groups(width)
    scale = tensor_of(tensors, f"{name}.weight_scale", (rows, groups), tuple(DTYPES.values()))
    if not bool((scale > 0).all()):
        raise ModelFileError(f"{name}.weight_scale holds numbers that are not positive")
    zero = torch.full((rows, groups), float(1 << (scheme.bits - 1)))
    if not scheme.symmetric:
        size = (-(-rows * scheme.bits // 32), groups)
        zeros = tensor_of(tensors, f"{name}.weight_zero_point", size, (torch.int32,))
        zero = words.unpack(zeros.t(), scheme.bits, rows).t().to(torch.float32)
    grid = Grid(scale.to(torch.float32), zero, layout.top, {"scale": scale})
    codes = words.unpack(stored, scheme.bits, width)
    return layout.store(layout.split(codes), grid, shape)
