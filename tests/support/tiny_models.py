"""Tiny models with random weights, one for each geometry that matters to quantization."""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from quantale.models.build import build_model
from quantale.models.nanogpt_config import NanoGPTConfig

VOCABULARY, CONTEXT, LABELS = 96, 64, 4

SMALL = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
"""An MLP of 44 columns: no multiple of any usual group."""
FAMILIES: dict[str, dict[str, Any]] = {
    "GPT2": {},
    "Llama": {"tie_word_embeddings": True},
    "Phi": {},
    "Phi3": {},
    "Gemma2": {},
    "Gemma3Text": {},
    "Qwen2": {},
    "Qwen3": {},
    "Mistral": {},
    "OPT": {"ffn_dim": 44, "word_embed_proj_dim": 24},
    "GPTNeoX": {},
}
"""Families of transformers, and what their configuration wants besides `SMALL`."""
CLASSIFIERS = ("GPT2", "Llama")


def tiny_family(family: str, **more: Any) -> PreTrainedModel:
    """A language model of one of `FAMILIES`, whose norms and biases are random too."""
    return shaken(_seeded(AutoModelForCausalLM.from_config, _config(family, **more)))


def tiny_classifier(family: str, **more: Any) -> PreTrainedModel:
    """A sequence classifier of one of `CLASSIFIERS`."""
    config = _config(family, num_labels=LABELS, **more)
    return shaken(_seeded(AutoModelForSequenceClassification.from_config, config))


def _config(family: str, **more: Any) -> Any:
    return getattr(transformers, f"{family}Config")(**SMALL | FAMILIES[family] | more)


def tiny_gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _seeded(GPT2LMHeadModel, config)


def tiny_llama(tied: bool = False) -> PreTrainedModel:
    """An MLP of 44 columns: no multiple of any usual group."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return _seeded(LlamaForCausalLM, config)


def tiny_nanogpt() -> PreTrainedModel:
    config = NanoGPTConfig(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: PreTrainedModel = build_model(config, seed=5)
    return spread(model.eval())


def _seeded(make: Callable[[Any], PreTrainedModel], config: object) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return spread(make(config).eval())


def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Make weights large enough that the logits are not all alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    return model


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    """Move norm weights and biases, which start as zeros and ones."""
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


def windows(samples: int = 6, length: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (samples, length), generator=generator)
