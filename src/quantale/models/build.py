"""Build a new model from a recipe's numbers and a seed."""

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig


def build_model(config: NanoGPTConfig, *, seed: int) -> NanoGPTForCausalLM:
    """Return an fp32 model whose weights depend on the configuration and the seed alone.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NanoGPTForCausalLM(config)


def build_gpt2(config: GPT2Config, *, seed: int) -> Any:
    """Return an fp32 GPT-2 with a language head, as `build_model` does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)
