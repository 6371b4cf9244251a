"""The transformer blocks of every family that we name are found without a list of families."""

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32}
FAMILIES = [
    ("GPT2Config", "transformer.h", {}),
    ("LlamaConfig", "model.layers", {}),
    ("OPTConfig", "model.decoder.layers", OPT),
    ("GPTNeoXConfig", "gpt_neox.layers", {}),
    ("PhiConfig", "model.layers", {}),
    ("Gemma2Config", "model.layers", {}),
    ("Gemma3TextConfig", "model.layers", {}),
    ("Qwen2Config", "model.layers", {}),
    ("Qwen3Config", "model.layers", {}),
    ("MistralConfig", "model.layers", {}),
]


@pytest.mark.parametrize(("config", "expected", "more"), FAMILIES)
def test_blocks_are_found_in(config: str, expected: str, more: dict[str, int]) -> None:
    settings = getattr(transformers, config)(**SMALL, **more)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings)
    name, blocks = find_blocks(model)
    assert name == expected
    assert len(blocks) == 3
    assert blocks is model.get_submodule(name)


def test_blocks_are_found_in_nanogpt() -> None:
    with torch.device("meta"):
        model = NanoGPTForCausalLM(NanoGPTConfig(n_layer=4))
    name, blocks = find_blocks(model)
    assert (name, len(blocks)) == ("transformer.h", 4)


def test_packed_blocks_whose_numbers_are_buffers_are_found() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", torch.zeros(50, dtype=torch.uint8))

    model = nn.ModuleDict(
        {
            "norms": nn.ModuleList(nn.LayerNorm(4) for _ in range(5)),
            "layers": nn.ModuleList(Packed() for _ in range(2)),
            "mixed": nn.ModuleList([nn.Linear(90, 90), nn.LayerNorm(90)]),
        }
    )
    assert find_blocks(model)[0] == "layers"


def test_a_model_without_blocks_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match="Linear has no list of equal blocks"):
        find_blocks(nn.Linear(2, 2))
