"""A GPT-2 or Llama as a GGUF file, and back, for measuring llama.cpp's own quantizer.

Names and layouts are those of `quantale.models.gguf_names`. The tokenizer is a stand-in, enough
for llama.cpp to load the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from quantale.models.gguf_names import described, layout_of


def write(model: Any, path: Path) -> None:
    """Write a model as float32."""
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    describe(writer, config)
    for name, parameter in model.named_parameters():
        layout = layout_of(name, config)
        tensor = layout.there(parameter.detach().to(torch.float32))
        writer.add_tensor(layout.name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path, model: Any) -> dict[str, Tensor]:
    """Return the dequantized parameters of a file by the model's names, in its layout."""
    stored = tensors(path)
    found = {}
    for name, _ in model.named_parameters():
        layout = layout_of(name, model.config)
        entry = stored[layout.name]
        values = gguf.quants.dequantize(entry.data, entry.tensor_type)
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        found[name] = layout.back(tensor).contiguous()
    return found


def tensors(path: Path) -> Mapping[str, Any]:
    """Return the entries of a file by name."""
    return {entry.name: entry for entry in gguf.GGUFReader(path).tensors}


def size_without_tokenizer(path: Path) -> int:
    """Return the size of a file in bytes, less the stand-in for the tokenizer."""
    fields = gguf.GGUFReader(path).fields
    parts = [part for name, one in fields.items() if "tokenizer" in name for part in one.parts]
    return path.stat().st_size - sum(int(part.nbytes) for part in parts)


def describe(writer: gguf.GGUFWriter, config: Any) -> None:
    """Add what llama.cpp must know of the model, and a stand-in for the tokenizer."""
    for key, value in described(config).items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        add(f"{config.model_type}.{key}", value)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    size = config.vocab_size
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{index}>" for index in range(size)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
