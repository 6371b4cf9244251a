"""The written-out attention and dropout against torch's, which define what is right."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantale.models.attention import Dropout, dropout, written_out_attention
from quantale.models.build import build_model
from quantale.models.nanogpt_config import NanoGPTConfig

SDPA = nn.functional.scaled_dot_product_attention


def random_heads(tokens: int, keys: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [
        torch.randn((2, 3, length, 8), generator=generator, requires_grad=True)
        for length in (tokens, keys, keys)
    ]


@pytest.mark.parametrize("mask", ["none", "bool", "added"])
def test_attention_and_its_gradients_equal_torchs(mask: str) -> None:
    heads = query, key, value = random_heads(5, 5)
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    seen[3, 1] = False
    added = torch.zeros(5, 5).masked_fill(~seen, -1e9)
    given: torch.Tensor | None = {"none": None, "bool": seen, "added": added}[mask]
    options: dict[str, Any] = {"is_causal": True} if given is None else {"attn_mask": given}
    expected = SDPA(query, key, value, **options).transpose(1, 2)
    output, weights = written_out_attention(nn.Identity(), query, key, value, given, 8**-0.5)
    torch.testing.assert_close(output, expected)
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    wanted = torch.autograd.grad(expected.square().sum(), heads)
    for ours, theirs in zip(torch.autograd.grad(output.square().sum(), heads), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_one_new_token_sees_every_key_and_several_see_none_of_the_future() -> None:
    for tokens in (1, 3):
        query, key, value = random_heads(tokens, 7)
        output, _ = written_out_attention(nn.Identity(), query, key, value, None, 8**-0.5)
        seen = torch.ones(tokens, 7, dtype=torch.bool).tril(7 - tokens)
        expected = SDPA(query, key, value, attn_mask=seen).transpose(1, 2)
        torch.testing.assert_close(output, expected)


@given(
    probability=st.floats(0.01, 0.9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    size=st.integers(20_000, 20_003),
)
@settings(max_examples=20, deadline=None)
def test_dropout_drops_the_share_and_scales_the_rest(
    probability: float, dtype: torch.dtype, size: int
) -> None:
    torch.manual_seed(0)
    values = torch.ones(size, dtype=dtype, requires_grad=True)
    result = dropout(values, probability)
    dropped = (result == 0).float().mean().item()
    deviation = (probability * (1 - probability) / size) ** 0.5
    assert abs(dropped - probability) < 5 * deviation + 2**-16
    kept = result[result != 0].float()
    scaled = torch.full_like(kept, 1 / (1 - probability))
    torch.testing.assert_close(kept, scaled, rtol=1e-2, atol=0)
    (gradient,) = torch.autograd.grad(result.float().sum(), values)
    assert torch.equal(gradient, result.detach())


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_000), 0.5) > 0).float()
    for distance in range(1, 9):
        both = (kept[:-distance] * kept[distance:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.01)


def test_dropout_does_nothing_outside_training_and_follows_the_seed_inside() -> None:
    layer, values = Dropout(0.5), torch.ones(64)
    assert torch.equal(layer.eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    layer.train()
    torch.manual_seed(1)
    first, second = layer(values), layer(values)
    torch.manual_seed(1)
    assert torch.equal(layer(values), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("padded", [False, True])
def test_training_in_bf16_computes_what_evaluation_does_up_to_rounding(padded: bool) -> None:
    config = NanoGPTConfig(vocab_size=19, n_positions=12, n_embd=16, n_head=4, dropout=0.0)
    model = build_model(config, seed=0)
    ids = torch.randint(19, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0 if padded else 1
    expected = model.eval()(ids, attention_mask=mask).logits[:, 4:]
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids, attention_mask=mask).logits[:, 4:]
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.01)
    gradients = torch.autograd.grad(logits.float().square().sum(), list(model.parameters()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_strips_of_a_training_equal_the_whole_and_its_gradients() -> None:
    """150 queries: two whole strips and a part of one."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 150, 8, generator=generator) for _ in range(3)]
    found = {}
    for training in (True, False):
        query, key, value = (part.clone().requires_grad_(True) for part in parts)
        module = nn.Identity().train(training)
        output, weights = written_out_attention(module, query, key, value, None, 8**-0.5)
        assert (weights is None) == training
        loss = (output * torch.arange(8)).sum()
        found[training] = [output, *torch.autograd.grad(loss, (query, key, value))]
    for ours, wanted in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
