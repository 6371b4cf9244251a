"""bitsandbytes' own layout as transformers writes it: NF4, FP4 or LLM.int8, loaded in one line.

Layers that are packed as NF4, FP4 or LLM.int8 here are taken over bit for bit where blocks end with
rows; everything else is quantized by the library from the numbers that it stands for, in blocks of
64 or 32 that divide a row. Layers whose rows neither divides stay in full precision: the library
(0.50.2) quantizes them and then reads wrong numbers back on processors. GPT-2's Conv1D is stored as
(out, in), as the library's layers hold it.
"""

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import ModelFileError, NumericalError, UsageError
from quantale.export.exporter import Grades, Written, require
from quantale.export.folder import block_linears, in_place, other_linears, write_folder
from quantale.export.source import Source
from quantale.models import gate
from quantale.models.load import LOADING_ERRORS, auto_class, first_line
from quantale.quant import bnb_library
from quantale.quant.formats.codebook import Codebook
from quantale.quant.formats.llm_int8 import LlmInt8
from quantale.quant.packed import PackedTensor
from quantale.quant.scales import BLOCK, dynamic_map
from quantale.quant.sites import weight_view
from quantale.quant.tables import TABLES

_BLOCK_SIZES: Final = (64, 32)
"""Of weights that the library quantizes, the first that divides a row."""
_EIGHT: Final = "int8"
_BLOCKS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096)


class Bitsandbytes:
    """A folder for `from_pretrained` with bitsandbytes installed."""

    types: ClassVar[tuple[str, ...]] = ("nf4", "fp4", "int8")
    loading: ClassVar[str] = (
        "from transformers import pipeline  # needs the package bitsandbytes\n\n"
        'pipeline("text-generation", model="FOLDER")("Once upon a time")'
    )

    def check(self, source: Source, kind: str) -> None:
        """Refuse what only this project computes, and a missing library."""
        del kind
        source.refuse_norms("bitsandbytes")
        require("bitsandbytes", "bitsandbytes")

    def write(self, source: Source, kind: str, folder: Path) -> Written:
        """Write the folder."""
        grades = Grades()
        stored: dict[str, Tensor] = {}
        meant: dict[str, Tensor] = {}
        if kind != _EIGHT:
            grades.inputs_of(source)
        left = other_linears(source.plain)
        for name in block_linears(source.plain):
            module = source.plain.get_submodule(name)
            tensors = _taken_over(source.packed.get(name), kind)
            if tensors is None and kind != _EIGHT and _block_of(weight_view(module)) is None:
                left.append(name)
                grades.notes.append(f"{name} is in full precision: no block of 32 divides its rows")
                continue
            if tensors is None:
                grades.lower("requantized", f"{name}.weight")
                tensors = _quantized(weight_view(module).to(torch.float32), kind, name)
            stored |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
            shape = (weight_view(module).shape[0], weight_view(module).shape[1])
            meant[f"{name}.weight"] = in_place(module, _meant(tensors, kind, shape))
        if not stored:
            raise UsageError(
                f"bitsandbytes: no layer has rows of a multiple of 32, as {kind} wants"
            )
        section = _section(kind, left, source)
        meant |= write_folder(source, section, stored, folder)
        return Written(
            kind,
            meant,
            grades.grade,
            tuple(grades.requantized),
            tuple(grades.notes),
            "bitsandbytes",
            rounds_inputs=kind == _EIGHT,
        )

    def read_back(self, folder: Path) -> PreTrainedModel:
        """Load it with transformers and the library, and let the library dequantize it."""
        from transformers import AutoConfig

        gate.check_folder(folder)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with unpacked_on_processors():
            try:
                model, info = auto_class(config).from_pretrained(
                    folder,
                    dtype=torch.float32,
                    device_map={"": "cpu"},
                    local_files_only=True,
                    output_loading_info=True,
                )
            except LOADING_ERRORS as error:
                raise ModelFileError(f"{folder}: {first_line(error)}") from error
        if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
            raise ModelFileError(f"{folder}: bitsandbytes finds other tensors than it wants")
        return _plain(model)


@contextlib.contextmanager
def unpacked_on_processors() -> Iterator[None]:
    """Keep the library from re-laying 4-bit weights on AVX512, which corrupts them (issue 2078)."""
    modules: Any = importlib.import_module("bitsandbytes.nn.modules")
    before = modules.has_avx512bf16
    modules.has_avx512bf16 = lambda: False
    try:
        yield
    finally:
        modules.has_avx512bf16 = before


def _taken_over(packed: PackedTensor | None, kind: str) -> dict[str, Tensor] | None:
    """Return the library's tensors of a weight that is packed alike, None for others."""
    if packed is None:
        return None
    layout = packed.format
    if isinstance(layout, LlmInt8) and kind == _EIGHT:
        return _eight(layout.codes(packed), packed.tensors["scale"].squeeze(1))
    if not isinstance(layout, Codebook) or layout.table != kind or layout.scale_dtype != "float32":
        return None
    if layout.group_size not in _BLOCKS or packed.shape[1] % int(layout.group_size):
        return None
    units = packed.tensors["weight"].flatten()
    codes = torch.stack([units & 15, units >> 4], -1).flatten()
    scales: dict[str, Any] = {"absmax": packed.tensors["scale"].flatten()}
    if layout.double_quant:
        scales |= {
            "nested_absmax": packed.tensors["scale_absmax"],
            "nested_quant_map": dynamic_map(),
            "offset": float(packed.tensors["scale_mean"]),
        }
    return _four(codes, scales, kind, int(layout.group_size), packed.shape)


def _quantized(weight: Tensor, kind: str, name: str) -> dict[str, Tensor]:
    """Return what the library makes of an (out, in) float32 weight."""
    functions = bnb_library.functions()
    if kind == _EIGHT:
        half = weight.to(torch.float16).contiguous()
        if not torch.isfinite(half).all():
            raise NumericalError(f"{name}: does not fit float16, in which LLM.int8 takes weights")
        codes, scale, _ = functions.int8_vectorwise_quant(half)
        return _eight(torch.where(scale.unsqueeze(-1) > 0, codes, 0), scale)
    block = _block_of(weight)
    assert block is not None
    stored, state = functions.quantize_4bit(
        weight.contiguous(), blocksize=block, compress_statistics=False, quant_type=kind
    )
    pairs = stored.flatten()
    codes = torch.stack([pairs >> 4, pairs & 15], -1).flatten()
    shape = (weight.shape[0], weight.shape[1])
    return _four(codes, {"absmax": state.absmax}, kind, block, shape)


def _block_of(weight: Tensor) -> int | None:
    """Return the block of a weight that the library quantizes, None where none divides a row."""
    return next((size for size in _BLOCK_SIZES if weight.shape[1] % size == 0), None)


def _eight(codes: Tensor, scale: Tensor) -> dict[str, Tensor]:
    return {
        "weight": codes.to(torch.int8),
        "SCB": scale.to(torch.float32),
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }


def _four(
    codes: Tensor, scales: Mapping[str, Any], kind: str, block: int, shape: tuple[int, int]
) -> dict[str, Tensor]:
    """Return the tensors of a 4-bit weight; codes: (out * in,) or more, the rest is left out."""
    state: dict[str, Any] = {
        "quant_type": kind,
        "blocksize": block,
        "dtype": "float32",
        "shape": list(shape),
    }
    if "offset" in scales:
        state |= {"nested_blocksize": BLOCK, "nested_dtype": "float32"}
        state["nested_offset"] = scales["offset"]
    kept = codes[: -(-shape[0] * shape[1] // 2) * 2].view(-1, 2)
    tensors = {f"weight.{key}": one for key, one in scales.items() if key != "offset"}
    text = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    return {
        "weight": ((kept[:, 0] << 4) | kept[:, 1]).unsqueeze(1),
        **tensors,
        "weight.quant_map": torch.tensor(TABLES[kind], dtype=torch.float32),
        f"weight.quant_state.bitsandbytes__{kind}": text,
    }


def _meant(tensors: Mapping[str, Tensor], kind: str, shape: tuple[int, int]) -> Tensor:
    """Return the (out, in) float32 weight that the stored tensors stand for, by our arithmetic."""
    if kind == _EIGHT:
        return tensors["weight"] * tensors["SCB"].unsqueeze(1) * (1 / 127)
    pairs = tensors["weight"].flatten()
    codes = torch.stack([pairs >> 4, pairs & 15], -1).flatten()[: shape[0] * shape[1]]
    state = json.loads(bytes(tensors[f"weight.quant_state.bitsandbytes__{kind}"].tolist()))
    scale = tensors["weight.absmax"]
    if "weight.nested_absmax" in tensors:
        step = tensors["weight.nested_absmax"].repeat_interleave(BLOCK)[: scale.numel()]
        scale = dynamic_map()[scale.long()] * step + state["nested_offset"]
    spread = scale.repeat_interleave(state["blocksize"])[: codes.numel()]
    return (tensors["weight.quant_map"][codes.long()] * spread).view(shape)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model with layers of torch in place of the library's."""
    layers = importlib.import_module("bitsandbytes.nn")
    functions = bnb_library.functions()
    for name, module in list(model.named_modules()):
        if isinstance(module, layers.Linear4bit):
            weight = functions.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, layers.Linear8bitLt):
            weight = functions.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
        else:
            continue
        model.set_submodule(name, _layer(module, weight.to(torch.float32)))
    del model.config.quantization_config
    return model.eval()


def _layer(module: nn.Module, weight: Tensor) -> nn.Module:
    """Return a plain layer of the kind that the library's one replaced."""
    rows, width = weight.shape
    bias = getattr(module, "bias", None)
    made: nn.Module
    if getattr(module, "source_cls", nn.Linear) is Conv1D:
        made = Conv1D(rows, width)
        made.weight.data = weight.t().contiguous()
    else:
        made = nn.Linear(width, rows, bias=bias is not None)
        made.weight.data = weight.contiguous()
    if bias is not None:
        made.bias.data = bias.detach().to(torch.float32)
    return made


def _section(kind: str, left: list[str], source: Source) -> dict[str, Any]:
    thresholds = {
        packed.format.threshold
        for packed in source.packed.values()
        if isinstance(packed.format, LlmInt8)
    }
    eight = kind == _EIGHT
    return {
        "quant_method": "bitsandbytes",
        "load_in_8bit": eight,
        "load_in_4bit": not eight,
        "_load_in_8bit": eight,
        "_load_in_4bit": not eight,
        "llm_int8_threshold": max(thresholds, default=6.0),
        "llm_int8_skip_modules": left or ["lm_head"],
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "bnb_4bit_quant_type": "nf4" if eight else kind,
        "bnb_4bit_use_double_quant": False,
        "bnb_4bit_compute_dtype": str(source.dtype).removeprefix("torch."),
        "bnb_4bit_quant_storage": "uint8",
    }
