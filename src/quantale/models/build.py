"""Build a new nanoGPT from a recipe's numbers and a seed."""

import torch

from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig


def build_model(config: NanoGPTConfig, *, seed: int) -> NanoGPTForCausalLM:
    """Return an fp32 model whose weights depend on the configuration and the seed alone.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NanoGPTForCausalLM(config)
