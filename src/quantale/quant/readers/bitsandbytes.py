"""bitsandbytes folders as transformers writes them, read without the library: NF4, FP4 and INT8.

A 4-bit weight is a stream of codes, the first of two in the high half of a byte, beside its block
maxima and a `quant_state` in JSON. Blocks run on over the ends of rows: where a row is no multiple
of the block, the weight is none of our formats and is turned into plain numbers. An 8-bit weight is
int8 codes beside the largest magnitude of each row (`SCB`).
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
    attempt,
    file_sizes,
    keep_plain,
    loaded,
    modules_with,
    named,
    open_folder,
    parsed,
    shape_in,
    shapes_of,
    tensor_of,
    whole,
)
from quantale.quant.formats.codebook import Codebook
from quantale.quant.formats.llm_int8 import LlmInt8
from quantale.quant.packed import PackedTensor
from quantale.quant.scales import BLOCK, dynamic_map
from quantale.quant.tables import TABLES

_STATE: Final = ".weight.quant_state.bitsandbytes__"
_PARTS: Final = {
    "weight": "weight",
    "weight.absmax": "scale",
    "weight.nested_absmax": "scale_absmax",
    "weight.nested_quant_map": "scale_map",
    "weight.quant_map": "table",
    **{f"weight.quant_state.bitsandbytes__{kind}": "state" for kind in TABLES},
    "SCB": "scale",
    "weight_format": "state",
}
_LARGEST: Final = 1 << 16
"""Of a block."""


class Bitsandbytes:
    """Reads a folder of bitsandbytes."""

    def load(self, source: Path, dtype: torch.dtype | None) -> Foreign:
        """Build the model of a folder."""
        return loaded(named(source, lambda: _contents(source)), source, dtype)

    def sizes(self, source: Path) -> Mapping[str, int]:
        """Return the stored bytes by tensor."""
        return file_sizes(source, _PARTS)


def _contents(source: Path) -> Contents:
    config, section, tensors = open_folder(source)
    contents, shapes = Contents("bitsandbytes", config), shapes_of(config)
    quantized = modules_with(tensors, "SCB", shapes)
    for owner, shape in quantized.items():
        contents.packed[owner] = _eight(tensors, owner, shape, section)
    for name in list(tensors):
        owner, mark, kind = name.partition(_STATE)
        if mark:
            quantized[owner] = shape_in(shapes, owner)
            _take_four(contents, tensors, owner, kind, quantized[owner])
    keep_plain(contents, tensors, quantized, _PARTS)
    return contents


def _eight(
    tensors: Checkpoint, name: str, shape: tuple[int, int], section: Mapping[str, Any]
) -> PackedTensor:
    codes = tensor_of(tensors, f"{name}.weight", shape, (torch.int8,))
    scale = tensor_of(tensors, f"{name}.SCB", shape[:1], (torch.float32, torch.float16))
    threshold = section.get("llm_int8_threshold", 6.0)
    if not isinstance(threshold, int | float):
        raise ModelFileError(f"llm_int8_threshold is {threshold!r}")
    return LlmInt8(float(threshold)).store(codes, scale)


def _take_four(
    contents: Contents, tensors: Checkpoint, name: str, kind: str, shape: tuple[int, int]
) -> None:
    """Take a weight of 4 bits over, packed or as plain numbers."""
    key = f"{name}{_STATE}{kind}"
    state = parsed(tensors.read(key), key)
    block = whole(state, "blocksize")
    if list(shape) != state.get("shape") or not 2 <= block <= _LARGEST:
        raise ModelFileError(f"{name}: shape {state.get('shape')}, blocks of {block}: no {shape}")
    count = shape[0] * shape[1]
    blocks = -(-count // block)
    codes = _codes(tensors, name, count)
    table = tensor_of(tensors, f"{name}.weight.quant_map", (16,), (torch.float32,))
    scales = _scales(tensors, name, state, blocks)
    own = torch.tensor(TABLES.get(kind, (0.0,)), dtype=torch.float32)
    known = kind if torch.equal(own, table) else tuple(table.tolist())

    def pack() -> PackedTensor | str:
        if shape[1] % block:
            return "blocks run on over the ends of rows"
        if isinstance(scales, str):
            return scales
        layout = Codebook(known, block, "float32", double_quant="scale_mean" in scales)
        scales["scale"] = scales["scale"].view(shape[0], -1)
        return layout.store(codes.view(shape[0], -1, block), scales, shape)

    if not attempt(contents, name, pack):
        scale = _floats(tensors, name, state, blocks).repeat_interleave(block)[:count]
        contents.put(name, (table[codes.long()] * scale).view(shape))


def _codes(tensors: Checkpoint, name: str, count: int) -> Tensor:
    """Return (count,) codes; the bytes may be stored as another dtype."""
    stored = tensors.read(f"{name}.weight").contiguous().view(-1).view(torch.uint8)
    if stored.numel() != -(-count // 2):
        raise ModelFileError(f"{name}.weight: {stored.numel()} bytes for {count} codes of 4 bits")
    return torch.stack([stored >> 4, stored & 15], -1).view(-1)[:count]


def _scales(
    tensors: Checkpoint, name: str, state: Mapping[str, Any], blocks: int
) -> dict[str, Tensor] | str:
    """Return the tensors of scales as our format stores them, or why it cannot."""
    if "nested_offset" not in state:
        kinds = (torch.float32,)
        return {"scale": tensor_of(tensors, f"{name}.weight.absmax", (blocks,), kinds)}
    second, absmax, table = _nested(tensors, name, blocks)
    if state.get("nested_blocksize") != BLOCK or not torch.equal(table, dynamic_map()):
        return "scales that are quantized by another table"
    offset = torch.tensor([float(state["nested_offset"])], dtype=torch.float32)
    return {"scale": second, "scale_absmax": absmax, "scale_mean": offset}


def _floats(tensors: Checkpoint, name: str, state: Mapping[str, Any], blocks: int) -> Tensor:
    """Return (blocks,) float32 scales."""
    if "nested_offset" not in state:
        return tensor_of(tensors, f"{name}.weight.absmax", (blocks,), (torch.float32,))
    second, absmax, table = _nested(tensors, name, blocks)
    step = absmax.repeat_interleave(whole(state, "nested_blocksize"))[:blocks]
    return table[second.long()] * step + float(state["nested_offset"])


def _nested(tensors: Checkpoint, name: str, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    second = tensor_of(tensors, f"{name}.weight.absmax", (blocks,), (torch.uint8,))
    size = (-(-blocks // BLOCK),)
    absmax = tensor_of(tensors, f"{name}.weight.nested_absmax", size, (torch.float32,))
    table = tensor_of(tensors, f"{name}.weight.nested_quant_map", (256,), (torch.float32,))
    return second, absmax, table
