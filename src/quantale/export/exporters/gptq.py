"""GPTQ's layout for GPTQModel, AutoGPTQ and vLLM, version 1 or 2, with quantize_config.json.

Version 1 stores each zero point less one. A zero point of 0 then becomes the highest code, and
readers that add one to whole words carry over into the next zero point: such a model is written in
version 2 only. GPTQModel reads asymmetric models of version 1 from itself alone, so that "auto" is
version 1 for symmetric models and version 2 for others. Scales are float16.
"""

import importlib.metadata
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.core.records import write_json
from quantale.export.affine_layers import Layer, Scheme, affine_layers
from quantale.export.exporter import Grades, Written
from quantale.export.folder import in_place, write_folder
from quantale.export.source import Source
from quantale.models.load import load
from quantale.quant import words
from quantale.quant.merging import unpacked

_BITS: Final = (2, 3, 4, 8)
_WORD: Final = 32
_FORMATS: Final = {"v1": "gptq", "v2": "gptq_v2"}


class Gptq:
    """A folder for the readers of GPTQ."""

    types: ClassVar[tuple[str, ...]] = ("auto", "v1", "v2")
    loading: ClassVar[str] = 'from gptqmodel import GPTQModel\n\nGPTQModel.load("FOLDER")'

    def check(self, source: Source, kind: str) -> None:
        """Refuse what the layout cannot hold."""
        scheme, layers = affine_layers(source, "gptq")
        if scheme.bits not in _BITS:
            raise UsageError(f"gptq: {scheme.bits} bits; the layout has 2, 3, 4 and 8")
        for name, layer in layers.items():
            rows, width = layer.codes.shape
            if width * scheme.bits % _WORD or rows * scheme.bits % _WORD:
                raise UsageError(
                    f"gptq: {name} of shape {rows} x {width} does not fill words of {_WORD} bits "
                    f"with codes of {scheme.bits}"
                )
        if kind == "v1" and not _fits_v1(layers):
            raise UsageError("gptq: a zero point is 0, which version 1 cannot store; --type v2")

    def write(self, source: Source, kind: str, folder: Path) -> Written:
        """Write the folder."""
        scheme, layers = affine_layers(source, "gptq")
        version = ("v1" if scheme.symmetric else "v2") if kind == "auto" else kind
        grades = Grades()
        stored: dict[str, Tensor] = {}
        meant: dict[str, Tensor] = {}
        grades.inputs_of(source)
        if version == "v1" and not scheme.symmetric:
            grades.notes.append("GPTQModel refuses asymmetric models of version 1 from others")
        for name, layer in layers.items():
            half = layer.scale.to(torch.float16)
            if not torch.equal(half.to(torch.float32), layer.scale):
                grades.lower("rounded")
            stored |= {f"{name}.{k}": v for k, v in _tensors(layer, half, scheme, version).items()}
            module = source.plain.get_submodule(name)
            meant[f"{name}.weight"] = in_place(module, layer.weight(half.to(torch.float32)))
        section = _section(scheme, _FORMATS[version])
        meant |= write_folder(source, section, stored, folder)
        write_json(folder / "quantize_config.json", section)
        return Written(version, meant, grades.grade, notes=tuple(grades.notes), read_by="quantale")

    def read_back(self, folder: Path) -> PreTrainedModel:
        """Read it with our own reader, which shares nothing with the writer but the word order."""
        return unpacked(load(folder).model)


def _fits_v1(layers: dict[str, Layer]) -> bool:
    return all(bool((layer.zero > 0).all()) for layer in layers.values())


def _tensors(layer: Layer, scale: Tensor, scheme: Scheme, version: str) -> dict[str, Tensor]:
    top = (1 << scheme.bits) - 1
    zero = layer.zero.to(torch.int64) - (1 if version == "v1" else 0)
    width = layer.codes.shape[1]
    return {
        "qweight": words.pack(layer.codes, scheme.bits).t(),
        "qzeros": words.pack((zero & top).t().contiguous(), scheme.bits),
        "scales": scale.t(),
        "g_idx": (torch.arange(width) // layer.size).to(torch.int32),
    }


def _section(scheme: Scheme, checkpoint_format: str) -> dict[str, Any]:
    return {
        "quant_method": "gptq",
        "checkpoint_format": checkpoint_format,
        "bits": scheme.bits,
        "group_size": scheme.group_size or -1,
        "desc_act": False,
        "sym": scheme.symmetric,
        "lm_head": False,
        "pack_dtype": "int32",
        "meta": {"quantizer": ["quantale:" + importlib.metadata.version("quantale")]},
    }
