"""The bytes of the files that a model is written into, without writing them."""

import json
from collections.abc import Mapping

from torch import Tensor, nn

_DTYPES = {
    "int64": "I64", "float64": "F64", "float32": "F32", "int32": "I32", "bfloat16": "BF16",
    "float16": "F16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""torch's names of dtypes and those of safetensors, in the order in which a file has them."""


def file_bytes(tensors: Mapping[str, Tensor], *, is_marked: bool = True) -> int:
    """Return the size of a safetensors file: 8 bytes, a header in multiples of 8, the tensors.

    is_marked: whether the header says which library wrote it, as that of a model does.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if is_marked else {}
    end = 0
    for name in sorted(tensors, key=lambda name: (_place(tensors[name]), name)):
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[_kind(tensor)],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + end


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _place(tensor: Tensor) -> int:
    return list(_DTYPES).index(_kind(tensor))


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's file, tied ones once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor.detach()))
    return dict(found.values())
