"""Lent dropout: the same expectation, the same function without it, and nothing left behind."""

from typing import Any

import torch
from tiny_models import tiny_classifier, tiny_gpt2, windows
from torch import nn

from quantale.models.attention import Dropout
from quantale.tuning.quick_dropout import quick_dropout


def with_rate(model: Any, rate: float) -> Any:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
    return model.train()


def attention_outputs(model: Any, draws: int, mask: torch.Tensor | None) -> torch.Tensor:
    """What the first attention gives, draw by draw; nothing in front of it is random."""
    seen = []
    attention = model.transformer.h[0].attn
    model.transformer.drop.p = attention.resid_dropout.p = 0.0
    hook = attention.register_forward_hook(lambda m, i, o: seen.append(o[0].detach()))
    with torch.no_grad():
        for _ in range(draws):
            model(input_ids=windows(2, 12), attention_mask=mask)
    hook.remove()
    return torch.stack(seen)


def test_the_mean_over_draws_is_what_torch_has_without_dropout() -> None:
    torch.manual_seed(0)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 9:] = 0
    wanted = attention_outputs(with_rate(tiny_gpt2(), 0.0), 1, mask)[0]
    model = with_rate(tiny_gpt2(), 0.2)
    with quick_dropout(model, "cpu"):
        found = attention_outputs(model, 400, mask)
    assert (found[0] - found[1]).abs().max() > 0
    errors = found.std(0) / 400**0.5 + 1e-6
    away = ((found.mean(0) - wanted).abs() / errors)[mask.bool()]
    assert away.max() < 5
    assert 0.5 < away.mean() < 1.1


def test_a_model_without_dropout_is_left_alone() -> None:
    model = with_rate(tiny_gpt2(), 0.0)
    with quick_dropout(model, "cpu"):
        assert model.config._attn_implementation == "sdpa"
        assert not any(isinstance(module, Dropout) for module in model.modules())


def test_only_a_cpu_needs_it_and_nothing_is_left_behind() -> None:
    model = with_rate(tiny_classifier("GPT2"), 0.1)
    with quick_dropout(model, "cuda"):
        assert model.config._attn_implementation == "sdpa"
    with quick_dropout(model, "cpu"):
        assert model.config._attn_implementation != "sdpa"
        assert any(isinstance(module, Dropout) for module in model.modules())
        assert model(input_ids=windows(2, 12)).logits.isfinite().all()
    assert model.config._attn_implementation == "sdpa"
    assert not any(isinstance(module, Dropout) for module in model.modules())
    model.eval()
    first, second = (model(input_ids=windows(2, 12)).logits for _ in range(2))
    assert torch.equal(first, second)
