"""nanoGPT's logits against a plain torch implementation and against transformers' GPT-2."""

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from quantale.models.build import build_model
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig

SHAPE = {"vocab_size": 53, "n_positions": 24, "n_embd": 24, "n_layer": 3, "n_head": 3}


@pytest.fixture(params=[False, True], ids=["without biases", "with biases"])
def model(request: pytest.FixtureRequest) -> NanoGPTForCausalLM:
    """Weights are drawn wide, so that a wrong norm, scale or activation shows."""
    model = build_model(NanoGPTConfig(**SHAPE, bias=request.param), seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return model


def plain_logits(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """The equations written out, one head at a time, with nothing from torch.nn but GELU's erf."""
    width, heads, layers = 24, 3, 3
    length = ids.shape[1]
    zero = torch.zeros((), dtype=torch.float64)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights.get(f"{name}.bias", zero)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", zero)

    x = weights["transformer.wte.weight"][ids] + weights["transformer.wpe.weight"][:length]
    for layer in range(layers):
        name = f"transformer.h.{layer}"
        qkv = linear(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")
        outputs = []
        for head in range(heads):
            size = width // heads
            q, k, v = (qkv[..., p * width + head * size :][..., :size] for p in range(3))
            scores = q @ k.transpose(1, 2) / math.sqrt(size)
            for row in range(length):
                scores[:, row, row + 1 :] = -math.inf
            outputs.append(scores.exp() / scores.exp().sum(-1, keepdim=True) @ v)
        x = x + linear(torch.cat(outputs, -1), f"{name}.attn.c_proj")
        inner = linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = x + linear(inner, f"{name}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ weights["transformer.wte.weight"].T


def test_logits_equal_the_equations_written_out(model: NanoGPTForCausalLM) -> None:
    ids = torch.randint(0, 53, (2, 24), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain_logits(model.state_dict(), ids))


def test_logits_and_gradients_equal_gpt2_with_the_same_weights(model: NanoGPTForCausalLM) -> None:
    reference = gpt2_with(model)
    ids = torch.randint(0, 53, (2, 24), generator=torch.Generator().manual_seed(2))
    ours, theirs = model(ids, labels=ids), reference(ids, labels=ids)
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.loss, theirs.loss)
    ours.loss.backward()
    theirs.loss.backward()
    for name in ("transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight"):
        ours_gradient = model.get_parameter(name).grad
        torch.testing.assert_close(ours_gradient, reference.get_parameter(name).grad)


def gpt2_with(model: NanoGPTForCausalLM) -> nn.Module:
    """A GPT-2 with these weights, transposed for Conv1D, and zeros where we have no bias."""
    config = GPT2Config(**SHAPE, activation_function="gelu", bos_token_id=0, eos_token_id=0)
    reference = GPT2LMHeadModel(config).double().eval()
    weights = model.state_dict()
    state = {}
    for name, tensor in reference.state_dict().items():
        ours = weights.get(name, torch.zeros_like(tensor))
        state[name] = ours.T if ".c_" in name and name.endswith("weight") else ours
    reference.load_state_dict(state)
    return reference
