"""GGUF, the file of llama.cpp: GPT-2, Llama, and nanoGPT as the GPT-2 that llama.cpp can run.

What our model keeps in full precision is written as float16 (norms, biases and positions as
float32). A packed weight is taken over bit for bit where its numbers fit the type that was asked
for, and chosen anew by gguf-py elsewhere. A model in full precision gets Q8_0 for embedding and
head with any type of blocks, as llama.cpp gives them a finer type too.
"""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Final

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import ModelFileError, UsageError
from quantale.export import gguf_blocks
from quantale.export.exporter import Grades, Written, plain_state
from quantale.export.gguf_tokenizer import tokenizer_keys
from quantale.export.source import Source
from quantale.models.gguf_header import read_gguf
from quantale.models.gguf_names import ARCHITECTURES, config_from, described, layout_of
from quantale.models.skeleton import empty_model
from quantale.quant.sites import LINEAR_ROLES, list_sites

FILE: Final = "model.gguf"
_FILE_TYPES: Final = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "TQ2_0": gguf.LlamaFileType.MOSTLY_TQ2_0,
}


class Gguf:
    """One file for llama.cpp."""

    types: ClassVar[tuple[str, ...]] = ("F16", "F32", "Q8_0", "Q4_0", "TQ2_0")
    loading: ClassVar[str] = (
        f'import llama_cpp\n\nllama_cpp.Llama("FOLDER/{FILE}")("Once upon a time")'
    )

    def check(self, source: Source, kind: str) -> None:
        """Refuse what llama.cpp cannot run."""
        source.refuse_norms("gguf")
        config = source.plain.config
        if config.model_type not in ARCHITECTURES:
            raise UsageError(
                f"gguf: {type(source.model).__name__} is none of those that can be written: GPT-2, "
                "Llama, nanoGPT"
            )
        reason = _cannot_run(source.plain)
        if reason is not None:
            raise UsageError(f"gguf: {reason}, which llama.cpp does not compute for this family")
        widths = {s.shape[1] for s in list_sites(source.plain) if s.role in LINEAR_ROLES}
        if not any(gguf_blocks.fits(kind, width) for width in widths):
            raise UsageError(
                f"gguf: no layer of the blocks has rows that {kind} can divide into its blocks "
                f"(columns: {', '.join(map(str, sorted(widths)))}); choose another --type"
            )

    def write(self, source: Source, kind: str, folder: Path) -> Written:
        """Write the file, and the tokenizer's own files beside it."""
        grades, plain = Grades(), source.plain
        grades.inputs_of(source)
        if plain.config.model_type == "gpt2" and plain.config.activation_function == "gelu":
            grades.lower("rounded")
            grades.notes.append("llama.cpp computes GELU by its tanh formula, the model exactly")
        path = folder / FILE
        writer = gguf.GGUFWriter(path, plain.config.model_type)
        tokenizer = tokenizer_keys(source.tokenizer, plain.config.vocab_size)
        for key, value in described(plain.config).items():
            _add(writer, f"{plain.config.model_type}.{key}", value)
        writer.add_file_type(_FILE_TYPES[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in tokenizer.values.items():
            _add(writer, key, value)
        meant = _write_tensors(writer, source, kind, grades)
        _close(writer)
        if source.tokenizer is not None:
            source.tokenizer.save_pretrained(folder)
        notes = (*grades.notes, *tokenizer.notes)
        return Written(kind, meant, grades.grade, tuple(grades.requantized), notes, "gguf-py")

    def read_back(self, folder: Path) -> PreTrainedModel:
        """Read the file with gguf-py, after our own gate."""
        path = folder / FILE
        header = read_gguf(path)
        try:
            entries = {entry.name: entry for entry in gguf.GGUFReader(path).tensors}
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise ModelFileError(f"{path}: gguf-py does not read it: {error}") from error
        rows = header.tensors["token_embd.weight"].shape[0]
        config = config_from(header.values, rows, tied="output.weight" not in header.tensors)
        model = empty_model(config)
        state = {}
        for name, _ in model.named_parameters():
            layout = layout_of(name, config)
            if layout.name not in entries:
                raise ModelFileError(f"{path}: lacks tensor {layout.name}")
            entry = entries[layout.name]
            values = gguf_blocks.values_of(entry.data, entry.tensor_type.name)
            state[name] = layout.back(values).contiguous()
        model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        return model.eval()


def _cannot_run(model: PreTrainedModel) -> str | None:
    """Return what of a configuration llama.cpp leaves out; None when it computes all of it."""
    config = model.config
    if config.model_type == "gpt2":
        odd = {
            "add_cross_attention": config.add_cross_attention,
            "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
            "scale_attn_weights = false": not config.scale_attn_weights,
            f"activation_function {config.activation_function!r}": config.activation_function
            not in ("gelu", "gelu_new", "gelu_pytorch_tanh"),
        }
    else:
        odd = {
            "attention_bias": config.attention_bias,
            "mlp_bias": config.mlp_bias,
            f"hidden_act {config.hidden_act!r}": config.hidden_act != "silu",
            "scaled rotary positions": config.rope_parameters["rope_type"] != "default",
        }
    if model.get_output_embeddings() is None:
        return "a classifier's head"
    return next((what for what, is_there in odd.items() if is_there), None)


def _write_tensors(
    writer: gguf.GGUFWriter, source: Source, kind: str, grades: Grades
) -> dict[str, Tensor]:
    """Add every parameter; returns what the stored numbers stand for."""
    plain, meant = source.plain, {}
    uneven: Counter[tuple[int, str]] = Counter()
    roles = {site.name: site.role for site in list_sites(plain)}
    for name, parameter in plain_state(plain).items():
        owner = name.rpartition(".")[0]
        layout = layout_of(name, plain.config)
        chosen = _kind_of(kind, owner, roles.get(owner, ""), parameter, source)
        weight = layout.there(parameter.to(torch.float32)).contiguous()
        if not gguf_blocks.fits(chosen, weight.shape[-1]):
            uneven[weight.shape[-1], chosen] += 1
            chosen = "F16"
        data = _data(source, owner, layout, chosen) if name.endswith(".weight") else None
        if data is None:
            data = gguf_blocks.chosen_anew(weight, chosen)
        values = gguf_blocks.values_of(data, chosen)
        _grade(grades, name, chosen, torch.equal(values, weight))
        writer.add_tensor(layout.name, data, raw_dtype=gguf.GGMLQuantizationType[chosen])
        meant[name] = layout.back(values).contiguous()
    for (width, wanted), count in uneven.items():
        grades.notes.append(
            f"{count} weights of {width} columns are F16: no multiple of a block of {wanted}"
        )
    return meant


def _data(source: Source, owner: str, layout: Any, kind: str) -> np.ndarray | None:
    """Return the blocks of a packed weight whose numbers fit the type."""
    packed = source.packed.get(owner)
    grid = None if packed is None else gguf_blocks.grid_of(packed, kind)
    if grid is None:
        return None
    turned = gguf_blocks.Grid(layout.there_rows(grid.units), layout.there_rows(grid.scale))
    return gguf_blocks.stored(turned, kind)


def _kind_of(kind: str, owner: str, role: str, parameter: Tensor, source: Source) -> str:
    """Return the type of one tensor."""
    if parameter.dim() == 1 or role == "position":
        return "F32"
    if kind not in gguf_blocks.QUANTIZED:
        return kind
    if source.quantized and owner not in source.quantized:
        return "F16"
    return kind if role in LINEAR_ROLES else "Q8_0"


def _grade(grades: Grades, name: str, kind: str, same: bool) -> None:
    if not same:
        grades.lower("requantized" if kind in gguf_blocks.QUANTIZED else "rounded", name)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Add a key; whole numbers are unsigned, as llama.cpp wants counts and tokens."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
