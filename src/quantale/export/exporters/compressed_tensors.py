"""compressed-tensors, the format of vLLM and llm-compressor: pack-quantized weights of 1 to 8 bits.

The library quantizes `nn.Linear` only, so that GPT-2 and nanoGPT cannot be written. Scales are
float32: the library multiplies in their dtype, and then gets our numbers exactly.
"""

import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import ModelFileError, UsageError
from quantale.export.affine_layers import Layer, Scheme, affine_layers
from quantale.export.exporter import Grades, Written, require
from quantale.export.folder import in_place, other_linears, write_folder
from quantale.export.source import Source
from quantale.models import gate
from quantale.models.load import LOADING_ERRORS, auto_class, first_line
from quantale.quant import words


class CompressedTensors:
    """A folder for vLLM and for transformers with the library."""

    types: ClassVar[tuple[str, ...]] = ("pack-quantized",)
    loading: ClassVar[str] = (
        "from transformers import pipeline  # needs the package compressed-tensors\n\n"
        'pipeline("text-generation", model="FOLDER")("Once upon a time")'
    )

    def check(self, source: Source, kind: str) -> None:
        """Refuse what the library cannot read."""
        del kind
        require("compressed_tensors", "compressed-tensors")
        scheme, layers = affine_layers(source, "compressed-tensors")
        for name, layer in layers.items():
            if not isinstance(source.plain.get_submodule(name), nn.Linear):
                raise UsageError(
                    f"compressed-tensors: {name} is no nn.Linear, and the library reads no other "
                    "layers; GPT-2 and nanoGPT can be written with --format gptq, gguf or hf"
                )
            width = layer.codes.shape[1]
            if scheme.group_size is not None and width % layer.size:
                raise UsageError(
                    f"compressed-tensors: {name} has {width} columns, no multiple of the group of "
                    f"{layer.size}"
                )

    def write(self, source: Source, kind: str, folder: Path) -> Written:
        """Write the folder."""
        scheme, layers = affine_layers(source, "compressed-tensors")
        grades = Grades()
        stored: dict[str, Tensor] = {}
        meant: dict[str, Tensor] = {}
        grades.inputs_of(source)
        for name, layer in layers.items():
            stored |= {f"{name}.{key}": one for key, one in _tensors(layer, scheme).items()}
            module = source.plain.get_submodule(name)
            meant[f"{name}.weight"] = in_place(module, layer.weight())
        section = _section(scheme, other_linears(source.plain))
        meant |= write_folder(source, section, stored, folder)
        notes = tuple(grades.notes)
        return Written(kind, meant, grades.grade, notes=notes, read_by="compressed-tensors")

    def read_back(self, folder: Path) -> PreTrainedModel:
        """Let the library decompress it while transformers loads it."""
        from transformers import AutoConfig, CompressedTensorsConfig

        gate.check_folder(folder)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that the rest is the folder's own
                model, info = auto_class(config).from_pretrained(
                    folder,
                    dtype=torch.float32,
                    local_files_only=True,
                    output_loading_info=True,
                    quantization_config=CompressedTensorsConfig(dequantize=True),
                )
        except LOADING_ERRORS as error:
            raise ModelFileError(f"{folder}: {first_line(error)}") from error
        if info["missing_keys"] or info["mismatched_keys"]:
            raise ModelFileError(f"{folder}: compressed-tensors finds not all that it wants")
        found: PreTrainedModel = model
        return found.eval()


def _tensors(layer: Layer, scheme: Scheme) -> dict[str, Tensor]:
    rows, width = layer.codes.shape
    found = {
        "weight_packed": words.pack(layer.codes, scheme.bits),
        "weight_scale": layer.scale.clone(),
        "weight_shape": torch.tensor([rows, width]),
    }
    if not scheme.symmetric:
        zeros = words.pack(layer.zero.t().contiguous(), scheme.bits)
        found["weight_zero_point"] = zeros.t()
    return found


def _section(scheme: Scheme, ignored: list[str]) -> dict[str, Any]:
    weights = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "channel" if scheme.group_size is None else "group",
        "group_size": scheme.group_size,
        "dynamic": False,
    }
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignored,
    }
