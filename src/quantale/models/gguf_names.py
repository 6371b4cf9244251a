"""GPT-2 and Llama in GGUF: names, layouts, and the keys that say the shape of a model.

GGUF keeps every matrix as (out, in), so that GPT-2's Conv1D weights are transposed. llama.cpp
rotates neighbouring pairs of a head's rows where transformers rotates its two halves, so that the
rows of Llama's q and k are interleaved. Tied heads are left out: llama.cpp then uses the embedding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from transformers import GPT2Config, LlamaConfig

_TOP: Final = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_BLOCK: Final = {
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
_CONV1D: Final = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


@dataclass(frozen=True)
class Layout:
    """How one parameter lies in a GGUF file."""

    name: str
    there: Callable[[Tensor], Tensor]
    """From transformers' layout to GGUF's."""
    back: Callable[[Tensor], Tensor]
    rows: Callable[[Tensor], Tensor]
    """The order of rows alone, from GGUF's to transformers', of a tensor (out, ...)."""
    there_rows: Callable[[Tensor], Tensor]
    """The same from transformers' to GGUF's."""


def layout_of(name: str, config: Any) -> Layout:
    """Return where a parameter goes; raises KeyError for an architecture that is not known."""
    owner, _, kind = name.rpartition(".")
    if owner in _TOP:
        return Layout(f"{_TOP[owner]}.{kind}", _same, _same, _same, _same)
    _, _, inside = owner.partition(".h." if ".h." in owner else ".layers.")
    index, _, part = inside.partition(".")
    target = f"blk.{index}.{_BLOCK[part]}.{kind}"
    if name.endswith(_CONV1D):
        return Layout(target, torch.t, torch.t, _same, _same)
    if part in ("self_attn.q_proj", "self_attn.k_proj"):
        heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads

        def there(weight: Tensor) -> Tensor:
            return interleave(weight, heads)

        def back(weight: Tensor) -> Tensor:
            return separate(weight, heads)

        return Layout(target, there, back, back, there)
    return Layout(target, _same, _same, _same, _same)


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Turn a head's rows (half, half) into pairs: (heads * size, ...), size even."""
    halves = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def separate(weight: Tensor, heads: int) -> Tensor:
    """Undo `interleave`."""
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)


def described(config: Any) -> dict[str, int | float]:
    """Return the keys of a configuration without the architecture in front; KeyError for others."""
    return _DESCRIBED[config.model_type](config)


def config_from(values: Mapping[str, Any], vocabulary: int, *, tied: bool) -> Any:
    """Return the configuration that a file's keys describe; KeyError for one that lacks a key.

    vocabulary: rows of the embedding. Raises ValueError for what transformers refuses.
    """
    kind = values["general.architecture"]
    ends = {
        name: values.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos_token_id", "bos"), ("eos_token_id", "eos"))
    }
    common = {"vocab_size": vocabulary, "tie_word_embeddings": tied, "pad_token_id": None, **ends}
    return _CONFIGS[kind](values, common)


def _describe_gpt2(config: Any) -> dict[str, int | float]:
    return {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "block_count": config.n_layer,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": config.layer_norm_epsilon,
    }


def _describe_llama(config: Any) -> dict[str, int | float]:
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
    }


def _gpt2(values: Mapping[str, Any], common: dict[str, Any]) -> GPT2Config:
    get = {key.removeprefix("gpt2."): value for key, value in values.items()}
    return GPT2Config(
        n_positions=get["context_length"],
        n_embd=get["embedding_length"],
        n_inner=get["feed_forward_length"],
        n_layer=get["block_count"],
        n_head=get["attention.head_count"],
        layer_norm_epsilon=get["attention.layer_norm_epsilon"],
        activation_function="gelu_new",
        architectures=["GPT2LMHeadModel"],
        **common,
    )


def _llama(values: Mapping[str, Any], common: dict[str, Any]) -> LlamaConfig:
    get = {key.removeprefix("llama."): value for key, value in values.items()}
    heads, width = get["attention.head_count"], get["embedding_length"]
    scaled = [key for key in get if key.startswith("rope.scaling.") and get[key] != "none"]
    if scaled:
        raise ValueError(f"{scaled[0]} is set, and scaled rotary positions are not read")
    return LlamaConfig(
        max_position_embeddings=get["context_length"],
        hidden_size=width,
        intermediate_size=get["feed_forward_length"],
        num_hidden_layers=get["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=get.get("attention.head_count_kv", heads),
        head_dim=get.get("attention.key_length", width // heads),
        rms_norm_eps=get["attention.layer_norm_rms_epsilon"],
        rope_parameters={
            "rope_theta": get.get("rope.freq_base", 10000.0),
            "rope_type": "default",
        },
        architectures=["LlamaForCausalLM"],
        **common,
    )


def _same(tensor: Tensor) -> Tensor:
    return tensor


_DESCRIBED: Final[dict[str, Callable[[Any], dict[str, int | float]]]] = {
    "gpt2": _describe_gpt2,
    "llama": _describe_llama,
}
_CONFIGS: Final[dict[str, Callable[[Mapping[str, Any], dict[str, Any]], Any]]] = {
    "gpt2": _gpt2,
    "llama": _llama,
}
ARCHITECTURES: Final = tuple(_CONFIGS)
"""Model types that llama.cpp and we both know."""
