"""A GPT-2 or Llama as a GGUF file, and back: names, layouts and what llama.cpp must know.

GGUF keeps every matrix as (out, in), so that GPT-2's Conv1D weights are transposed. llama.cpp
rotates neighbouring pairs of a head's rows where transformers rotates its two halves, so that the
rows of Llama's q and k are interleaved. Tied heads are left out: llama.cpp then uses the embedding.
The tokenizer is a stand-in, enough for llama.cpp to load the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

_TOP = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_BLOCK = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


@dataclass(frozen=True)
class Layout:
    """How one parameter lies in a GGUF file."""

    name: str
    there: Callable[[Tensor], Tensor]
    """From transformers' layout to GGUF's."""
    back: Callable[[Tensor], Tensor]


def layout_of(name: str, config: Any) -> Layout:
    """Return where a parameter goes; raises KeyError for an architecture that is not known."""
    owner, _, kind = name.rpartition(".")
    if owner in _TOP:
        return Layout(f"{_TOP[owner]}.{kind}", _same, _same)
    _, _, inside = owner.partition(".h." if ".h." in owner else ".layers.")
    index, _, part = inside.partition(".")
    target = f"blk.{index}.{_BLOCK[part]}.{kind}"
    if name.endswith(_CONV1D):
        return Layout(target, torch.t, torch.t)
    if part in ("self_attn.q_proj", "self_attn.k_proj"):
        heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
        return Layout(target, lambda w: interleave(w, heads), lambda w: separate(w, heads))
    return Layout(target, _same, _same)


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Turn a head's rows (half, half) into pairs: (heads * size, in), size even."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def separate(weight: Tensor, heads: int) -> Tensor:
    """Undo `interleave`."""
    return weight.reshape(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


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
    if config.model_type == "gpt2":
        _describe_gpt2(writer, config)
    else:
        _describe_llama(writer, config)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    size = config.vocab_size
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{index}>" for index in range(size)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([gguf.TokenType.NORMAL] * size)


def _describe_gpt2(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _describe_llama(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _same(tensor: Tensor) -> Tensor:
    return tensor
