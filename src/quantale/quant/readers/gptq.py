"""GPTQ folders (AutoGPTQ, GPTQModel), read without these: `qweight`, `qzeros`, `scales`, `g_idx`.

Codes run down the columns of `qweight`, zero points along the rows of `qzeros`, both in 32-bit
words. Version 1 ("gptq") stores each zero point less one, modulo 2^bits; version 2 ("gptq_v2") as
it is. A weight whose columns were grouped in another order (`desc_act`) is none of our formats, and
is turned into plain numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from quantale.core.errors import ModelFileError
from quantale.models.checkpoint import Checkpoint
from quantale.models.foreign import Foreign
from quantale.quant import words
from quantale.quant.foreign import (
    Contents,
    attempt,
    file_sizes,
    keep_plain,
    loaded,
    modules_with,
    named,
    open_folder,
    shapes_of,
    tensor_of,
)
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.packed import PackedTensor
from quantale.quant.scales import DTYPES

_LESS_ONE: Final = {"gptq": 1, "gptq_v2": 0}
"""What is added to stored zero points, by checkpoint format."""
_PARTS: Final = {"qweight": "weight", "scales": "scale", "qzeros": "zero_point", "g_idx": "g_idx"}
_BITS: Final = (2, 3, 4, 8)
_FLOATS: Final = tuple(DTYPES.values())


class Gptq:
    """Reads a folder of GPTQ."""

    def load(self, source: Path, dtype: torch.dtype | None) -> Foreign:
        """Build the model of a folder."""
        return loaded(named(source, lambda: _contents(source)), source, dtype)

    def sizes(self, source: Path) -> Mapping[str, int]:
        """Return the stored bytes by tensor."""
        return file_sizes(source, _PARTS)


@dataclass(frozen=True)
class _Stored:
    """One weight as it is stored."""

    codes: Tensor
    """(out, in) uint8."""
    zero: Tensor
    """(out, groups) uint8."""
    scale: Tensor
    """(out, groups), in its own dtype."""
    order: Tensor
    """(in,): the group of each column."""
    bits: int

    def pack(self) -> PackedTensor | str:
        """Return the weight in our format, or why it has none."""
        groups, width = self.scale.shape[1], self.codes.shape[1]
        size = int((self.order == 0).sum())
        if size == 0 or not torch.equal(self.order, torch.arange(width) // size):
            return "columns are grouped in an order of their own"
        if not bool((self.scale > 0).all()):
            return "scales that are not positive"
        symmetric = bool((self.zero == 1 << (self.bits - 1)).all())
        name = next(key for key, kind in DTYPES.items() if kind == self.scale.dtype)
        layout = Affine(self.bits, "row" if groups == 1 else size, symmetric, name)
        grid = Grid(
            self.scale.to(torch.float32),
            self.zero.to(torch.float32),
            layout.top,
            {"scale": self.scale},
        )
        return layout.store(layout.split(self.codes), grid, (self.codes.shape[0], width))

    def weight(self) -> Tensor:
        """Return the (out, in) float32 weight."""
        zero, scale = self.zero[:, self.order], self.scale[:, self.order].to(torch.float32)
        return (self.codes.to(torch.float32) - zero.to(torch.float32)) * scale


def _contents(source: Path) -> Contents:
    config, section, tensors = open_folder(source)
    version = section.get("checkpoint_format") or "gptq"
    if version not in _LESS_ONE:
        raise ModelFileError(f"checkpoint_format {version!r}; {', '.join(_LESS_ONE)} are read")
    contents = Contents("gptq", config)
    modules = modules_with(tensors, "qweight", shapes_of(config))
    for name, shape in modules.items():
        stored = _stored(tensors, name, shape, _LESS_ONE[version])
        if not attempt(contents, name, stored.pack):
            contents.put(name, stored.weight())
    keep_plain(contents, tensors, modules, _PARTS)
    return contents


def _stored(tensors: Checkpoint, name: str, shape: tuple[int, int], added: int) -> _Stored:
    """Return the parts of a weight after each was found to have the shape of the others."""
    rows, width = shape
    if f"{name}.scales" not in tensors:
        raise ModelFileError(f"tensor {name}.scales is missing")
    count = tensors.shape(f"{name}.qweight")[0]
    bits = count * 32 // width
    groups = tensors.shape(f"{name}.scales")[0]
    if bits not in _BITS or count * 32 != bits * width or rows * bits % 32 or not groups:
        raise ModelFileError(f"{name}: {count} words for {width} columns are no 2 to 8 bits")
    qweight = tensor_of(tensors, f"{name}.qweight", (count, rows), (torch.int32,))
    qzeros = tensor_of(tensors, f"{name}.qzeros", (groups, rows * bits // 32), (torch.int32,))
    scales = tensor_of(tensors, f"{name}.scales", (groups, rows), _FLOATS)
    zero = words.unpack(qzeros, bits, rows).t() + added
    return _Stored(
        words.unpack(qweight.t(), bits, width),
        zero & ((1 << bits) - 1),
        scales.t().contiguous(),
        _order(tensors, name, width, groups),
        bits,
    )


def _order(tensors: Checkpoint, name: str, width: int, groups: int) -> Tensor:
    """Return the group of each column; a file without g_idx has groups of one size."""
    if f"{name}.g_idx" not in tensors:
        return torch.arange(width) // -(-width // groups)
    order = tensor_of(tensors, f"{name}.g_idx", (width,), (torch.int32, torch.int64)).long()
    if int(order.min()) < 0 or int(order.max()) >= groups:
        raise ModelFileError(f"{name}.g_idx names a group that is not there")
    return order
